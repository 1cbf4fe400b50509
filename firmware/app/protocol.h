/* The codec of the serial protocol: one walk over a table serves every message. */
#ifndef APP_PROTOCOL_H
#define APP_PROTOCOL_H

#include "frame.h"
#include "protocol_gen.h"

typedef struct proto_header {
    uint8_t type;
    uint16_t session, request;
} proto_header;

void proto_read_header(const uint8_t *payload, proto_header *header);

/* Fields of `body` into the struct of message `type`. Spans point into `body`. false: cut off, or no such
 * message. Bytes after the last field are a newer version's. */
bool proto_decode(uint8_t type, const uint8_t *body, size_t bytes, void *message);
bool proto_known(uint8_t type);

/* Sends the struct of message `type` (NULL when it has no fields). false: no room. */
bool proto_send(frame_tx *tx, const proto_header *header, const void *message);

const char *proto_error_text(uint16_t code);
proto_span proto_text(const char *text); /* a span of a C string; NULL is empty */

#endif
