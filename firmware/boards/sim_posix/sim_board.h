/* A board made of ordinary memory, for the desk (main.c) and for tests (harness.c). */
#ifndef SIM_BOARD_H
#define SIM_BOARD_H

#include "app.h"
#include "sim_flash.h"

#define SIM_SECTOR 4096u
#define SIM_SETTINGS_BYTES (2u * SIM_SECTOR)

typedef struct sim_options {
    const char *like;      /* a board whose memory, batch and head are taken over; NULL: the desk */
    uint32_t context;      /* 0 = the most that fits */
    const char *kv;        /* "f32", "f16", "i8", "i4", "i4/2"; NULL: the board's */
    uint32_t batch;        /* 0 = the board's */
    uint32_t head_rows;    /* UINT32_MAX = the board's */
    uint32_t memory;       /* bytes in one piece; 0 = the board's */
    const char *backend;   /* NULL = the best */
    const tlm_parallel *parallel;
    uint8_t slots;
} sim_options;

typedef struct sim_board {
    board board;
    sim_flash models, settings;
    void *memory;
    bool reboot_wanted;
    uint64_t clock; /* of a harness; the desk has its own */
    uint64_t random;
} sim_board;

void sim_options_default(sim_options *options);
/* NULL, or what is wrong with the options. Takes memory from malloc; line, clock and models are the caller's. */
const char *sim_board_init(sim_board *s, const sim_options *options);
void sim_board_free(sim_board *s);
/* Flash of `size` bytes for models, then SIM_SETTINGS_BYTES for settings, at `bytes`. */
void sim_board_flash(sim_board *s, uint8_t *bytes, uint32_t size);

#endif
