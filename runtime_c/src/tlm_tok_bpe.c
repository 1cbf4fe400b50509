/* Byte-pair encoding: the pair of lowest rank merges first, of equals the leftmost.
 *
 * A word is an array of places, one per start symbol. A symbol spans places [i, i + span); its length
 * stands at its first and its last place, so that both neighbours are found without links. key[i] is the
 * rank of the pair that starts at place i; a tree of minima with 16 children a node finds the lowest key:
 * 12.3 bytes a place, O(log n) a merge. */
#include "tlm_tok.h"

#define NO_KEY 0xffffffffu
#define FAN 16u

/* The merge of two symbols: its number, or NO_KEY. */
static uint32_t find_merge(const tlm_tok *tok, uint32_t left, uint32_t right)
{
    const tlm_tok_rec *rec = tok->rec;
    if (left >= rec->n_symbols || right >= rec->n_symbols || rec->n_merges == 0) {
        return NO_KEY;
    }
    uint32_t low = tlm_tok_index(tok, rec->left_at, left), high = tlm_tok_index(tok, rec->left_at, left + 1);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2, found = tlm_tok_index(tok, rec->pairs_at, 2 * middle);
        if (found == right) {
            return middle;
        }
        if (found < right) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NO_KEY;
}

static uint32_t result_of(const tlm_tok *tok, uint32_t merge)
{
    return tlm_tok_index(tok, tok->rec->pairs_at, 2 * merge + 1);
}

typedef struct bpe {
    const tlm_tok *tok;
    uint32_t *ids, *span, *key, *tree; /* tree: levels of minima, the lowest first, the root last */
    uint32_t n;
} bpe;

static uint32_t pair_key(const bpe *b, uint32_t place)
{
    uint32_t next = place + b->span[place];
    if (next >= b->n) {
        return NO_KEY;
    }
    uint32_t merge = find_merge(b->tok, b->ids[place], b->ids[next]);
    if (merge == NO_KEY) {
        return NO_KEY;
    }
    return b->tok->rec->rank_at != 0 ? tlm_tok_index(b->tok, b->tok->rec->rank_at, merge) : result_of(b->tok, merge);
}

static uint32_t least_of(const uint32_t *v, uint32_t n)
{
    uint32_t least = NO_KEY;
    for (uint32_t i = 0; i < n; i++) {
        least = v[i] < least ? v[i] : least;
    }
    return least;
}

/* Renews the minima over place; with `all`, those over every place. */
static void renew(const bpe *b, uint32_t place, bool all)
{
    const uint32_t *below = b->key;
    uint32_t *level = b->tree;
    for (uint32_t n = b->n; n > 1; n = (n + FAN - 1) / FAN) {
        uint32_t nodes = (n + FAN - 1) / FAN, from = all ? 0 : place / FAN, to = all ? nodes : from + 1;
        for (uint32_t i = from; i < to; i++) {
            uint32_t left = n - i * FAN;
            level[i] = least_of(below + i * FAN, left < FAN ? left : FAN);
        }
        place /= FAN;
        below = level;
        level += nodes;
    }
}

static void set_key(const bpe *b, uint32_t place, uint32_t key)
{
    if (b->key[place] != key) {
        b->key[place] = key;
        renew(b, place, false);
    }
}

/* Leftmost place with the lowest key; NO_KEY when no pair merges. */
static uint32_t best_place(const bpe *b)
{
    uint32_t sizes[10], levels = 0;
    const uint32_t *level = b->tree;
    for (uint32_t n = b->n; n > 1; n = (n + FAN - 1) / FAN) {
        sizes[levels++] = n;
        level += (n + FAN - 1) / FAN;
    }
    uint32_t key = levels == 0 ? NO_KEY : level[-1], place = 0;
    if (key == NO_KEY) {
        return NO_KEY;
    }
    while (levels-- > 0) {
        level -= (sizes[levels] + FAN - 1) / FAN;
        const uint32_t *below = levels == 0 ? b->key : level - sizes[levels];
        for (place *= FAN; below[place] != key; place++) {
        }
    }
    return place;
}

static void merge_at(const bpe *b, uint32_t place)
{
    uint32_t next = place + b->span[place], span = b->span[place] + b->span[next];
    b->ids[place] = result_of(b->tok, find_merge(b->tok, b->ids[place], b->ids[next]));
    b->span[place] = b->span[place + span - 1] = span;
    set_key(b, next, NO_KEY);
    set_key(b, place, pair_key(b, place));
    if (place > 0) {
        uint32_t before = place - b->span[place - 1];
        set_key(b, before, pair_key(b, before));
    }
}

/* Bytes of the start symbol at s: a byte, a character, or a piece that is never cut. */
static size_t start_bytes(const tlm_tok *tok, const uint8_t *s, size_t n, uint32_t *id)
{
    size_t len = 1;
    const tlm_tok_special_rec *inside = tlm_tok_inside(tok, s, n);
    if (inside != NULL) {
        *id = inside->id;
        return inside->text_bytes;
    }
    if (tlm_tok_has(tok, TLM_TOK_FLAG_BYTES)) {
        *id = tlm_tok_byte(tok, *s);
    } else {
        (void)tlm_utf8_next(s, n, &len);
        *id = tlm_tok_find(tok, s, len);
    }
    return len;
}

/* Whether a character without a piece leaves no trace, so that its neighbours meet. */
static bool drops_unknown(const tlm_tok *tok)
{
    return tok->rec->unk == TLM_NO_TOKEN && !tlm_tok_has(tok, TLM_TOK_FLAG_BYTE_FALLBACK);
}

/* Cuts the work space into the arrays of a word; TLM_ERR_LIMIT when it is too small. */
static tlm_err lay_out(bpe *b, const uint8_t *s, size_t n, tlm_tok_work work)
{
    bool bytes = tlm_tok_has(b->tok, TLM_TOK_FLAG_BYTES);
    size_t places = 0, nodes = 1;
    for (size_t at = 0, len = 1; at < n; at += len, places++) {
        if (!bytes) {
            (void)tlm_utf8_next(s + at, n - at, &len);
        }
    }
    for (size_t level = places; level > 1; level = (level + FAN - 1) / FAN) {
        nodes += (level + FAN - 1) / FAN;
    }
    if ((3 * places + nodes) * sizeof(uint32_t) > work.bytes || places >= NO_KEY) {
        return TLM_ERR_LIMIT;
    }
    b->ids = (uint32_t *)(void *)work.base;
    b->span = b->ids + places;
    b->key = b->span + places;
    b->tree = b->key + places;
    return TLM_OK;
}

static void fill_starts(bpe *b, const uint8_t *s, size_t n)
{
    bool drop = drops_unknown(b->tok);
    b->n = 0;
    for (size_t at = 0; at < n;) {
        uint32_t id;
        at += start_bytes(b->tok, s + at, n - at, &id);
        if (id != TLM_NO_TOKEN || !drop) {
            b->ids[b->n] = id;
            b->span[b->n++] = 1;
        }
    }
    for (uint32_t i = 0; i < b->n; i++) {
        b->key[i] = pair_key(b, i);
    }
    renew(b, 0, true);
}

static void emit_all(const bpe *b, tlm_tok_out *out, const uint8_t *s, size_t n)
{
    bool drop = drops_unknown(b->tok);
    for (uint32_t i = 0, k; i < b->n; i += b->span[i]) {
        size_t len = 0;
        for (k = 0; k < b->span[i] && !drop; k++) {
            uint32_t id;
            len += start_bytes(b->tok, s + len, n - len, &id);
        }
        if (b->ids[i] < b->tok->rec->n_pieces) {
            tlm_tok_emit(out, b->ids[i]);
        } else {
            tlm_tok_emit_unknown(b->tok, out, s, len);
        }
        s += len;
        n -= len;
    }
}

tlm_err tlm_tok_bpe(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n, tlm_tok_work work)
{
    bpe b = {.tok = tok};
    if (tlm_tok_has(tok, TLM_TOK_FLAG_WORD_FIRST)) {
        uint32_t id = tlm_tok_find(tok, s, n);
        if (id < tok->rec->n_pieces) {
            tlm_tok_emit(out, id);
            return TLM_OK;
        }
    }
    tlm_err err = lay_out(&b, s, n, work);
    if (err != TLM_OK) {
        return err;
    }
    fill_starts(&b, s, n);
    for (uint32_t place; (place = best_place(&b)) != NO_KEY;) {
        merge_at(&b, place);
    }
    emit_all(&b, out, s, n);
    return TLM_OK;
}

/* ---- pieces that follow from merges -------------------------------------------------------------- */

/* The merge that makes a symbol; n_merges when none does. */
static uint32_t maker_of(const tlm_tok *tok, uint32_t symbol)
{
    const tlm_tok_rec *rec = tok->rec;
    if (symbol < rec->first_made || symbol - rec->first_made >= rec->n_made) {
        return rec->n_merges;
    }
    return tlm_tok_index(tok, rec->made_at, symbol - rec->first_made);
}

/* Left symbol of a merge: the last one whose first merge is not behind it. Halving without a branch to mispredict. */
static uint32_t left_of(const tlm_tok *tok, uint32_t merge)
{
    uint32_t left = 0;
    for (uint32_t n = tok->rec->n_symbols; n > 1; n -= n / 2) {
        const uint32_t middle = left + n / 2;
        left = tlm_tok_index(tok, tok->rec->left_at, middle) <= merge ? middle : left;
    }
    return left;
}

/* The byte that a start symbol stands for; false when the symbol has no text. Most vocabularies number their bytes one
 * after the other: that place is looked at first. */
static bool letter_of(const tlm_tok *tok, uint32_t symbol, uint8_t *byte)
{
    const uint8_t *letters = tok->base + tok->rec->letters_at;
    uint32_t at = symbol - tlm_tok_byte(tok, letters[0]);
    if (at >= 256u || tlm_tok_byte(tok, letters[at]) != symbol) {
        at = 0;
        for (uint32_t n = 256; n > 1; n /= 2) {
            const uint32_t middle = at + n / 2;
            at = tlm_tok_byte(tok, letters[middle]) <= symbol ? middle : at;
        }
    }
    *byte = letters[at];
    return tlm_tok_byte(tok, *byte) == symbol;
}

bool tlm_tok_spell(const tlm_tok *tok, tlm_tok_spelling *s, uint8_t *byte)
{
    while (s->depth > 0) {
        const uint32_t symbol = s->later[--s->depth], merge = maker_of(tok, symbol);
        if (merge < tok->rec->n_merges) {
            if (s->depth == TLM_MAX_MERGE_DEPTH) {
                s->err = TLM_ERR_FORMAT;
                return false;
            }
            s->later[s->depth++] = tlm_tok_index(tok, tok->rec->pairs_at, 2 * merge);
            s->later[s->depth++] = left_of(tok, merge);
        } else if (letter_of(tok, symbol, byte)) {
            return true;
        }
    }
    return false;
}

void tlm_tok_mark_made_of(const tlm_tok *tok, uint32_t symbol, uint8_t *bits)
{
    if (tok->rec->n_merges == 0) { /* its tables are not there then */
        return;
    }
    const uint32_t end = tlm_tok_index(tok, tok->rec->left_at, symbol + 1);
    for (uint32_t merge = tlm_tok_index(tok, tok->rec->left_at, symbol); merge < end; merge++) {
        const uint32_t made = result_of(tok, merge);
        bits[made / 8u] = (uint8_t)(bits[made / 8u] | 1u << made % 8u);
    }
}

/* Merges: in order, of known symbols; when pieces follow from them, each made of smaller ones. */
tlm_err tlm_tok_bpe_check(const tlm_tok *tok)
{
    const tlm_tok_rec *rec = tok->rec;
    bool derived = tlm_tok_has(tok, TLM_TOK_FLAG_DERIVED);
    uint32_t merge = 0;
    for (uint32_t left = 0; left < rec->n_symbols; left++) {
        uint32_t end = tlm_tok_index(tok, rec->left_at, left + 1), before = 0;
        if (tlm_tok_index(tok, rec->left_at, left) != merge || end < merge || end > rec->n_merges) {
            return TLM_ERR_FORMAT;
        }
        for (uint32_t first = merge; merge < end; merge++) {
            uint32_t right = tlm_tok_index(tok, rec->pairs_at, 2 * merge), result = result_of(tok, merge);
            if (right >= rec->n_symbols || result >= rec->n_symbols || (merge > first && right <= before) ||
                (derived && (left >= result || right >= result))) {
                return TLM_ERR_FORMAT;
            }
            before = right;
        }
    }
    if (merge != rec->n_merges) {
        return TLM_ERR_FORMAT;
    }
    for (uint32_t i = 0; i < rec->n_made; i++) {
        uint32_t maker = tlm_tok_index(tok, rec->made_at, i);
        if (maker > rec->n_merges || (maker < rec->n_merges && result_of(tok, maker) != rec->first_made + i)) {
            return TLM_ERR_FORMAT;
        }
    }
    return TLM_OK;
}
