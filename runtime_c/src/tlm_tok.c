/* Encoding and decoding: the steps common to all tokenizers. */
#include "tlm_tok.h"

#include <string.h>

/* ---- ids out ------------------------------------------------------------------------------------- */

static void push(tlm_tok_out *out, uint32_t id)
{
    if (out->n < out->cap) {
        out->ids[out->n] = id;
    }
    out->n++;
}

void tlm_tok_emit(tlm_tok_out *out, uint32_t id)
{
    push(out, id);
    out->in_unk = false;
}

/* Emits the bytes of a character; false when the alphabet lacks one. */
static bool emit_bytes(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n)
{
    if (n == 1 && *s == ' ' && tlm_tok_has(tok, TLM_TOK_FLAG_ESCAPE)) {
        s = (const uint8_t *)"\xe2\x96\x81";
        n = 3;
    }
    for (size_t i = 0; i < n; i++) {
        if (tlm_tok_byte(tok, s[i]) == TLM_NO_TOKEN) {
            return false;
        }
    }
    for (size_t i = 0; i < n; i++) {
        tlm_tok_emit(out, tlm_tok_byte(tok, s[i]));
    }
    return true;
}

void tlm_tok_emit_unknown(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n)
{
    if (tlm_tok_has(tok, TLM_TOK_FLAG_BYTE_FALLBACK) && emit_bytes(tok, out, s, n)) {
        return;
    }
    if (tok->rec->unk != TLM_NO_TOKEN && !out->in_unk) {
        push(out, tok->rec->unk);
        out->in_unk = tlm_tok_has(tok, TLM_TOK_FLAG_FUSE_UNK);
    }
}

/* ---- encode -------------------------------------------------------------------------------------- */

static tlm_err encode_word(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n, tlm_tok_work work)
{
    if (!tlm_tok_has(tok, TLM_TOK_FLAG_FUSE_WORDS)) {
        out->in_unk = false;
    }
    switch (tok->rec->kind) {
    case TLM_TOK_KIND_BPE:
        return tlm_tok_bpe(tok, out, s, n, work);
    case TLM_TOK_KIND_UNIGRAM:
        return tlm_tok_unigram(tok, out, s, n, work);
    default:
        return tlm_tok_word(tok, out, s, n);
    }
}

static tlm_err encode_segment(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n, bool start,
                              tlm_tok_work work)
{
    if (!tlm_tok_is_plain(tok, start)) {
        tlm_err err = tlm_tok_normalise(tok, s, n, start, work.base, work.bytes, &n);
        if (err != TLM_OK) {
            return err;
        }
        s = work.base;
        size_t used = (n + 7u) & ~(size_t)7u;
        used = used < work.bytes ? used : work.bytes;
        work.base += used;
        work.bytes -= used;
    }
    tlm_tok_words words;
    const uint8_t *word;
    size_t len;
    out->score = 0.0;
    tlm_tok_words_init(&words, tok, s, n);
    while (tlm_tok_next_word(&words, &word, &len)) {
        tlm_err err = encode_word(tok, out, word, len, work);
        if (err != TLM_OK) {
            return err;
        }
    }
    return TLM_OK;
}

static bool is_space_at(const uint8_t *s, size_t n, size_t *len)
{
    uint32_t code = tlm_utf8_next(s, n, len);
    return code != TLM_BAD_UTF8 && (tlm_tok_class(code) & TLM_UCD_SPACE) != 0;
}

/* A place in the text where a special piece stands, its white space included. */
typedef struct hit {
    size_t start, end;
    uint32_t id;
} hit;

static bool next_hit(const tlm_tok *tok, const uint8_t *s, size_t from, size_t n, uint32_t flags, hit *h)
{
    for (size_t at = from; at < n; at++) {
        const tlm_tok_special_rec *special = tlm_tok_match(tok, s + at, n - at, flags);
        if (special == NULL) {
            continue;
        }
        *h = (hit){at, at + special->text_bytes, special->id};
        size_t len;
        while ((special->flags & TLM_TOK_SPECIAL_FLAG_RSTRIP) != 0 && h->end < n &&
               is_space_at(s + h->end, n - h->end, &len)) {
            h->end += len;
        }
        while ((special->flags & TLM_TOK_SPECIAL_FLAG_LSTRIP) != 0 && h->start > from) {
            size_t back = 1;
            while (back < 4 && h->start - back > from && (s[h->start - back] & 0xc0u) == 0x80u) {
                back++;
            }
            if (!is_space_at(s + h->start - back, back, &len) || len != back) {
                break;
            }
            h->start -= back;
        }
        return true;
    }
    return false;
}

static tlm_err encode_text(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n, uint32_t flags,
                           tlm_tok_work work)
{
    const bool once = tlm_tok_has(tok, TLM_TOK_FLAG_PREFIX_ONCE);
    const uint32_t asked = (flags & TLM_ENCODE_SPECIAL) != 0 ? TLM_TOK_SPECIAL_FLAG_MATCH : 0u;
    const uint32_t matched = TLM_TOK_SPECIAL_FLAG_ALWAYS | asked;
    bool start = (flags & TLM_ENCODE_CONTINUE) == 0;
    for (size_t at = 0; at < n;) {
        hit h = {n, n, TLM_NO_TOKEN};
        bool found = tok->rec->n_special > 0 && next_hit(tok, s, at, n, matched, &h);
        tlm_err err = h.start > at ? encode_segment(tok, out, s + at, h.start - at, start, work) : TLM_OK;
        if (err != TLM_OK) {
            return err;
        }
        if (found) {
            tlm_tok_emit(out, h.id);
        }
        start = !once;
        at = h.end;
    }
    return TLM_OK;
}

tlm_err tlm_encode(const tlm_model *model, const char *text, size_t len, uint32_t flags, void *work, uint32_t *ids,
                   size_t cap, size_t *count)
{
    tlm_tok tok;
    if (count == NULL || work == NULL || (text == NULL && len > 0) || (ids == NULL && cap > 0) ||
        len > UINT32_MAX / 32u || ((uintptr_t)work & 7u) != 0) {
        return TLM_ERR_ARG;
    }
    *count = 0;
    if (!tlm_tok_open(model, &tok)) {
        return TLM_ERR_TOKENIZER;
    }
    tlm_tok_out out = {ids, cap, 0, false, 0.0};
    if ((flags & TLM_ENCODE_BOS) != 0) {
        if (tok.rec->bos == TLM_NO_TOKEN) {
            return TLM_ERR_TOKENIZER;
        }
        tlm_tok_emit(&out, tok.rec->bos);
    }
    tlm_tok_work space = {work, TLM_ENCODE_WORK(len)};
    tlm_err err = encode_text(&tok, &out, (const uint8_t *)text, len, flags, space);
    if (err != TLM_OK) {
        return err;
    }
    *count = out.n;
    return out.n > cap ? TLM_ERR_OVERFLOW : TLM_OK;
}

/* ---- pieces -------------------------------------------------------------------------------------- */

static tlm_err copy_out(const uint8_t *s, size_t n, char *out, size_t cap, size_t *len)
{
    *len = n;
    if (n > cap) {
        return TLM_ERR_OVERFLOW;
    }
    memcpy(out, s, n);
    return TLM_OK;
}

/* Text of a piece that follows from merges. */
static tlm_err spell_out(const tlm_tok *tok, uint32_t id, uint8_t *out, size_t cap, size_t *len)
{
    tlm_tok_spelling spelling = {{id}, 1, TLM_OK};
    uint8_t byte;
    for (*len = 0; tlm_tok_spell(tok, &spelling, &byte); (*len)++) {
        if (*len == cap) {
            return TLM_ERR_OVERFLOW;
        }
        out[*len] = byte;
    }
    return spelling.err;
}

/* Text of an ordinary piece; empty for an id that only pads the embedding. */
static tlm_err plain_piece(const tlm_tok *tok, uint32_t id, char *out, size_t cap, size_t *len)
{
    *len = 0;
    if (id >= tok->rec->n_pieces) {
        return TLM_OK;
    }
    if (tlm_tok_has(tok, TLM_TOK_FLAG_DERIVED)) {
        return spell_out(tok, id, (uint8_t *)out, cap, len);
    }
    size_t n;
    const uint8_t *text = tlm_tok_text(tok, id, &n);
    return copy_out(text, n, out, cap, len);
}

tlm_err tlm_piece(const tlm_model *model, uint32_t id, char *out, size_t cap, size_t *len)
{
    tlm_tok tok;
    if (len == NULL || (out == NULL && cap > 0)) {
        return TLM_ERR_ARG;
    }
    *len = 0;
    if (!tlm_tok_open(model, &tok)) {
        return TLM_ERR_TOKENIZER;
    }
    if (id >= model->spec->vocab) {
        return TLM_ERR_TOKEN;
    }
    const tlm_tok_special_rec *special = tlm_tok_special_of(&tok, id);
    if (special != NULL) {
        return copy_out(tok.base + special->text_at, special->text_bytes, out, cap, len);
    }
    return plain_piece(&tok, id, out, cap, len);
}

uint32_t tlm_bos(const tlm_model *model)
{
    tlm_tok tok;
    return tlm_tok_open(model, &tok) ? tok.rec->bos : TLM_NO_TOKEN;
}

uint32_t tlm_eos(const tlm_model *model)
{
    tlm_tok tok;
    return tlm_tok_open(model, &tok) ? tok.rec->eos : TLM_NO_TOKEN;
}

uint32_t tlm_token_id(const tlm_model *model, const char *piece, size_t len)
{
    tlm_tok tok;
    if (!tlm_tok_open(model, &tok) || piece == NULL || len == 0 || len > TLM_MAX_PIECE) {
        return TLM_NO_TOKEN;
    }
    for (uint32_t i = 0; i < tok.rec->n_special; i++) {
        const tlm_tok_special_rec *special = tlm_tok_special(&tok, i);
        if (special->text_bytes == len && memcmp(tok.base + special->text_at, piece, len) == 0) {
            return special->id;
        }
    }
    if (!tlm_tok_has(&tok, TLM_TOK_FLAG_DERIVED)) {
        uint32_t symbol = tlm_tok_find(&tok, (const uint8_t *)piece, len);
        symbol = symbol == TLM_NO_TOKEN && len == 1 ? tlm_tok_byte(&tok, (uint8_t)*piece) : symbol;
        return symbol < tok.rec->n_pieces ? symbol : TLM_NO_TOKEN;
    }
    for (uint32_t id = 0; id < tok.rec->n_pieces; id++) {
        uint8_t text[TLM_MAX_PIECE];
        size_t n;
        if (spell_out(&tok, id, text, len, &n) == TLM_OK && n == len && memcmp(text, piece, len) == 0) {
            return id;
        }
    }
    return TLM_NO_TOKEN;
}

/* ---- streaming decode ---------------------------------------------------------------------------- */

typedef struct text_out {
    char *s;
    size_t cap, n; /* n counts past cap */
} text_out;

static void write_bytes(text_out *to, const uint8_t *s, size_t n)
{
    for (size_t i = 0; i < n; i++, to->n++) {
        if (to->n < to->cap) {
            to->s[to->n] = (char)s[i];
        }
    }
}

/* Writes the first n pending bytes, which never become a character, and forgets them. */
static void write_broken(tlm_decoder *d, text_out *to, uint8_t n)
{
    if (!d->replace) {
        write_bytes(to, d->pending, n);
    }
    for (uint8_t i = 0; d->replace && i < (d->per_byte ? n : 1); i++) {
        write_bytes(to, (const uint8_t *)"\xef\xbf\xbd", 3);
    }
    d->n_pending = (uint8_t)(d->n_pending - n);
    memmove(d->pending, d->pending + n, d->n_pending);
}

/* Whether the bytes can be the start of a longer character. n is 1..3. */
static bool is_cut(const uint8_t *s, uint8_t n)
{
    uint8_t whole[4] = {s[0], 0x80u, 0x80u, 0x80u};
    size_t want = s[0] >= 0xf0u ? 4 : s[0] >= 0xe0u ? 3 : 2, len;
    if (s[0] < 0xc2u || s[0] > 0xf4u || n >= want) {
        return false;
    }
    if (n == 1 && (s[0] == 0xe0u || s[0] == 0xf0u)) {
        whole[1] = 0xbfu; /* 0x80 would be overlong */
    }
    memcpy(whole + 1, s + 1, n - 1u);
    return tlm_utf8_next(whole, want, &len) != TLM_BAD_UTF8;
}

static void feed(tlm_decoder *d, text_out *to, uint8_t byte)
{
    d->pending[d->n_pending++] = byte;
    while (d->n_pending > 0) {
        size_t len;
        if (tlm_utf8_next(d->pending, d->n_pending, &len) != TLM_BAD_UTF8) {
            write_bytes(to, d->pending, d->n_pending);
            d->n_pending = 0;
        } else if (is_cut(d->pending, d->n_pending)) {
            return;
        } else {
            write_broken(d, to, (uint8_t)(d->n_pending > 1 ? d->n_pending - 1 : 1));
        }
    }
}

void tlm_decoder_init(tlm_decoder *decoder, bool replace)
{
    memset(decoder, 0, sizeof *decoder);
    decoder->replace = replace;
}

tlm_err tlm_decode(tlm_decoder *decoder, const tlm_model *model, uint32_t id, char *out, size_t cap, size_t *len)
{
    tlm_tok tok;
    char piece[TLM_MAX_PIECE];
    size_t n;
    if (decoder == NULL || len == NULL || (out == NULL && cap > 0)) {
        return TLM_ERR_ARG;
    }
    *len = 0;
    tlm_err err = tlm_piece(model, id, piece, sizeof piece, &n);
    if (err != TLM_OK) {
        return err;
    }
    (void)tlm_tok_open(model, &tok);
    const tlm_tok_special_rec *special = tlm_tok_special_of(&tok, id);
    if (tlm_tok_is_hidden(special)) {
        return TLM_OK;
    }
    tlm_decoder next = *decoder;
    text_out to = {out, cap, 0};
    const bool drop = tlm_tok_strips(&tok, id, next.started) && n > 0 && piece[0] == ' ';
    next.per_byte = tlm_tok_has(&tok, TLM_TOK_FLAG_FFFD_PER_BYTE);
    if (tlm_tok_joins(&tok, next.started)) {
        feed(&next, &to, ' ');
    }
    for (size_t i = drop ? 1 : 0; i < n; i++) {
        feed(&next, &to, (uint8_t)piece[i]);
    }
    next.started = next.started || tlm_tok_starts(&tok, n, drop);
    if (to.n > cap) {
        return TLM_ERR_OVERFLOW; /* nothing happened: the same id may be fed again with more room */
    }
    *decoder = next;
    *len = to.n;
    return TLM_OK;
}

size_t tlm_decode_end(tlm_decoder *decoder, char *out, size_t cap)
{
    text_out to = {out, cap, 0};
    while (decoder->n_pending > 0) {
        write_broken(decoder, &to, decoder->n_pending);
    }
    decoder->started = false;
    return to.n < cap ? to.n : cap;
}
