/* The character map: what one character becomes, which two compose, and Hangul by arithmetic.
 * The format stands in BLOB.md. Longest match follows from composing as long as it goes. */
#include "tlm_tok_map.h"

#include <string.h>

#define MAP_HANGUL 1u
#define MAP_STEP 32u /* runs between two entries of the index */
#define NONE 0xffffffffu

typedef struct map {
    const uint8_t *index, *runs, *pairs;
    uint32_t flags, n_runs, run_bytes, n_marks, pair_bytes;
} map;

static uint32_t u32_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t n_index(const map *m)
{
    return m->n_runs / MAP_STEP + (m->n_runs % MAP_STEP != 0);
}

static map open_map(const tlm_tok *tok)
{
    const uint8_t *at = tok->base + tok->rec->map_at;
    map m = {.flags = u32_at(at), .n_runs = u32_at(at + 4), .run_bytes = u32_at(at + 8), .n_marks = u32_at(at + 12),
             .pair_bytes = u32_at(at + 16)};
    m.index = at + 20;
    m.runs = m.index + 8 * (size_t)n_index(&m);
    m.pairs = m.runs + m.run_bytes;
    return m;
}

static uint32_t varint(const uint8_t **at)
{
    uint32_t value = 0;
    for (uint32_t shift = 0;; shift += 7) {
        uint8_t byte = *(*at)++;
        value |= (uint32_t)(byte & 0x7fu) << shift;
        if (byte < 0x80u) {
            return value;
        }
    }
}

/* A run of characters: `same` text for all, or a target that rises with the character. */
typedef struct run {
    uint32_t first, count, target, bytes;
    const uint8_t *text;
    bool same;
} run;

static run next_run(const uint8_t **at, uint32_t end)
{
    run r = {0};
    r.first = end + varint(at);
    uint32_t head = varint(at);
    r.same = (head & 1u) != 0;
    if (r.same) {
        r.count = (head >> 4) + 1;
        r.bytes = head >> 1 & 7u;
        r.bytes += r.bytes == 7 ? varint(at) : 0;
        r.text = *at;
        *at += r.bytes;
    } else {
        uint32_t shift = varint(at);
        r.count = head >> 1;
        r.target = (shift & 1u) != 0 ? r.first - ((shift + 1) >> 1) : r.first + (shift >> 1);
    }
    return r;
}

static size_t put_code(uint32_t code, uint8_t *out)
{
    if (code < 0x80u) {
        out[0] = (uint8_t)code;
        return 1;
    }
    size_t more = code < 0x800u ? 1 : code < 0x10000u ? 2 : 3;
    static const uint8_t lead[4] = {0, 0xc0, 0xe0, 0xf0};
    for (size_t i = more; i > 0; i--, code >>= 6) {
        out[i] = (uint8_t)(0x80u | (code & 0x3fu));
    }
    out[0] = (uint8_t)(lead[more] | code);
    return more + 1;
}

/* What one character becomes; false when it stays. */
static bool single(const map *m, uint32_t code, uint8_t *value, size_t *len)
{
    uint32_t low = 0, high = n_index(m);
    if (high == 0) {
        return false;
    }
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (u32_at(m->index + 8 * (size_t)middle) <= code) {
            low = middle;
        } else {
            high = middle;
        }
    }
    uint32_t end = u32_at(m->index + 8 * (size_t)low);
    const uint8_t *at = m->runs + u32_at(m->index + 8 * (size_t)low + 4);
    for (uint32_t i = low * MAP_STEP; i < m->n_runs; i++) {
        run r = next_run(&at, end);
        end = r.first + r.count;
        if (code < r.first) {
            return false;
        }
        if (code < end) {
            *len = r.same ? r.bytes : put_code(r.target + (code - r.first), value);
            if (r.same) {
                memcpy(value, r.text, r.bytes);
            }
            return true;
        }
    }
    return false;
}

/* The one character that `code` becomes; NONE when that is not one character. */
static uint32_t one_of(const map *m, uint32_t code)
{
    uint8_t value[TLM_TOK_MAP_VALUE];
    size_t len, used;
    if (!single(m, code, value, &len)) {
        return code;
    }
    if (len == 0) {
        return NONE;
    }
    code = tlm_utf8_next(value, len, &used);
    return used == len ? code : NONE;
}

/* Pairs of the text, pairs with what a pair became, and the exceptions of both. */
enum { RULE_TEXT, RULE_AGAIN, RULE_NEVER, RULE_NEVER_AGAIN };

/* What a rule says of two characters (`only` this, unless NONE); NONE when it says nothing. */
static uint32_t pair(const map *m, uint32_t rule, uint32_t first, uint32_t second, uint32_t only)
{
    const uint8_t *at = m->pairs;
    uint32_t mark = 0, wanted = second << 2 | rule;
    for (uint32_t i = 0; i < m->n_marks; i++) {
        mark += varint(&at);
        uint32_t bytes = varint(&at);
        const uint8_t *end = at + bytes;
        if (mark > wanted) {
            return NONE;
        }
        if (mark == wanted) {
            const uint32_t common = varint(&at);
            for (uint32_t code = 0; at < end;) {
                code += varint(&at);
                uint32_t result = common != 0 ? common : varint(&at);
                if (code == first && (only == NONE || only == result)) {
                    return result;
                }
            }
            return NONE;
        }
        at = end;
    }
    return NONE;
}

/* A leading consonant and a vowel, or again: that syllable and a trailing consonant. */
static uint32_t hangul(uint32_t first, uint32_t second, bool again)
{
    if (!again && first - 0x1100u < 19u && second - 0x1161u < 21u) {
        return 0xac00u + ((first - 0x1100u) * 21u + second - 0x1161u) * 28u;
    }
    if (again && first - 0xac00u < 11172u && (first - 0xac00u) % 28u == 0 && second - 0x11a8u < 27u) {
        return first + second - 0x11a7u;
    }
    return NONE;
}

/* The character that `first` (`raw` in the text, or made `again`) and what stands at s compose to, or NONE. */
static uint32_t compose(const map *m, uint32_t first, uint32_t raw, bool again, const uint8_t *s, size_t n,
                        size_t *used)
{
    uint32_t second = tlm_utf8_next(s, n, used);
    if (second == TLM_BAD_UTF8) {
        return NONE;
    }
    uint32_t joined = pair(m, again ? RULE_AGAIN : RULE_TEXT, first, second, NONE);
    if (joined != NONE) {
        return pair(m, again ? RULE_NEVER_AGAIN : RULE_NEVER, raw, second, first) != NONE ? NONE : joined;
    }
    return (m->flags & MAP_HANGUL) != 0 ? hangul(first, one_of(m, second), again) : NONE;
}

size_t tlm_tok_map(const tlm_tok *tok, const uint8_t *s, size_t n, uint8_t value[TLM_TOK_MAP_VALUE], size_t *len)
{
    size_t taken;
    if (tok->rec->map_bytes == 0) {
        return 0;
    }
    const uint32_t raw = tlm_utf8_next(s, n, &taken);
    if (raw == TLM_BAD_UTF8) {
        return 0;
    }
    const map m = open_map(tok);
    uint32_t code = raw;
    bool changed = single(&m, raw, value, len), again = false;
    if (changed) {
        size_t used = 0;
        code = *len == 0 ? NONE : tlm_utf8_next(value, *len, &used);
        code = used == *len ? code : NONE;
    }
    for (size_t used; code != NONE && taken < n; taken += used, changed = again = true) {
        code = compose(&m, code, raw, again, s + taken, n - taken, &used);
        if (code == NONE) {
            break;
        }
        *len = put_code(code, value);
    }
    return changed ? taken : 0;
}

/* ---- validation ---------------------------------------------------------------------------------- */

/* A varint of at most 28 bits before `end`; NONE when it is not one. */
static uint32_t safe_varint(const uint8_t **at, const uint8_t *end)
{
    uint32_t value = 0;
    for (uint32_t shift = 0; *at < end && shift < 28; shift += 7) {
        uint8_t byte = *(*at)++;
        value |= (uint32_t)(byte & 0x7fu) << shift;
        if (byte < 0x80u) {
            return value;
        }
    }
    return NONE;
}

static bool check_runs(const map *m)
{
    const uint8_t *at = m->runs, *end = m->runs + m->run_bytes;
    uint32_t code = 0;
    for (uint32_t i = 0; i < m->n_runs; i++) {
        const uint8_t *entry = m->index + 8 * (size_t)(i / MAP_STEP), *start = at;
        if (i % MAP_STEP == 0 && (u32_at(entry) != code || u32_at(entry + 4) != (uint32_t)(at - m->runs))) {
            return false;
        }
        uint32_t gap = safe_varint(&at, end), head = safe_varint(&at, end);
        if (gap == NONE || head == NONE || gap > 0x110000u - code) {
            return false;
        }
        bool same = (head & 1u) != 0;
        uint32_t bytes = head >> 1 & 7u, more = !same || bytes == 7 ? safe_varint(&at, end) : 0;
        if (more == NONE || (same && more > TLM_TOK_MAP_VALUE)) {
            return false;
        }
        bytes += same ? more : 0;
        if (same && (bytes > TLM_TOK_MAP_VALUE || bytes > (size_t)(end - at))) {
            return false;
        }
        at = start;
        run r = next_run(&at, code);
        if (r.count == 0 || r.count > 0x110000u - r.first ||
            (!r.same && (r.target > 0x10ffffu || r.count - 1 > 0x10ffffu - r.target))) {
            return false;
        }
        code = r.first + r.count;
    }
    return at == end;
}

static bool check_pairs(const map *m)
{
    const uint8_t *at = m->pairs, *end = m->pairs + m->pair_bytes;
    for (uint32_t i = 0; i < m->n_marks; i++) {
        uint32_t gap = safe_varint(&at, end), bytes = safe_varint(&at, end);
        if (gap == NONE || bytes == NONE || bytes > (size_t)(end - at)) {
            return false;
        }
        const uint8_t *last = at + bytes;
        const uint32_t common = safe_varint(&at, last);
        if (common > 0x10ffffu) {
            return false;
        }
        while (at < last) {
            uint32_t step = safe_varint(&at, last), result = common != 0 ? common : safe_varint(&at, last);
            if (step == NONE || result > 0x10ffffu) {
                return false;
            }
        }
    }
    return at == end;
}

tlm_err tlm_tok_map_check(const tlm_tok *tok)
{
    const uint32_t bytes = tok->rec->map_bytes;
    if (bytes < 20) {
        return TLM_ERR_FORMAT;
    }
    const map m = open_map(tok);
    uint64_t need = 20 + 8 * (uint64_t)n_index(&m) + m.run_bytes + m.pair_bytes;
    if (need != bytes || (m.flags & ~MAP_HANGUL) != 0) {
        return TLM_ERR_FORMAT;
    }
    return check_runs(&m) && check_pairs(&m) ? TLM_OK : TLM_ERR_FORMAT;
}
