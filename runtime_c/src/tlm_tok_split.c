/* The pre-tokeniser: a segment is cut by up to TLM_MAX_SPLITS steps, each inside what the one before left.
 *
 * A step is a hand-written matcher of its regular expression: given the rest of a part, the length of the
 * next piece and whether it is kept. Bytes that are not UTF-8 count as symbols of no class. */
#include "tlm_tok.h"

/* A look at the text from one place on. */
typedef struct reader {
    const uint8_t *s;
    size_t n;
} reader;

typedef struct glance {
    uint32_t code, kind;
    size_t len; /* 0 at the end of the text */
} glance;

static glance look(reader r, size_t at)
{
    glance g = {0, 0, 0};
    if (at < r.n) {
        g.code = tlm_utf8_next(r.s + at, r.n - at, &g.len);
        g.kind = g.code == TLM_BAD_UTF8 ? 0 : tlm_tok_class(g.code);
    }
    return g;
}

/* Where the run of characters with (kind & mask) != 0, or == 0 when `none`, that starts at `at` ends. */
static size_t run(reader r, size_t at, uint32_t mask, bool none)
{
    for (glance g; (g = look(r, at)).len != 0 && ((g.kind & mask) == 0) == none;) {
        at += g.len;
    }
    return at;
}

/* Length of 's 't 're 've 'm 'll 'd at the start of r, or 0. */
static size_t contraction(reader r, bool any_case)
{
    static const char endings[7][3] = {"s", "t", "m", "d", "re", "ve", "ll"};
    if (r.n < 2 || r.s[0] != '\'') {
        return 0;
    }
    for (size_t i = 0; i < 7; i++) {
        size_t at = 1;
        const char *want = endings[i];
        for (; *want != '\0'; want++) {
            glance g = look(r, at);
            uint32_t code = g.code;
            if (any_case && code >= 'A' && code <= 'Z') {
                code += 'a' - 'A';
            } else if (any_case && code == 0x17fu) {
                code = 's'; /* the long s folds to s */
            }
            if (g.len == 0 || code != (uint32_t)*want) {
                break;
            }
            at += g.len;
        }
        if (*want == '\0') {
            return at;
        }
    }
    return 0;
}

/* \s+(?!\S)|\s+ : a run of white space leaves its last character to what follows. r starts with one. */
static size_t spaces(reader r)
{
    size_t at = 0, last = 0;
    for (glance g; (g = look(r, at)).len != 0 && (g.kind & TLM_UCD_SPACE) != 0; at += g.len) {
        last = at;
    }
    return at == r.n || last == 0 ? at : last;
}

static size_t gpt2(reader r)
{
    size_t at = contraction(r, false);
    if (at != 0) {
        return at;
    }
    at = r.s[0] == ' ' ? 1 : 0;
    glance g = look(r, at);
    if (g.len == 0 || (g.kind & TLM_UCD_SPACE) != 0) {
        return spaces(r);
    }
    uint32_t kind = g.kind & (TLM_UCD_LETTER | TLM_UCD_NUMBER);
    return kind != 0 ? run(r, at, kind, false) : run(r, at, TLM_UCD_SPACE | TLM_UCD_LETTER | TLM_UCD_NUMBER, true);
}

static bool is_newline(glance g)
{
    return g.len != 0 && (g.code == '\r' || g.code == '\n');
}

/* \s*[\r\n]+ : up to the last line break of the white space at the start, or 0. */
static size_t lines(reader r)
{
    size_t at = 0, end = 0;
    for (glance g; (g = look(r, at)).len != 0 && (g.kind & TLM_UCD_SPACE) != 0;) {
        at += g.len;
        end = is_newline(g) ? at : end;
    }
    return end;
}

static size_t gpt4(reader r, uint32_t digits)
{
    size_t at = contraction(r, true);
    if (at != 0) {
        return at;
    }
    glance first = look(r, 0), second = look(r, first.len);
    if ((first.kind & TLM_UCD_LETTER) != 0) {
        return run(r, 0, TLM_UCD_LETTER, false);
    }
    if ((first.kind & TLM_UCD_NUMBER) != 0) {
        for (glance g = first; digits > 0 && (g.kind & TLM_UCD_NUMBER) != 0; g = look(r, at), digits--) {
            at += g.len;
        }
        return at;
    }
    if ((second.kind & TLM_UCD_LETTER) != 0 && !is_newline(first)) {
        return run(r, first.len, TLM_UCD_LETTER, false);
    }
    const uint32_t taken = TLM_UCD_SPACE | TLM_UCD_LETTER | TLM_UCD_NUMBER;
    size_t symbols_at = first.code == ' ' ? first.len : 0;
    at = run(r, symbols_at, taken, true);
    if (at > symbols_at) {
        for (glance g; is_newline(g = look(r, at)); at += g.len) {
        }
        return at;
    }
    at = lines(r);
    return at != 0 ? at : spaces(r);
}

/* Everything up to the next space, its own first character included. */
static size_t until_space(reader r)
{
    size_t at = 1;
    while (at < r.n && r.s[at] != ' ') {
        at++;
    }
    return at;
}

/* Either one piece of the kind (a run, or one character), or all up to the next of the kind. */
static size_t apart(reader r, uint32_t kind, bool single)
{
    glance g = look(r, 0);
    if ((g.kind & kind) == 0) {
        return run(r, 0, kind, true);
    }
    return single ? g.len : run(r, 0, kind, false);
}

/* \w+|[^\w\s]+ */
static size_t word(reader r, bool *keep)
{
    glance g = look(r, 0);
    *keep = (g.kind & TLM_UCD_SPACE) == 0;
    if (!*keep) {
        return run(r, 0, TLM_UCD_SPACE, false);
    }
    return (g.kind & TLM_UCD_WORD) != 0 ? run(r, 0, TLM_UCD_WORD, false)
                                        : run(r, 0, TLM_UCD_WORD | TLM_UCD_SPACE, true);
}

/* Length of the first piece of r under one step; r is not empty. */
static size_t cut(uint32_t split, reader r, bool *keep)
{
    *keep = true;
    switch (split) {
    case TLM_TOK_SPLIT_GPT2:
        return gpt2(r);
    case TLM_TOK_SPLIT_GPT4:
        return gpt4(r, 3);
    case TLM_TOK_SPLIT_GPT4_DIGIT:
        return gpt4(r, 1);
    case TLM_TOK_SPLIT_SPACE:
        return until_space(r);
    case TLM_TOK_SPLIT_DIGITS:
        return apart(r, TLM_UCD_DIGIT, false);
    case TLM_TOK_SPLIT_DIGIT:
        return apart(r, TLM_UCD_DIGIT, true);
    case TLM_TOK_SPLIT_PUNCTUATION:
        return apart(r, TLM_UCD_PUNCT, true);
    case TLM_TOK_SPLIT_WORD:
        return word(r, keep);
    case TLM_TOK_SPLIT_WHITESPACE:
        *keep = (look(r, 0).kind & TLM_UCD_SPACE) == 0;
        return apart(r, TLM_UCD_SPACE, true);
    case TLM_TOK_SPLIT_DROP_SPACE:
        *keep = r.s[0] != ' ';
        return *keep ? until_space(r) : 1;
    default:
        return look(r, 0).len;
    }
}

void tlm_tok_words_init(tlm_tok_words *words, const tlm_tok *tok, const uint8_t *s, size_t n)
{
    words->tok = tok;
    words->s = s;
    words->at[0] = 0;
    words->end[0] = n;
    words->level = 0;
}

bool tlm_tok_next_word(tlm_tok_words *words, const uint8_t **word, size_t *len)
{
    const tlm_tok_rec *rec = words->tok->rec;
    for (;;) {
        uint32_t level = words->level;
        size_t at = words->at[level], n = words->end[level] - at;
        if (n == 0) {
            if (level == 0) {
                return false;
            }
            words->level--;
            continue;
        }
        reader r = {words->s + at, n};
        bool keep = true;
        size_t taken = rec->n_splits == 0 ? n : cut(rec->splits[level], r, &keep);
        words->at[level] += taken;
        if (!keep) {
            continue;
        }
        if (level + 1 >= rec->n_splits) {
            *word = r.s;
            *len = taken;
            return true;
        }
        words->at[level + 1] = at;
        words->end[level + 1] = at + taken;
        words->level++;
    }
}
