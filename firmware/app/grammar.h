/* A grammar that a reply must follow: the byte automaton of export/tinyexport/grammar/table.py, walked in place.
 *
 * A token is allowed when all of its bytes, as they will stand in the reply, keep the automaton alive; a stop token
 * where the text may end. */
#ifndef APP_GRAMMAR_H
#define APP_GRAMMAR_H

#include "tlm.h"

#define GRAMMAR_VERSION 1u
#define GRAMMAR_MAX 2048u /* bytes of a table */

typedef struct grammar {
    const uint8_t *table; /* NULL: everything is allowed */
    bool stops;           /* stop ids end the reply */
    tlm_walk walk;
} grammar;

/* Is `table` one that can be walked? Every table that passes is safe. */
bool grammar_valid(const uint8_t *table, size_t bytes);
/* `table` was found valid, or bytes is 0. `work` (`cap` bytes, at least those of the table) is the grammar's from now on:
 * it keeps a copy of the table there and, where there is room, a bit a piece. `continues`: the reply follows a text. */
void grammar_begin(grammar *g, const tlm_model *model, const void *table, size_t bytes, void *work, size_t cap,
                   bool continues, bool stops);
/* tlm_sampler.allowed; ctx is the grammar. */
bool grammar_allowed(void *ctx, uint32_t id);
/* Takes a token that was allowed. True: nothing may follow. */
bool grammar_take(grammar *g, uint32_t id);

#endif
