/* Reading the tables of the TOKENIZER section. */
#include "tlm_tok.h"

#include <string.h>

bool tlm_tok_open(const tlm_model *model, tlm_tok *tok)
{
    if (model == NULL || model->section[TLM_SECTION_TOKENIZER] == NULL) {
        return false;
    }
    tok->base = model->section[TLM_SECTION_TOKENIZER];
    tok->rec = (const tlm_tok_rec *)(const void *)tok->base;
    return true;
}

static uint32_t text_end(const tlm_tok *tok, uint32_t symbol)
{
    const uint8_t *ends = tok->base + tok->rec->ends_at;
    return tok->rec->text_bytes <= 0xffffu ? tlm_tok_u16(ends + 2 * (size_t)symbol) : tlm_tok_u32(ends + 4 * (size_t)symbol);
}

const uint8_t *tlm_tok_text(const tlm_tok *tok, uint32_t symbol, size_t *len)
{
    uint32_t start = symbol == 0 ? 0 : text_end(tok, symbol - 1);
    *len = text_end(tok, symbol) - start;
    return tok->base + tok->rec->text_at + start;
}

uint32_t tlm_tok_find(const tlm_tok *tok, const uint8_t *s, size_t n)
{
    uint32_t low = 0, high = tok->rec->n_sorted;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2, symbol = tlm_tok_index(tok, tok->rec->sorted_at, middle);
        size_t len;
        const uint8_t *text = tlm_tok_text(tok, symbol, &len);
        int order = memcmp(text, s, len < n ? len : n);
        if (order == 0 && len == n) {
            return symbol;
        }
        if (order < 0 || (order == 0 && len < n)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return TLM_NO_TOKEN;
}

/* First place in the range whose text has at `depth` a byte of at least `byte` (0..256; a text that ends
 * at `depth` counts as smaller than any byte). */
static uint32_t lower_bound(const tlm_tok *tok, tlm_tok_range range, size_t depth, uint32_t byte)
{
    while (range.low < range.high) {
        uint32_t middle = range.low + (range.high - range.low) / 2;
        size_t len;
        const uint8_t *text = tlm_tok_text(tok, tlm_tok_index(tok, tok->rec->sorted_at, middle), &len);
        if (len <= depth || text[depth] < byte) {
            range.low = middle + 1;
        } else {
            range.high = middle;
        }
    }
    return range.low;
}

tlm_tok_range tlm_tok_narrow(const tlm_tok *tok, tlm_tok_range range, size_t depth, uint8_t byte)
{
    tlm_tok_range out;
    out.low = lower_bound(tok, range, depth, byte);
    range.low = out.low;
    out.high = lower_bound(tok, range, depth, byte + 1u);
    return out;
}

uint32_t tlm_tok_exact(const tlm_tok *tok, tlm_tok_range range, size_t depth)
{
    if (range.low >= range.high) {
        return TLM_NO_TOKEN;
    }
    uint32_t symbol = tlm_tok_index(tok, tok->rec->sorted_at, range.low);
    size_t len;
    (void)tlm_tok_text(tok, symbol, &len);
    return len == depth ? symbol : TLM_NO_TOKEN; /* the shortest text of a range comes first */
}

const tlm_tok_special_rec *tlm_tok_special(const tlm_tok *tok, uint32_t i)
{
    return (const tlm_tok_special_rec *)(const void *)(tok->base + tok->rec->special_at) + i;
}

const tlm_tok_special_rec *tlm_tok_special_of(const tlm_tok *tok, uint32_t id)
{
    uint32_t low = 0, high = tok->rec->n_special;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const tlm_tok_special_rec *special = tlm_tok_special(tok, middle);
        if (special->id == id) {
            return special;
        }
        if (special->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

const tlm_tok_special_rec *tlm_tok_inside(const tlm_tok *tok, const uint8_t *s, size_t n)
{
    return tlm_tok_has(tok, TLM_TOK_FLAG_INSIDE) ? tlm_tok_match(tok, s, n, TLM_TOK_SPECIAL_FLAG_INSIDE) : NULL;
}

const tlm_tok_special_rec *tlm_tok_match(const tlm_tok *tok, const uint8_t *s, size_t n, uint32_t flags)
{
    const tlm_tok_special_rec *best = NULL;
    for (uint32_t i = 0; i < tok->rec->n_special; i++) {
        const tlm_tok_special_rec *special = tlm_tok_special(tok, i);
        if ((special->flags & flags) != 0 && special->text_bytes <= n &&
            (best == NULL || special->text_bytes > best->text_bytes) &&
            memcmp(tok->base + special->text_at, s, special->text_bytes) == 0) {
            best = special;
        }
    }
    return best;
}

uint32_t tlm_utf8_next(const uint8_t *s, size_t n, size_t *len)
{
    uint8_t lead = s[0];
    *len = 1;
    if (lead < 0x80u) {
        return lead;
    }
    size_t more = lead >= 0xf0u ? 3 : lead >= 0xe0u ? 2 : 1;
    if (lead < 0xc2u || lead > 0xf4u || n <= more) {
        return TLM_BAD_UTF8;
    }
    uint32_t code = lead & (0x3fu >> more);
    for (size_t i = 1; i <= more; i++) {
        if ((s[i] & 0xc0u) != 0x80u) {
            return TLM_BAD_UTF8;
        }
        code = code << 6 | (s[i] & 0x3fu);
    }
    static const uint32_t least[4] = {0, 0x80u, 0x800u, 0x10000u};
    if (code < least[more] || code > 0x10ffffu || (code >= 0xd800u && code < 0xe000u)) {
        return TLM_BAD_UTF8;
    }
    *len = more + 1;
    return code;
}
