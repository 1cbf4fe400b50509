/* The tokenizer's inside: a view of the TOKENIZER section and the steps of encoding.
 *
 * Nothing is unpacked: every table is read where it lies. tlm_tok_check proves once that all offsets,
 * symbols and texts stay inside the section; the functions below rely on it. Flow of tlm_encode:
 *
 *   text -> segments between special pieces -> normaliser -> pre-tokeniser -> words -> ids
 */
#ifndef TLM_TOK_H
#define TLM_TOK_H

#include "tlm.h"

/* What tlm_tok_class tells of a code point. */
enum {
    TLM_UCD_LETTER = 1, /* \p{L} */
    TLM_UCD_NUMBER = 2, /* \p{N} */
    TLM_UCD_SPACE = 4,  /* \s */
    TLM_UCD_WORD = 8,   /* \w */
    TLM_UCD_PUNCT = 16,
    TLM_UCD_DIGIT = 32 /* a number to the digit splits */
};
uint32_t tlm_tok_class(uint32_t code);

#define TLM_BAD_UTF8 0xffffffffu
/* The code point at s and its length in bytes; TLM_BAD_UTF8 and 1 where no character starts. n > 0. */
uint32_t tlm_utf8_next(const uint8_t *s, size_t n, size_t *len);

/* A validated section. */
typedef struct tlm_tok {
    const uint8_t *base;
    const tlm_tok_rec *rec;
} tlm_tok;

/* The section of a model; false when it has none. */
bool tlm_tok_open(const tlm_model *model, tlm_tok *tok);
/* Validates the whole section: O(bytes). TLM_OK for a model without one. */
tlm_err tlm_tok_check(const tlm_model *model);

static inline bool tlm_tok_has(const tlm_tok *tok, uint32_t flag)
{
    return (tok->rec->flags & flag) != 0;
}

static inline uint32_t tlm_tok_u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t tlm_tok_u32(const uint8_t *p)
{
    return tlm_tok_u16(p) | tlm_tok_u16(p + 2) << 16;
}

/* Entry of a table of indices. In line: the searches below do little else. */
static inline uint32_t tlm_tok_index(const tlm_tok *tok, uint32_t table_at, uint32_t i)
{
    const uint8_t *table = tok->base + table_at;
    switch (tok->rec->index_bytes) {
    case 1:
        return table[i];
    case 2:
        return tlm_tok_u16(table + 2 * (size_t)i);
    default:
        return tlm_tok_u32(table + 4 * (size_t)i);
    }
}

/* Entry of the alphabet: TLM_NO_TOKEN when the byte has no symbol. */
static inline uint32_t tlm_tok_byte(const tlm_tok *tok, uint8_t byte)
{
    if (tok->rec->alphabet_at == 0) {
        return TLM_NO_TOKEN;
    }
    const uint32_t symbol = tlm_tok_index(tok, tok->rec->alphabet_at, byte);
    return symbol < tok->rec->n_symbols ? symbol : TLM_NO_TOKEN;
}

/* Stored text of a symbol (not DERIVED). */
const uint8_t *tlm_tok_text(const tlm_tok *tok, uint32_t symbol, size_t *len);
/* Symbol with exactly this text among the sorted ones, or TLM_NO_TOKEN. O(log pieces). */
uint32_t tlm_tok_find(const tlm_tok *tok, const uint8_t *s, size_t n);

/* Range [low, high) of sorted texts that share `depth` bytes with what was looked up so far. */
typedef struct tlm_tok_range {
    uint32_t low, high;
} tlm_tok_range;
/* Narrows a range by one more byte. */
tlm_tok_range tlm_tok_narrow(const tlm_tok *tok, tlm_tok_range range, size_t depth, uint8_t byte);
/* The symbol whose text is exactly the `depth` bytes of the range, or TLM_NO_TOKEN. */
uint32_t tlm_tok_exact(const tlm_tok *tok, tlm_tok_range range, size_t depth);

const tlm_tok_special_rec *tlm_tok_special(const tlm_tok *tok, uint32_t i);
/* The special record of an id, or NULL. O(log specials). */
const tlm_tok_special_rec *tlm_tok_special_of(const tlm_tok *tok, uint32_t id);
/* The longest special piece with one of `flags` that starts at s, or NULL. */
const tlm_tok_special_rec *tlm_tok_match(const tlm_tok *tok, const uint8_t *s, size_t n, uint32_t flags);
/* The longest piece that starts at s in a normalised text and is never cut, or NULL. */
const tlm_tok_special_rec *tlm_tok_inside(const tlm_tok *tok, const uint8_t *s, size_t n);

/* What a decoder does to the text of an id, which may follow other text (`started`): drop a space it begins with, put one
 * before it, give nothing of it; and whether text was there after `read` bytes, of which a space was `dropped`. */
static inline bool tlm_tok_strips(const tlm_tok *tok, uint32_t id, bool started)
{
    return tlm_tok_has(tok, TLM_TOK_FLAG_STRIP_FIRST) && !started && id != tok->rec->unk;
}

static inline bool tlm_tok_joins(const tlm_tok *tok, bool started)
{
    return tlm_tok_has(tok, TLM_TOK_FLAG_JOIN_WORDS) && started;
}

static inline bool tlm_tok_is_hidden(const tlm_tok_special_rec *special)
{
    return special != NULL && (special->flags & TLM_TOK_SPECIAL_FLAG_HIDDEN) != 0;
}

/* sentencepiece drops a space of each piece until there is text, or of the first piece only */
static inline bool tlm_tok_starts(const tlm_tok *tok, size_t read, bool dropped)
{
    return read > (dropped && tlm_tok_has(tok, TLM_TOK_FLAG_TRIM) ? 1u : 0u);
}

/* A piece that follows from merges, byte by byte (tlm_tok_bpe.c): begin with {{id}, 1, TLM_OK}. */
typedef struct tlm_tok_spelling {
    uint32_t later[TLM_MAX_MERGE_DEPTH + 1u], depth; /* symbols still to come, the next one last */
    tlm_err err;
} tlm_tok_spelling;
/* The next byte; false at the end, or at an error. */
bool tlm_tok_spell(const tlm_tok *tok, tlm_tok_spelling *s, uint8_t *byte);
/* Sets the bit of each symbol whose left part is `symbol`. */
void tlm_tok_mark_made_of(const tlm_tok *tok, uint32_t symbol, uint8_t *bits);

/* Where ids go. */
typedef struct tlm_tok_out {
    uint32_t *ids;
    size_t cap, n;
    bool in_unk; /* the last id was "unknown" and swallows the next one */
    double score; /* unigram: sum up to here, carried on when words are not independent of each other */
} tlm_tok_out;
void tlm_tok_emit(tlm_tok_out *out, uint32_t id);
/* Emits what stands for a character without a piece: its bytes, one "unknown", or nothing. */
void tlm_tok_emit_unknown(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n);

/* The caller's memory that is left. */
typedef struct tlm_tok_work {
    uint8_t *base;
    size_t bytes;
} tlm_tok_work;

/* Text of a segment as pieces see it; at the `start` of a text it gets its prefix and loses leading spaces.
 * TLM_ERR_LIMIT when the result does not fit `cap`. */
tlm_err tlm_tok_normalise(const tlm_tok *tok, const uint8_t *s, size_t n, bool start, uint8_t *out, size_t cap,
                          size_t *len);
/* Whether tlm_tok_normalise would change nothing. */
bool tlm_tok_is_plain(const tlm_tok *tok, bool start);

/* The pre-tokeniser over a segment. */
typedef struct tlm_tok_words {
    const tlm_tok *tok;
    const uint8_t *s;
    size_t at[TLM_MAX_SPLITS + 1], end[TLM_MAX_SPLITS + 1];
    uint32_t level;
} tlm_tok_words;
void tlm_tok_words_init(tlm_tok_words *words, const tlm_tok *tok, const uint8_t *s, size_t n);
bool tlm_tok_next_word(tlm_tok_words *words, const uint8_t **word, size_t *len);

/* Ids of one word. TLM_ERR_LIMIT when the work space does not hold it. */
tlm_err tlm_tok_bpe(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n, tlm_tok_work work);
tlm_err tlm_tok_unigram(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n, tlm_tok_work work);
tlm_err tlm_tok_word(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n);
/* The part of tlm_tok_check that knows merges; all tables are inside the section by then. */
tlm_err tlm_tok_bpe_check(const tlm_tok *tok);

#endif
