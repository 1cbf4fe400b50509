/* Feeds streams of bytes to the app on a simulated board, under sanitizers: app_fuzz BLOB STREAMS.
 * STREAMS: items of u8 kind, u32 length, bytes. After each stream the board must still answer a hello. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static uint8_t *load(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        return NULL;
    *bytes = (size_t)ftell(file);
    rewind(file);
    void *data = NULL;
    if (posix_memalign(&data, 64, *bytes) != 0 || fread(data, 1, *bytes, file) != *bytes)
        return NULL;
    (void)fclose(file);
    return data;
}

/* A hello with request 0x7777 and no host name, as tinychat would frame it. */
static size_t hello(uint8_t *out)
{
    frame_tx tx;
    const uint8_t *data;
    const proto_header header = {PROTO_HELLO, 0, 0x7777};
    const proto_hello m = {PROTO_VERSION_MAJOR, PROTO_VERSION_MINOR, {"", 0}};
    frame_tx_init(&tx);
    (void)proto_send(&tx, &header, &m);
    const size_t n = frame_tx_peek(&tx, &data);
    memcpy(out, data, n);
    return n;
}

static bool settle(harness *h)
{
    for (int i = 0; i < 300000; i++) {
        sim_advance(h, 1000);
        const bool more = sim_step(h) != 0;
        if ((sim_state(h) & 4) != 0)
            sim_boot(h, (uint64_t)i, 0, 0);
        else if (!more)
            return true;
    }
    return false;
}

static bool answers(harness *h)
{
    static uint8_t out[1 << 16];
    uint8_t frame[128];
    static frame_rx rx;
    frame_rx_init(&rx);
    sim_advance(h, 3000000);
    while (sim_take(h, out, sizeof out) > 0) {
    }
    sim_feed(h, frame, hello(frame));
    if (!settle(h))
        return false;
    const size_t n = sim_take(h, out, sizeof out);
    for (size_t i = 0; i < n; i++)
        if (frame_rx_byte(&rx, out[i]) == FRAME_PACKET && rx.payload[0] == PROTO_WELCOME)
            return true;
    return false;
}

enum { BYTES, PAYLOAD, SETTLE, END };

/* Feeds one item; a PAYLOAD gets the session that the board is in, a checksum and a frame. */
static bool item(harness *h, uint8_t kind, const uint8_t *data, uint32_t length)
{
    static frame_tx tx;
    uint8_t *exact = malloc(length + 1u); /* so that reading past the end is seen */
    memcpy(exact, data, length);
    if (kind == PAYLOAD) {
        const uint16_t session = sim_session(h);
        exact[2] = (uint8_t)session;
        exact[3] = (uint8_t)(session >> 8);
        frame_tx_init(&tx);
        frame_begin(&tx);
        frame_put(&tx, exact, length);
        const bool whole = frame_end(&tx);
        const uint8_t *out;
        const size_t n = frame_tx_peek(&tx, &out);
        if (whole)
            sim_feed(h, out, n);
    } else {
        sim_feed(h, exact, length);
    }
    free(exact);
    if (kind == END)
        return settle(h) && answers(h);
    return kind != SETTLE || settle(h);
}

int main(int argc, char **argv)
{
    static uint8_t flash[(1u << 18) + SIM_SETTINGS_BYTES] __attribute__((aligned(64)));
    size_t blob_bytes = 0, bytes = 0;
    unsigned count = 0;
    uint8_t *blob = argc == 3 ? load(argv[1], &blob_bytes) : NULL;
    uint8_t *streams = argc == 3 ? load(argv[2], &bytes) : NULL;
    if (blob == NULL || streams == NULL)
        return 2;
    memset(flash, 0xFF, sizeof flash);
    harness *boards[2] = {sim_new(blob, blob_bytes, NULL, 0, 1, 4u << 20, 0, "i8"),
                          sim_new(NULL, 0, flash, 1u << 18, 2, 4u << 20, 0, "i8")};
    for (int b = 0; b < 2; b++)
        sim_boot(boards[b], (uint64_t)b, 0, 0);
    for (size_t at = 0; at + 5 <= bytes;) {
        uint32_t length;
        const uint8_t kind = streams[at];
        memcpy(&length, streams + at + 1, 4);
        for (int b = 0; b < 2; b++)
            if (!item(boards[b], kind, streams + at + 5, length)) {
                printf("stream %u: board %d no longer answers\n", count, b);
                return 1;
            }
        at += 5u + length;
        count += kind == END;
    }
    printf("%u streams\n", count);
    for (int b = 0; b < 2; b++)
        sim_free(boards[b]);
    free(blob);
    free(streams);
    return 0;
}
