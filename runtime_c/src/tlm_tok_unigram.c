/* Unigram: of all ways to cut a word into pieces, the one with the largest sum of scores (Viterbi).
 *
 * A node stands before each character and behind the last: 8 bytes (12 with f64 scores) a character. The
 * order of additions and comparisons is that of the reference libraries, so that ties fall the same way. */
#include "tlm_tok.h"

#include <string.h>

/* How a node is best reached: characters of the last piece << 20 | id. No characters: an unknown one. */
#define ID_BITS 20u
#define ID_MASK ((1u << ID_BITS) - 1u)
#define UNREACHED 0xffffffffu

typedef struct lattice {
    const tlm_tok *tok;
    uint8_t *scores; /* f32 or f64 [nodes], read and written by memcpy */
    uint32_t *back;
    bool wide;
} lattice;

static double read_score(const uint8_t *table, uint32_t i, bool wide)
{
    if (wide) {
        double value;
        memcpy(&value, table + 8 * (size_t)i, 8);
        return value;
    }
    float value;
    memcpy(&value, table + 4 * (size_t)i, 4);
    return (double)value;
}

static double piece_score(const tlm_tok *tok, uint32_t id)
{
    return read_score(tok->base + tok->rec->scores_at, id, tlm_tok_has(tok, TLM_TOK_FLAG_DOUBLE));
}

/* Sum in the precision of the scores: a double holds the exact sum of two floats to within one rounding. */
static double add(const lattice *l, double a, double b)
{
    double sum = a + b;
    return l->wide ? sum : (double)(float)sum;
}

static void write_score(const lattice *l, uint32_t node, double score)
{
    if (l->wide) {
        memcpy(l->scores + 8 * (size_t)node, &score, 8);
    } else {
        float narrow = (float)score;
        memcpy(l->scores + 4 * (size_t)node, &narrow, 4);
    }
}

static void reach(const lattice *l, uint32_t node, double score, uint32_t how)
{
    if (l->back[node] == UNREACHED || score > read_score(l->scores, node, l->wide)) {
        l->back[node] = how;
        write_score(l, node, score);
    }
}

/* Extends the best way to `node` by every piece that starts at s. */
static void extend(const lattice *l, uint32_t node, const uint8_t *s, size_t n)
{
    const tlm_tok *tok = l->tok;
    const double here = read_score(l->scores, node, l->wide);
    tlm_tok_range range = {0, tok->rec->n_sorted};
    bool single = false;
    uint32_t chars = 0;
    for (size_t at = 0, len; at < n && at < tok->rec->max_piece; at += len) {
        (void)tlm_utf8_next(s + at, n - at, &len);
        for (size_t i = at; i < at + len; i++) {
            range = tlm_tok_narrow(tok, range, i, s[i]);
        }
        if (range.low >= range.high) {
            break;
        }
        chars++;
        uint32_t id = tlm_tok_exact(tok, range, at + len);
        if (id < tok->rec->n_pieces) {
            reach(l, node + chars, add(l, piece_score(tok, id), here), chars << ID_BITS | id);
            single = single || chars == 1;
        }
    }
    if (!single) {
        reach(l, node + 1, add(l, piece_score(tok, tok->rec->n_pieces), here), 0);
    }
}

static uint32_t chars_of(uint32_t how)
{
    return how >> ID_BITS == 0 ? 1 : how >> ID_BITS;
}

/* Turns the links of the best way around: back[i] then names the piece that starts at node i. */
static void turn(const lattice *l, uint32_t last)
{
    uint32_t how = l->back[last];
    while (last > 0) {
        uint32_t first = last - chars_of(how), before = l->back[first];
        l->back[first] = how;
        how = before;
        last = first;
    }
}

static void emit_way(const lattice *l, tlm_tok_out *out, const uint8_t *s, size_t n)
{
    for (uint32_t node = 0; n > 0;) {
        uint32_t how = l->back[node], chars = chars_of(how);
        size_t len = 0;
        for (uint32_t i = 0; i < chars; i++) {
            size_t one;
            (void)tlm_utf8_next(s + len, n - len, &one);
            len += one;
        }
        if (how >> ID_BITS != 0) {
            tlm_tok_emit(out, how & ID_MASK);
        } else {
            tlm_tok_emit_unknown(l->tok, out, s, len);
        }
        s += len;
        n -= len;
        node += chars;
    }
}

tlm_err tlm_tok_unigram(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n, tlm_tok_work work)
{
    const bool wide = tlm_tok_has(tok, TLM_TOK_FLAG_DOUBLE), carry = tlm_tok_has(tok, TLM_TOK_FLAG_FUSE_WORDS);
    uint32_t chars = 0;
    for (size_t at = 0, len; at < n; at += len, chars++) {
        (void)tlm_utf8_next(s + at, n - at, &len);
    }
    const size_t nodes = (size_t)chars + 1;
    if (nodes * (wide ? 12 : 8) > work.bytes) {
        return TLM_ERR_LIMIT;
    }
    lattice l = {tok, work.base, (uint32_t *)(void *)(work.base + nodes * (wide ? 8 : 4)), wide};
    memset(l.back, 0xff, nodes * sizeof(uint32_t));
    write_score(&l, 0, carry ? out->score : 0.0);
    uint32_t node = 0;
    for (size_t at = 0, len; at < n; at += len, node++) {
        (void)tlm_utf8_next(s + at, n - at, &len);
        extend(&l, node, s + at, n - at);
    }
    out->score = read_score(l.scores, node, wide);
    turn(&l, node);
    emit_way(&l, out, s, n);
    return TLM_OK;
}
