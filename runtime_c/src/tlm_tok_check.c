/* Validation of a TOKENIZER section whose bytes nobody vouches for. */
#include <string.h>

#include "tlm_tok.h"
#include "tlm_tok_map.h"

/* Whether a table of n entries lies inside the section, behind the first record. */
static bool inside(uint32_t bytes, uint32_t at, uint64_t n, uint32_t size)
{
    return at >= sizeof(tlm_tok_rec) && at <= bytes && n * size <= bytes - at;
}

static bool is_id(const tlm_tok_rec *rec, uint32_t id)
{
    return id == TLM_NO_TOKEN || id < rec->n_pieces;
}

static tlm_err check_record(const tlm_tok_rec *rec, uint32_t vocab)
{
    if (rec->kind >= TLM_TOK_KIND_COUNT || rec->prefix >= TLM_TOK_PREFIX_COUNT || rec->n_splits > TLM_MAX_SPLITS ||
        (rec->index_bytes != 1 && rec->index_bytes != 2 && rec->index_bytes != 4) || rec->reserved != 0) {
        return TLM_ERR_FORMAT;
    }
    if ((rec->flags & ~(uint32_t)TLM_TOK_FLAG_KNOWN) != 0) {
        return TLM_ERR_VERSION;
    }
    for (uint32_t i = 0; i < TLM_MAX_SPLITS; i++) {
        if (rec->splits[i] >= TLM_TOK_SPLIT_COUNT || (i >= rec->n_splits && rec->splits[i] != 0)) {
            return TLM_ERR_FORMAT;
        }
    }
    if (rec->n_pieces == 0 || rec->n_pieces > vocab || rec->n_symbols < rec->n_pieces ||
        rec->n_symbols > 2u * TLM_MAX_VOCAB || !is_id(rec, rec->bos) || !is_id(rec, rec->eos) ||
        !is_id(rec, rec->unk)) {
        return TLM_ERR_FORMAT;
    }
    return TLM_OK;
}

static tlm_err check_special(const tlm_tok *tok, uint32_t bytes)
{
    const tlm_tok_rec *rec = tok->rec;
    if (rec->n_special == 0) {
        return TLM_OK;
    }
    if (rec->special_at % 4 != 0 || !inside(bytes, rec->special_at, rec->n_special, sizeof(tlm_tok_special_rec))) {
        return TLM_ERR_FORMAT;
    }
    for (uint32_t i = 0; i < rec->n_special; i++) {
        const tlm_tok_special_rec *special = tlm_tok_special(tok, i);
        if (special->id >= rec->n_pieces || (i > 0 && special->id <= tlm_tok_special(tok, i - 1)->id) ||
            special->text_bytes == 0 || special->text_bytes > TLM_MAX_SPECIAL_TEXT ||
            (special->flags & ~(uint32_t)TLM_TOK_SPECIAL_FLAG_KNOWN) != 0 ||
            !inside(bytes, special->text_at, special->text_bytes, 1)) {
            return TLM_ERR_FORMAT;
        }
    }
    return TLM_OK;
}

/* Texts end in order, none longer than a piece may be; sorted ones ascend and are the longest known. */
static tlm_err check_text(const tlm_tok *tok, uint32_t bytes)
{
    const tlm_tok_rec *rec = tok->rec;
    if (!inside(bytes, rec->text_at, rec->text_bytes, 1) ||
        !inside(bytes, rec->ends_at, rec->n_symbols, rec->text_bytes <= 0xffffu ? 2 : 4) ||
        !inside(bytes, rec->sorted_at, rec->n_sorted, rec->index_bytes)) {
        return TLM_ERR_FORMAT;
    }
    const uint8_t *before = tok->base + rec->text_at, *text_end = before + rec->text_bytes;
    for (uint32_t i = 0; i < rec->n_symbols; i++) {
        size_t len;
        const uint8_t *text = tlm_tok_text(tok, i, &len);
        if (len > TLM_MAX_PIECE || len > (size_t)(text_end - before)) {
            return TLM_ERR_FORMAT; /* len is huge where ends do not ascend */
        }
        before = text + len;
    }
    const uint8_t *last = NULL;
    size_t last_len = 0;
    for (uint32_t i = 0; i < rec->n_sorted; i++) {
        uint32_t symbol = tlm_tok_index(tok, rec->sorted_at, i);
        if (symbol >= rec->n_symbols) {
            return TLM_ERR_FORMAT;
        }
        size_t len;
        const uint8_t *text = tlm_tok_text(tok, symbol, &len);
        int order = last == NULL ? -1 : memcmp(last, text, last_len < len ? last_len : len);
        if (len == 0 || len > rec->max_piece || order > 0 || (order == 0 && last_len >= len)) {
            return TLM_ERR_FORMAT;
        }
        last = text;
        last_len = len;
    }
    return TLM_OK;
}

static tlm_err check_tables(const tlm_tok *tok, uint32_t bytes)
{
    const tlm_tok_rec *rec = tok->rec;
    const uint32_t size = rec->index_bytes;
    const bool derived = tlm_tok_has(tok, TLM_TOK_FLAG_DERIVED);
    if (rec->alphabet_at != 0 ? !inside(bytes, rec->alphabet_at, 256, size)
                              : tlm_tok_has(tok, TLM_TOK_FLAG_BYTES | TLM_TOK_FLAG_BYTE_FALLBACK)) {
        return TLM_ERR_FORMAT;
    }
    if (derived && (rec->kind != TLM_TOK_KIND_BPE || !tlm_tok_has(tok, TLM_TOK_FLAG_BYTES) || rec->n_sorted != 0 ||
                    tlm_tok_has(tok, TLM_TOK_FLAG_WORD_FIRST) || !inside(bytes, rec->letters_at, 256, 1) ||
                    !inside(bytes, rec->made_at, rec->n_made, size))) {
        return TLM_ERR_FORMAT;
    }
    if (!derived && rec->n_made != 0) {
        return TLM_ERR_FORMAT;
    }
    if (rec->kind == TLM_TOK_KIND_UNIGRAM) {
        uint32_t score = tlm_tok_has(tok, TLM_TOK_FLAG_DOUBLE) ? 8 : 4;
        bool fits = rec->n_symbols == rec->n_pieces && rec->n_pieces <= TLM_MAX_VOCAB && rec->n_merges == 0;
        return fits && inside(bytes, rec->scores_at, (uint64_t)rec->n_pieces + 1, score) ? TLM_OK : TLM_ERR_FORMAT;
    }
    if (rec->kind != TLM_TOK_KIND_BPE || rec->n_merges == 0) {
        return rec->n_merges == 0 && rec->n_made == 0 ? TLM_OK : TLM_ERR_FORMAT;
    }
    if (!inside(bytes, rec->left_at, (uint64_t)rec->n_symbols + 1, size) ||
        !inside(bytes, rec->pairs_at, 2 * (uint64_t)rec->n_merges, size) ||
        (rec->rank_at != 0 && !inside(bytes, rec->rank_at, rec->n_merges, size))) {
        return TLM_ERR_FORMAT;
    }
    return tlm_tok_bpe_check(tok);
}

tlm_err tlm_tok_check(const tlm_model *model)
{
    tlm_tok tok;
    if (!tlm_tok_open(model, &tok)) {
        return TLM_OK;
    }
    uint32_t bytes = model->section_bytes[TLM_SECTION_TOKENIZER];
    if (bytes < sizeof(tlm_tok_rec)) {
        return TLM_ERR_FORMAT;
    }
    tlm_err err = check_record(tok.rec, model->spec->vocab);
    if (err == TLM_OK) {
        err = check_special(&tok, bytes);
    }
    if (err == TLM_OK && !tlm_tok_has(&tok, TLM_TOK_FLAG_DERIVED)) {
        err = check_text(&tok, bytes);
    }
    if (err == TLM_OK) {
        err = check_tables(&tok, bytes);
    }
    if (err == TLM_OK && tok.rec->map_bytes != 0) {
        err = inside(bytes, tok.rec->map_at, tok.rec->map_bytes, 1) ? tlm_tok_map_check(&tok) : TLM_ERR_FORMAT;
    }
    return err;
}
