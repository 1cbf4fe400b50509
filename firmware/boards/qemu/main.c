/* The firmware on an emulated machine: two pieces of memory as on a small chip, flash with two model slots. */
#include <string.h>

#include "app.h"
#include "plat.h"

#ifndef PIECE0_BYTES
#define PIECE0_BYTES 196608u
#endif
#ifndef PIECE1_BYTES
#define PIECE1_BYTES 98304u
#endif
#define SETTINGS_SECTORS 2u
#define PAINT 0xA5u

static uint8_t piece0[PIECE0_BYTES] __attribute__((aligned(64)));
static uint8_t piece1[PIECE1_BYTES] __attribute__((aligned(64)));
static app_t app;
static board self;
static board_flash models, settings;
static bool reboot_wanted;

/* ---- flash: `ctx` is the offset of the region ------------------------------------------------------- */

static const uint32_t models_at = 0;
static uint32_t settings_at;

static uint32_t region(const void *ctx)
{
    return *(const uint32_t *)ctx;
}

static bool flash_read(void *ctx, uint32_t offset, void *data, uint32_t bytes)
{
    memcpy(data, plat_flash_base() + region(ctx) + offset, bytes);
    return true;
}

static bool flash_write(void *ctx, uint32_t offset, const void *data, uint32_t bytes)
{
    return plat_flash_write(region(ctx) + offset, data, bytes);
}

static bool flash_erase(void *ctx, uint32_t offset, uint32_t bytes)
{
    for (uint32_t at = 0; at < bytes; at += plat_flash_sector)
        if (!plat_flash_erase(region(ctx) + offset + at))
            return false;
    return true;
}

static const void *flash_map(void *ctx, uint32_t offset, uint32_t bytes)
{
    (void)bytes;
    return plat_flash_base() + region(ctx) + offset;
}

static void flash_unmap(void *ctx, const void *address)
{
    (void)ctx;
    (void)address;
}

static void cut_flash(board_flash *f, const uint32_t *at, uint32_t bytes)
{
    f->ctx = (void *)(uintptr_t)at;
    f->bytes = bytes;
    f->erase_bytes = plat_flash_sector;
    f->read = flash_read;
    f->write = flash_write;
    f->erase = flash_erase;
    f->map = flash_map;
    f->unmap = flash_unmap;
}

/* ---- board ------------------------------------------------------------------------------------------ */

static size_t line_read(void *ctx, uint8_t *data, size_t cap)
{
    (void)ctx;
    return plat_read(data, cap);
}

static size_t line_write(void *ctx, const uint8_t *data, size_t bytes)
{
    (void)ctx;
    return plat_write(data, bytes);
}

static uint64_t clock_us(void *ctx)
{
    (void)ctx;
    return plat_clock_us();
}

/* No true randomness here: the moment of the call stirs a generator. */
static uint64_t random(void *ctx)
{
    static uint64_t state = 0x853c49e6748fea9bu;
    (void)ctx;
    state = (state ^ plat_clock_us()) * 6364136223846793005u + 1442695040888963407u;
    return state;
}

static void reboot(void *ctx)
{
    (void)ctx;
    reboot_wanted = true;
}

static void facts(void *ctx, board_facts *f)
{
    (void)ctx;
    f->chip = plat_chip;
    f->flash_mode = plat_flash_mode;
}

static void paint_stack(void)
{
    uint32_t bytes;
    volatile uint8_t *at = plat_stack(&bytes);
    const volatile uint8_t here = 0;
    while (at + 256 < &here) /* a margin for this frame and what interrupts might use */
        *at++ = PAINT;
}

static uint32_t stack_high_water(uint32_t *bytes)
{
    const uint8_t *at = plat_stack(bytes);
    uint32_t untouched = 0;
    while (untouched < *bytes && at[untouched] == PAINT)
        untouched++;
    return *bytes - untouched;
}

/* The one measurement of an emulator that means something: memory. */
static bool bench(void *ctx, uint8_t which, uint32_t argument, void (*row)(void *to, const board_measure *m), void *to)
{
    uint32_t bytes;
    (void)ctx;
    (void)which;
    (void)argument;
    const uint32_t used = stack_high_water(&bytes);
    const board_measure rows[] = {{"stack high water", "B", "since power on", (float)used},
                                  {"stack", "B", "reserved", (float)bytes},
                                  {"app_t", "B", "all state of the app", (float)sizeof(app_t)}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        row(to, &rows[i]);
    return true;
}

static void fill_board(void)
{
    const uint32_t keep = SETTINGS_SECTORS * plat_flash_sector;
    settings_at = plat_flash_bytes - keep;
    cut_flash(&models, &models_at, settings_at);
    cut_flash(&settings, &settings_at, keep);
    self.name = plat_name;
    self.read = line_read;
    self.write = line_write;
    self.max_text = 512;
    self.window = 1024; /* a UART with 16 bytes of FIFO; QEMU waits for it */
    self.clock_us = clock_us;
    self.random = random;
    self.reboot = reboot;
    self.facts = facts;
    self.models = &models;
    self.slots = 2;
    self.settings = &settings;
    self.pieces[0].base = piece0;
    self.pieces[0].bytes = sizeof piece0;
    self.pieces[1].base = piece1;
    self.pieces[1].bytes = sizeof piece1;
    self.n_pieces = 2;
    self.session.batch = TLM_MAX_BATCH;
    self.session.batch_in_pages = true;
    self.session.head_rows = 256;
    self.session.pin = true; /* no faster here, but tested */
    self.benches = 1;
    self.bench = bench;
}

int main(void)
{
    paint_stack();
    plat_init();
    fill_board();
    app_init(&app, &self);
    for (;;) {
        (void)app_step(&app);
        if (reboot_wanted) {
            reboot_wanted = false;
            app_init(&app, &self);
        }
    }
}

/* picolibc's startup and abort refer to it; there is nowhere to go. */
void _exit(int status);
void _exit(int status)
{
    (void)status;
    for (;;) {
    }
}
