#include "frame.h"

#include <string.h>

enum { IN_TEXT, AFTER_ZERO, IN_FRAME, SKIPPING };

uint32_t app_crc32(uint32_t crc, const void *data, size_t bytes)
{
    /* Four bits at a time: 64 bytes of table instead of 1 KB, and flash is slower than this anyway. */
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                       0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const uint8_t *p = data;
    crc = ~crc;
    while (bytes-- > 0) {
        crc ^= *p++;
        crc = (crc >> 4) ^ table[crc & 15u];
        crc = (crc >> 4) ^ table[crc & 15u];
    }
    return ~crc;
}

/* ---- receiving ------------------------------------------------------------------------------------- */

void frame_rx_init(frame_rx *rx)
{
    rx->len = 0;
    rx->state = IN_TEXT;
    rx->code = rx->left = 0;
}

bool frame_rx_inside(const frame_rx *rx)
{
    return rx->state == IN_FRAME || rx->state == SKIPPING;
}

static frame_event rx_end(frame_rx *rx)
{
    const uint8_t state = rx->state;
    rx->state = AFTER_ZERO;
    if (state != IN_FRAME)
        return FRAME_NONE;
    if (rx->left != 0 || rx->len < PROTO_HEADER_BYTES + 4u)
        return FRAME_DAMAGED;
    const uint16_t len = (uint16_t)(rx->len - 4u);
    const uint8_t *c = rx->payload + len;
    const uint32_t crc = (uint32_t)c[0] | (uint32_t)c[1] << 8 | (uint32_t)c[2] << 16 | (uint32_t)c[3] << 24;
    if (crc != app_crc32(0, rx->payload, len))
        return FRAME_DAMAGED;
    rx->len = len;
    return FRAME_PACKET;
}

static frame_event rx_append(frame_rx *rx, uint8_t byte)
{
    if (rx->len == sizeof rx->payload) {
        rx->state = SKIPPING;
        return FRAME_TOO_LONG;
    }
    rx->payload[rx->len++] = byte;
    return FRAME_NONE;
}

static frame_event rx_inside(frame_rx *rx, uint8_t byte)
{
    if (rx->left > 0) {
        rx->left--;
        return rx_append(rx, byte);
    }
    const bool zero = rx->code != 0 && rx->code != 0xFF; /* the code before stood for a zero too */
    rx->code = byte;
    rx->left = (uint8_t)(byte - 1u);
    return zero ? rx_append(rx, 0) : FRAME_NONE;
}

frame_event frame_rx_byte(frame_rx *rx, uint8_t byte)
{
    if (byte == 0)
        return rx_end(rx);
    switch (rx->state) {
    case IN_FRAME:
        return rx_inside(rx, byte);
    case SKIPPING:
        return FRAME_NONE;
    case AFTER_ZERO:
        if (byte == FRAME_START) {
            frame_rx_init(rx);
            rx->state = IN_FRAME;
            return FRAME_NONE;
        }
        rx->state = IN_TEXT;
        return FRAME_TEXT;
    default:
        return FRAME_TEXT;
    }
}

/* ---- sending --------------------------------------------------------------------------------------- */

void frame_tx_init(frame_tx *tx)
{
    tx->head = tx->tail = tx->mark = tx->code_at = tx->crc = 0;
    tx->code = 0;
    tx->overflow = false;
}

size_t frame_tx_room(const frame_tx *tx)
{
    return FRAME_TX_BYTES - (tx->head - tx->tail);
}

size_t frame_tx_peek(const frame_tx *tx, const uint8_t **data)
{
    const uint32_t at = tx->tail % FRAME_TX_BYTES;
    const uint32_t waiting = tx->head - tx->tail;
    *data = tx->ring + at;
    return waiting < FRAME_TX_BYTES - at ? waiting : FRAME_TX_BYTES - at;
}

void frame_tx_sent(frame_tx *tx, size_t bytes)
{
    tx->tail += (uint32_t)bytes;
}

static void tx_byte(frame_tx *tx, uint8_t byte)
{
    if (frame_tx_room(tx) == 0) {
        tx->overflow = true;
        return;
    }
    tx->ring[tx->head++ % FRAME_TX_BYTES] = byte;
}

static void tx_open_block(frame_tx *tx)
{
    tx->code_at = tx->head;
    tx->code = 1;
    tx_byte(tx, 0);
}

static void tx_close_block(frame_tx *tx)
{
    if (!tx->overflow)
        tx->ring[tx->code_at % FRAME_TX_BYTES] = tx->code;
}

static void tx_stuffed(frame_tx *tx, uint8_t byte)
{
    if (tx->code == 0xFF) { /* opened late, so that a full block at the very end has no empty one after it */
        tx_close_block(tx);
        tx_open_block(tx);
    }
    if (byte == 0) {
        tx_close_block(tx);
        tx_open_block(tx);
        return;
    }
    tx_byte(tx, byte);
    tx->code++;
}

void frame_begin(frame_tx *tx)
{
    tx->mark = tx->head;
    tx->overflow = false;
    tx->crc = 0;
    tx_byte(tx, 0);
    tx_byte(tx, FRAME_START);
    tx_open_block(tx);
}

void frame_put(frame_tx *tx, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    tx->crc = app_crc32(tx->crc, data, bytes);
    for (size_t i = 0; i < bytes && !tx->overflow; i++)
        tx_stuffed(tx, p[i]);
}

bool frame_end(frame_tx *tx)
{
    const uint32_t crc = tx->crc;
    for (unsigned shift = 0; shift < 32u && !tx->overflow; shift += 8u)
        tx_stuffed(tx, (uint8_t)(crc >> shift));
    tx_close_block(tx);
    tx_byte(tx, 0);
    if (tx->overflow)
        tx->head = tx->mark;
    return !tx->overflow;
}

void frame_text(frame_tx *tx, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        const uint8_t byte = (uint8_t)text[i];
        tx_byte(tx, byte == 0 || byte == FRAME_START ? '?' : byte);
    }
}
