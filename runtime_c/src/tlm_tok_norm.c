/* The normaliser: what a segment looks like to the vocabulary.
 *
 * Character map, white space and prefix in one pass, in the order of the sentencepiece library. Under
 * ESCAPE the mark U+2581 and the space are one byte, 0x20. */
#include "tlm_tok.h"

#include <string.h>

#include "tlm_tok_map.h"

typedef struct sink {
    uint8_t *out;
    size_t cap, n;
    bool full;
} sink;

static void put(sink *to, const uint8_t *s, size_t n)
{
    if (n > to->cap - to->n) {
        to->full = true;
        return;
    }
    memcpy(to->out + to->n, s, n);
    to->n += n;
}

/* Puts text with U+2581 folded to a space. */
static void put_folded(sink *to, const uint8_t *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        bool mark = n - i >= 3 && s[i] == 0xe2u && s[i + 1] == 0x96u && s[i + 2] == 0x81u;
        put(to, mark ? (const uint8_t *)" " : s + i, 1);
        i += mark ? 3 : 1;
    }
}

/* What the next bytes of the text become. */
typedef struct unit {
    const uint8_t *s;
    size_t n, taken;
    uint8_t mapped[TLM_TOK_MAP_VALUE];
} unit;

static void next_unit(const tlm_tok *tok, const uint8_t *s, size_t n, unit *u)
{
    const tlm_tok_special_rec *inside = tlm_tok_inside(tok, s, n);
    u->s = s;
    if (inside != NULL) {
        u->n = u->taken = inside->text_bytes;
        return;
    }
    u->taken = tlm_tok_map(tok, s, n, u->mapped, &u->n);
    if (u->taken != 0) {
        u->s = u->mapped;
        return;
    }
    uint32_t code = tlm_utf8_next(s, n, &u->taken);
    u->n = u->taken;
    if (code == TLM_BAD_UTF8 && tlm_tok_has(tok, TLM_TOK_FLAG_BAD_IS_FFFD)) {
        u->s = (const uint8_t *)"\xef\xbf\xbd";
        u->n = 3;
    }
}

bool tlm_tok_is_plain(const tlm_tok *tok, bool start)
{
    const uint32_t changing = TLM_TOK_FLAG_ESCAPE | TLM_TOK_FLAG_TRIM | TLM_TOK_FLAG_BAD_IS_FFFD;
    return !tlm_tok_has(tok, changing) && tok->rec->map_bytes == 0 &&
           (!start || tok->rec->prefix == TLM_TOK_PREFIX_NONE);
}

tlm_err tlm_tok_normalise(const tlm_tok *tok, const uint8_t *s, size_t n, bool start, uint8_t *out, size_t cap,
                          size_t *len)
{
    const bool trim = tlm_tok_has(tok, TLM_TOK_FLAG_TRIM), escape = tlm_tok_has(tok, TLM_TOK_FLAG_ESCAPE);
    sink to = {out, cap, 0, false};
    unit u;
    *len = 0;
    while (trim && start && n > 0) {
        next_unit(tok, s, n, &u);
        if (u.n != 1 || u.s[0] != ' ') {
            break;
        }
        s += u.taken;
        n -= u.taken;
    }
    if (n == 0) {
        return TLM_OK;
    }
    const bool prefix = start && tok->rec->prefix != TLM_TOK_PREFIX_NONE;
    if (prefix) {
        put(&to, (const uint8_t *)" ", 1);
    }
    for (bool after_space = trim && start; n > 0; s += u.taken, n -= u.taken) {
        next_unit(tok, s, n, &u);
        const uint8_t *from = u.s;
        size_t left = u.n;
        while (after_space && left > 0 && *from == ' ') {
            from++;
            left--;
        }
        if (left > 0) {
            after_space = trim && from[left - 1] == ' ';
            escape ? put_folded(&to, from, left) : put(&to, from, left);
        }
    }
    while (trim && to.n > 0 && out[to.n - 1] == ' ') {
        to.n--;
    }
    if (prefix && tok->rec->prefix == TLM_TOK_PREFIX_IF_MISSING && (to.n < 2 || out[1] == ' ')) {
        to.n -= to.n > 0 ? 1 : 0;
        memmove(out, out + 1, to.n);
    }
    *len = to.n;
    return to.full ? TLM_ERR_LIMIT : TLM_OK;
}
