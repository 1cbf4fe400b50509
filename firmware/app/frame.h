/* Frames on the wire: 00 02 COBS(payload crc32) 00; everything else is text (host/PROTOCOL.md).
 *
 * Receiving takes one byte at a time and never holds more than one frame. Sending writes straight into a
 * ring: a frame that does not fit leaves nothing behind. */
#ifndef APP_FRAME_H
#define APP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol_gen.h"

#define FRAME_START 2u
#ifndef FRAME_TX_BYTES
#define FRAME_TX_BYTES 4096u /* a power of two, more than any one event */
#endif

/* CRC-32 as in zlib: start with 0 and feed the result back in. */
uint32_t app_crc32(uint32_t crc, const void *data, size_t bytes);

typedef enum frame_event {
    FRAME_NONE,    /* the byte was taken */
    FRAME_TEXT,    /* the byte is text */
    FRAME_PACKET,  /* payload and len are a whole, checked packet until the next byte */
    FRAME_DAMAGED, /* a frame ended that is none */
    FRAME_TOO_LONG /* a frame grew past the limit; the rest of it is skipped */
} frame_event;

typedef struct frame_rx {
    uint8_t payload[PROTO_MAX_PAYLOAD + 4u];
    uint16_t len;  /* of the payload, CRC not counted, after FRAME_PACKET */
    uint8_t state; /* private */
    uint8_t code, left;
} frame_rx;

void frame_rx_init(frame_rx *rx);
frame_event frame_rx_byte(frame_rx *rx, uint8_t byte);
/* True while the bytes so far belong to an unfinished frame. */
bool frame_rx_inside(const frame_rx *rx);

typedef struct frame_tx {
    uint8_t ring[FRAME_TX_BYTES];
    uint32_t head, tail; /* bytes ever written and ever sent */
    uint32_t mark, code_at, crc;
    uint8_t code;
    bool overflow;
} frame_tx;

void frame_tx_init(frame_tx *tx);
size_t frame_tx_room(const frame_tx *tx);
/* Bytes waiting at *data, without wrapping; frame_tx_sent says how many of them went out. */
size_t frame_tx_peek(const frame_tx *tx, const uint8_t **data);
void frame_tx_sent(frame_tx *tx, size_t bytes);

void frame_begin(frame_tx *tx);
void frame_put(frame_tx *tx, const void *data, size_t bytes);
bool frame_end(frame_tx *tx); /* false: there was no room, nothing was written */
/* Text outside frames; bytes 0 and 2 become '?'. Writes what fits. */
void frame_text(frame_tx *tx, const char *text, size_t bytes);

#endif
