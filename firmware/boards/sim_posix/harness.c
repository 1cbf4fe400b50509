#include "harness.h"

#include <stdlib.h>
#include <string.h>

struct harness {
    sim_board sim;
    app_t app;
    uint8_t *in;
    size_t in_n, in_at, in_cap;
    uint8_t *out;
    size_t out_n, out_cap;
};

static size_t take_input(void *ctx, uint8_t *data, size_t cap)
{
    harness *h = ctx;
    const size_t left = h->in_n - h->in_at, n = left < cap ? left : cap;
    if (n == 0)
        return 0;
    memcpy(data, h->in + h->in_at, n);
    h->in_at += n;
    if (h->in_at == h->in_n)
        h->in_at = h->in_n = 0;
    return n;
}

static bool grow(uint8_t **buffer, size_t *cap, size_t wanted)
{
    if (wanted <= *cap)
        return true;
    uint8_t *more = realloc(*buffer, wanted * 2);
    if (more == NULL)
        return false;
    *buffer = more;
    *cap = wanted * 2;
    return true;
}

static size_t keep_output(void *ctx, const uint8_t *data, size_t bytes)
{
    harness *h = ctx;
    if (!grow(&h->out, &h->out_cap, h->out_n + bytes))
        return 0;
    memcpy(h->out + h->out_n, data, bytes);
    h->out_n += bytes;
    return bytes;
}

static uint64_t virtual_clock(void *ctx)
{
    return ((harness *)ctx)->sim.clock;
}

harness *sim_new(const uint8_t *blob, size_t bytes, uint8_t *flash, uint32_t flash_bytes, uint8_t slots, uint32_t memory,
                 uint32_t context, const char *kv)
{
    harness *h = calloc(1, sizeof *h);
    sim_options o;
    if (h == NULL)
        return NULL;
    sim_options_default(&o);
    o.slots = slots;
    o.memory = memory;
    o.context = context;
    o.kv = kv;
    if (sim_board_init(&h->sim, &o) != NULL) {
        free(h);
        return NULL;
    }
    board *b = &h->sim.board;
    b->ctx = h;
    b->read = take_input;
    b->write = keep_output;
    b->clock_us = virtual_clock;
    b->fixed_model = blob;
    b->fixed_bytes = bytes;
    if (flash != NULL)
        sim_board_flash(&h->sim, flash, flash_bytes);
    return h;
}

void sim_free(harness *h)
{
    sim_board_free(&h->sim);
    free(h->in);
    free(h->out);
    free(h);
}

void sim_boot(harness *h, uint64_t random, uint64_t cut, uint64_t settings_cut)
{
    h->sim.random = random;
    h->sim.reboot_wanted = false;
    h->in_n = h->in_at = h->out_n = 0;
    sim_flash_power(&h->sim.models, cut);
    sim_flash_power(&h->sim.settings, settings_cut);
    app_init(&h->app, &h->sim.board);
}

void sim_feed(harness *h, const uint8_t *data, size_t bytes)
{
    if (grow(&h->in, &h->in_cap, h->in_n + bytes)) {
        memcpy(h->in + h->in_n, data, bytes);
        h->in_n += bytes;
    }
}

size_t sim_take(harness *h, uint8_t *data, size_t cap)
{
    const size_t n = h->out_n < cap ? h->out_n : cap;
    memcpy(data, h->out, n);
    memmove(h->out, h->out + n, h->out_n - n);
    h->out_n -= n;
    return n;
}

int sim_step(harness *h)
{
    return app_step(&h->app) || h->in_n > h->in_at;
}

void sim_advance(harness *h, uint64_t us)
{
    h->sim.clock += us;
}

uint16_t sim_session(const harness *h)
{
    return h->app.session;
}

uint64_t sim_flash_work(const harness *h)
{
    return h->sim.models.work;
}

int sim_state(const harness *h)
{
    return (h->sim.models.off ? 1 : 0) | (h->sim.models.misused || h->sim.settings.misused ? 2 : 0) |
           (h->sim.reboot_wanted ? 4 : 0) | (h->app.chat.busy || h->app.task != APP_NO_TASK ? 8 : 0);
}
