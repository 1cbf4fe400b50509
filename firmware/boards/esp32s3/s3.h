/* What all ESP32-S3 boards share: the board filled from ESP-IDF, the task that runs the app, the five measurements.
 *
 *   s3_start(&extras);   from app_main; returns at once, the app runs in a task of its own on core 0
 */
#ifndef S3_H
#define S3_H

#include "app.h"

/* What a board adds to the chip. All may be NULL or 0. */
typedef struct s3_extras {
    const char *name; /* folder name under firmware/boards */
    const board_ui *ui;
    void (*ready)(app_t *app); /* once, after app_init */
    bool (*poll)(app_t *app);  /* between steps, a few milliseconds at most; true: there is more to do at once */
    uint32_t reserve;          /* bytes of internal heap that stay free beside S3_RESERVE */
} s3_extras;

#define S3_RESERVE 18432u /* of internal heap for drivers and ESP-IDF itself */

void s3_start(const s3_extras *extras);

/* s3_line.c: UART0 or USB-Serial-JTAG, whichever Kconfig says; and log lines, which wait for a gap between frames. */
bool s3_line_open(void);
size_t s3_line_read(void *ctx, uint8_t *data, size_t cap);
size_t s3_line_write(void *ctx, const uint8_t *data, size_t bytes);
bool s3_line_active(void); /* true: bytes came since the last call */
extern const uint32_t s3_line_window;
void s3_log_open(void);               /* from now on log lines wait here */
size_t s3_log_take(char *text, size_t cap);

/* s3_flash.c: partitions found by label. NULL where the table has none. */
const board_flash *s3_flash_models(uint8_t *slots);
const board_flash *s3_flash_settings(void);

/* s3_memory.c: the largest free blocks of the heap, internal ones first. */
uint32_t s3_memory_take(tlm_mem pieces[TLM_MAX_PIECES], uint32_t reserve);

/* s3_parallel.c: this core and a worker on core 1. */
bool s3_parallel_open(tlm_parallel *parallel);

/* s3_facts.c */
void s3_facts(void *ctx, board_facts *facts);
uint32_t s3_flash_mhz(void);

/* s3_bench.c: `ctx` is the app_t. */
#define S3_BENCHES 5u
bool s3_bench(void *ctx, uint8_t which, uint32_t argument, void (*row)(void *to, const board_measure *m), void *to);

#endif
