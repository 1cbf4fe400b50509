/* From token ids to the text of a reply: whole UTF-8 characters, ended by stop strings.
 *
 * Stop strings may span tokens, so text that may still become one is held back. The result depends on the ids
 * alone: replaying them gives the same pieces. */
#ifndef APP_REPLY_H
#define APP_REPLY_H

#include "tlm.h"

#define REPLY_MAX_STOP 128u /* longer stop strings never match */
/* A piece may consist of bytes that each become U+FFFD. */
#define REPLY_HOLD (REPLY_MAX_STOP + 3u * (TLM_MAX_PIECE + 4u))

typedef struct reply_text {
    const tlm_model *model;
    tlm_decoder decoder;
    bool stops;
    char text[REPLY_HOLD];
    size_t held;     /* bytes at text + given that wait */
    size_t given;    /* bytes at the front that the last call released */
    uint32_t total;  /* bytes released so far */
    uint32_t crc;    /* of these */
} reply_text;

/* `continues`: the reply follows a text, so that a space at its beginning stays. */
void reply_init(reply_text *r, const tlm_model *model, bool stops, bool continues);
/* Takes a token; text[0..given) is then what it released. *stopped: a stop string is complete, and `given` ends
 * before it; the reply is over. */
tlm_err reply_add(reply_text *r, uint32_t id, bool *stopped);
/* Releases what is held, an unfinished character too. */
void reply_end(reply_text *r);

#endif
