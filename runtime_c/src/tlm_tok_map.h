/* The character map of the normaliser: sequences of characters and what they become. */
#ifndef TLM_TOK_MAP_H
#define TLM_TOK_MAP_H

#include "tlm_tok.h"

#define TLM_TOK_MAP_VALUE 64u /* most bytes that one sequence becomes */

/* Looks up the longest sequence that starts at s. Returns its bytes (0 when there is none), and what it
 * becomes in `value`, *len bytes. */
size_t tlm_tok_map(const tlm_tok *tok, const uint8_t *s, size_t n, uint8_t value[TLM_TOK_MAP_VALUE], size_t *len);
tlm_err tlm_tok_map_check(const tlm_tok *tok);

#endif
