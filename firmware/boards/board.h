/* What a board gives to the app: plain C function pointers, no vendor header.
 *
 * A board fills one `board` and calls app_init once and app_step for ever. All functions get `ctx`, none may
 * block for long, none is called from another thread or an interrupt. What a board lacks is NULL or 0.
 * Memory and flash are granted for as long as the app runs. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tlm.h"

/* A region of flash. Erased bytes read 0xFF; writing clears bits. Offsets count from the region's start. */
typedef struct board_flash {
    void *ctx;
    uint32_t bytes;       /* a multiple of erase_bytes */
    uint32_t erase_bytes; /* a sector: what one erase clears, a multiple of 256 */
    bool (*read)(void *ctx, uint32_t offset, void *data, uint32_t bytes);
    /* Offset and bytes are multiples of 4, `data` is 4-aligned. May be called again for the same bytes if
     * it only clears bits. */
    bool (*write)(void *ctx, uint32_t offset, const void *data, uint32_t bytes);
    bool (*erase)(void *ctx, uint32_t offset, uint32_t bytes); /* whole sectors */
    /* A readable address of `bytes` bytes from `offset` on, 16-byte aligned when `offset` is, valid until
     * unmap. What is mapped is never written. At most two mappings are held at a time. */
    const void *(*map)(void *ctx, uint32_t offset, uint32_t bytes);
    void (*unmap)(void *ctx, const void *address);
} board_flash;

/* Facts for `info`; they may change. */
typedef struct board_facts {
    const char *chip;       /* "esp32s3 rev 0.2" */
    const char *flash_mode; /* what is in force: "QIO 80 MHz", "file", "RAM" */
    const char *warning;    /* one sentence, or NULL */
    bool flash_slow;        /* flash runs slower than this board can */
    uint32_t heap_free, psram;
    uint16_t cpu_mhz, cache_line;
} board_facts;

/* One number of a measurement. */
typedef struct board_measure {
    const char *name, *unit, *note;
    float value;
} board_measure;

/* What the app tells a screen. Texts are UTF-8, not NUL-terminated, whole characters. */
typedef struct ui_status {
    const char *model;        /* name, or NULL: no model */
    const char *licence, *attribution;
    uint16_t error;           /* PROTO_ERROR_* why there is no model to talk to, or 0 */
    uint32_t context, position;
    bool busy;                /* a reply is under way */
    uint32_t prefill_at, prefill_of;
    uint32_t tokens, decode_us; /* of the reply so far */
} ui_status;

typedef struct board_ui {
    void *ctx;
    void (*prompt)(void *ctx, const char *text, size_t bytes); /* somebody's words, from wherever */
    void (*reply)(void *ctx, const char *text, size_t bytes);  /* more of the reply */
    void (*done)(void *ctx, uint8_t reason);                   /* PROTO_REASON_* */
    void (*status)(void *ctx, const ui_status *status);        /* something in it changed */
} board_ui;

typedef struct board {
    void *ctx;
    const char *name; /* folder name under firmware/boards */

    /* Serial line. Both return at once with what could be moved. */
    size_t (*read)(void *ctx, uint8_t *data, size_t cap);
    size_t (*write)(void *ctx, const uint8_t *data, size_t bytes);
    uint32_t stall_ms; /* output that nobody takes for so long is thrown away; 0 = never */
    uint16_t max_text; /* longest prompt in bytes; costs 25 bytes of memory each */
    uint32_t window;   /* bytes that the receiver can hold while the app is busy with flash */

    uint64_t (*clock_us)(void *ctx);
    uint64_t (*random)(void *ctx); /* true randomness if there is any */
    void (*reboot)(void *ctx);     /* does not return on a chip */
    void (*facts)(void *ctx, board_facts *facts);

    const void *fixed_model; /* a blob outside the store, used when there is no `models` */
    size_t fixed_bytes;
    const board_flash *models; /* the model partition */
    uint8_t slots;             /* into how many equal slots it is divided: 1 or 2 */
    const board_flash *settings; /* at least two sectors */

    /* Memory for KV cache, activations and the app's own buffers: 64-byte aligned pieces. */
    tlm_mem pieces[TLM_MAX_PIECES];
    uint32_t n_pieces;

    /* How sessions are made: context and cache are the defaults of the settings. context 0 = the most
     * that fits; kv_groups 0 = the kind of cache that suits the model (chat_open). */
    tlm_config session;

    uint8_t benches; /* measurements; `bench` calls row for each number and returns false on a fault */
    bool (*bench)(void *ctx, uint8_t which, uint32_t argument, void (*row)(void *to, const board_measure *m), void *to);

    const board_ui *ui;
} board;

#endif
