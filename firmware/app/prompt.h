/* The blob's chat template, cut so that special tokens are matched in it and never in a user's words.
 *
 *   turn_end | user_prefix up to its last special token | rest + words + reply_prefix up to its first | rest
 *
 * Each part is encoded by itself; the middle one in one piece, because the tokenizer joins "User: " and the
 * first word. */
#ifndef APP_PROMPT_H
#define APP_PROMPT_H

#include "tlm.h"

typedef struct prompt_part {
    const char *text;
    size_t bytes;
} prompt_part;

typedef struct prompt_template {
    prompt_part turn_end, before_special, before, after, after_special;
    bool turns; /* false: a story model, the words are continued as they are */
    uint32_t bos; /* first id of every context, or TLM_NO_TOKEN */
} prompt_template;

/* Where encoded ids go, and the memory for it. */
typedef struct prompt_sink {
    const tlm_model *model;
    void *work; /* TLM_ENCODE_WORK(text_cap) bytes while something is encoded */
    char *text;
    size_t text_cap;
    uint32_t *ids;
    size_t cap, count; /* count goes past cap when the ids do not fit */
    size_t lead;       /* of these, ids of the turn_end that closes the turn before */
} prompt_sink;

/* Needs `work` and `text` of `sink` only (any capacity of at least 256 bytes). */
void prompt_parse(prompt_template *t, const tlm_model *model, prompt_sink *sink);
size_t prompt_overhead(const prompt_template *t); /* bytes that the middle part adds to the words */

/* Appends one turn. `first`: no turn_end before it, and the text begins here. */
tlm_err prompt_turn(const prompt_template *t, prompt_sink *sink, const void *words, size_t bytes, bool first);
/* Appends raw text that begins here. */
tlm_err prompt_raw(prompt_sink *sink, const void *text, size_t bytes, bool special);

#endif
