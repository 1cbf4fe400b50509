/* Which ids an automaton over bytes allows, without spelling out the whole vocabulary.
 *
 * Where pieces follow from merges, a piece begins with the text of its left part: when a byte of that is refused,
 * everything made of it is refused too. One bit a symbol keeps what was found out in a state; parts are smaller than
 * what they make, so a sampler that asks in rising order meets a part before the pieces that begin with it. */
#include <string.h>

#include "tlm_tok.h"

/* The text of one id on its way through the automaton. */
typedef struct passage {
    const tlm_walk *walk;
    uint16_t state;
    bool strip, dropped, refused; /* a leading space is to be dropped, was; a byte led nowhere */
    uint32_t read, given;         /* bytes of the piece, bytes that reached the automaton */
} passage;

static bool give(passage *p, uint8_t byte)
{
    p->given++;
    p->state = p->walk->step(p->walk->ctx, p->state, byte);
    p->refused = p->state == 0;
    return !p->refused;
}

static bool pass(passage *p, uint8_t byte)
{
    const bool dropped = p->strip && p->read == 0 && byte == ' ';
    p->dropped = p->dropped || dropped;
    p->read++;
    return dropped || give(p, byte);
}

static void pass_text(passage *p, const uint8_t *s, size_t n)
{
    for (size_t i = 0; i < n && pass(p, s[i]); i++) {
    }
}

static void pass_spelling(passage *p, const tlm_tok *tok, uint32_t id)
{
    tlm_tok_spelling spelling = {{id}, 1, TLM_OK};
    uint8_t byte;
    while (tlm_tok_spell(tok, &spelling, &byte) && pass(p, byte)) {
    }
    if (spelling.err != TLM_OK) {
        p->state = 0;
    }
}

static passage pass_id(const tlm_walk *w, const tlm_tok *tok, uint32_t id, const tlm_tok_special_rec *special)
{
    passage p = {w, w->state, tlm_tok_strips(tok, id, w->started), false, false, 0, 0};
    if (tlm_tok_is_hidden(special)) {
        p.state = 0;
    } else if (tlm_tok_joins(tok, w->started) && !give(&p, ' ')) {
        return p;
    } else if (special != NULL) {
        pass_text(&p, tok->base + special->text_at, special->text_bytes);
    } else if (id < tok->rec->n_pieces && tlm_tok_has(tok, TLM_TOK_FLAG_DERIVED)) {
        pass_spelling(&p, tok, id);
    } else if (id < tok->rec->n_pieces) {
        size_t n;
        const uint8_t *text = tlm_tok_text(tok, id, &n);
        pass_text(&p, text, n);
    }
    p.state = p.given > 0 ? p.state : 0;
    return p;
}

size_t tlm_walk_work(const tlm_model *model)
{
    tlm_tok tok;
    const bool derived = tlm_tok_open(model, &tok) && tlm_tok_has(&tok, TLM_TOK_FLAG_DERIVED);
    return derived ? (tok.rec->n_symbols + 7u) / 8u : 0;
}

static void forget(tlm_walk *w)
{
    if (w->refused != NULL) {
        memset(w->refused, 0, tlm_walk_work(w->model));
    }
}

void tlm_walk_init(tlm_walk *w, const tlm_model *model, tlm_step step, const void *ctx, uint16_t state, bool started,
                   void *work, size_t bytes)
{
    const size_t need = tlm_walk_work(model);
    w->model = model;
    w->step = step;
    w->ctx = ctx;
    w->state = state;
    w->started = started;
    w->refused = need > 0 && need <= bytes ? work : NULL;
    forget(w);
}

bool tlm_walk_allows(tlm_walk *w, uint32_t id)
{
    tlm_tok tok;
    if (!tlm_tok_open(w->model, &tok)) {
        return false;
    }
    const tlm_tok_special_rec *special = tlm_tok_special_of(&tok, id);
    /* does its text begin with that of its left part, treated as that would be? */
    const bool made = w->refused != NULL && special == NULL && id < tok.rec->n_pieces && id != tok.rec->unk;
    if (!made || ((uint32_t)w->refused[id / 8u] >> id % 8u & 1u) == 0) {
        const passage p = pass_id(w, &tok, id, special);
        if (!made || !p.refused) {
            return p.state != 0;
        }
    }
    tlm_tok_mark_made_of(&tok, id, w->refused);
    return false;
}

uint16_t tlm_walk_take(tlm_walk *w, uint32_t id)
{
    tlm_tok tok;
    if (!tlm_tok_open(w->model, &tok)) {
        return 0;
    }
    const passage p = pass_id(w, &tok, id, tlm_tok_special_of(&tok, id));
    w->started = w->started || tlm_tok_starts(&tok, p.read, p.dropped);
    w->state = p.state;
    forget(w);
    return p.state;
}
