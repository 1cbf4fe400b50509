/* The chat screen on a simulated board: Python presses keys and reads rows. */
#include <stdlib.h>
#include <string.h>

#include "sim_board.h"
#include "ui.h"

typedef struct probe {
    sim_board sim;
    app_t app;
    ui ui;
    ui_screen screen;
    uint64_t clock;
    char rows[UI_ROWS][UI_COLS];
    uint8_t colours[UI_ROWS], brightness, fails;
    const uint8_t *card;
    uint32_t card_bytes, drawn, closed;
} probe;

static size_t nothing_read(void *ctx, uint8_t *data, size_t cap)
{
    (void)ctx;
    (void)data;
    (void)cap;
    return 0;
}

static size_t all_written(void *ctx, const uint8_t *data, size_t bytes)
{
    (void)ctx;
    (void)data;
    return bytes;
}

static uint64_t probe_clock(void *ctx)
{
    probe *p = ctx;
    return p->clock += 1000;
}

static void row(void *ctx, uint8_t number, ui_colour colour, const char *text)
{
    probe *p = ctx;
    memcpy(p->rows[number], text, UI_COLS);
    p->colours[number] = (uint8_t)colour;
    p->drawn++;
}

static void brightness(void *ctx, uint8_t percent)
{
    ((probe *)ctx)->brightness = percent;
}

static int battery(void *ctx)
{
    (void)ctx;
    return 87;
}

static uint8_t files(void *ctx, char names[UI_FILES][UI_NAME])
{
    const probe *p = ctx;
    strcpy(names[0], "model.tlm");
    return p->card != NULL ? 1 : 0;
}

static bool read_card(void *ctx, uint32_t offset, void *data, uint32_t bytes)
{
    probe *p = ctx;
    memcpy(data, p->card + offset, bytes);
    return p->fails == 0 || offset < p->card_bytes / 2u;
}

static bool open_card(void *ctx, const char *name, install_source *source)
{
    probe *p = ctx;
    source->ctx = ctx;
    source->read = read_card;
    source->bytes = p->card_bytes;
    return strcmp(name, "model.tlm") == 0;
}

static void close_card(void *ctx)
{
    ((probe *)ctx)->closed++;
}

probe *probe_new(const void *blob, size_t bytes, uint8_t *flash, uint32_t flash_bytes, uint8_t slots);
probe *probe_new(const void *blob, size_t bytes, uint8_t *flash, uint32_t flash_bytes, uint8_t slots)
{
    probe *p = calloc(1, sizeof *p);
    sim_options options;
    sim_options_default(&options);
    options.slots = slots;
    if (p == NULL || sim_board_init(&p->sim, &options) != NULL)
        return NULL;
    const ui_screen screen = {p, row, brightness, battery, files, open_card, close_card};
    p->screen = screen;
    ui_init(&p->ui, &p->screen);
    p->sim.board.ctx = p;
    p->sim.board.read = nothing_read;
    p->sim.board.write = all_written;
    p->sim.board.clock_us = probe_clock;
    p->sim.board.ui = &p->ui.hooks;
    if (flash != NULL) {
        sim_board_flash(&p->sim, flash, flash_bytes);
    } else {
        p->sim.board.fixed_model = blob;
        p->sim.board.fixed_bytes = bytes;
    }
    app_init(&p->app, &p->sim.board);
    ui_attach(&p->ui, &p->app);
    return p;
}

void probe_card(probe *p, const uint8_t *card, uint32_t bytes, uint8_t fails);
void probe_card(probe *p, const uint8_t *card, uint32_t bytes, uint8_t fails)
{
    p->card = card;
    p->card_bytes = bytes;
    p->fails = fails;
}

void probe_key(probe *p, uint8_t key);
void probe_key(probe *p, uint8_t key)
{
    ui_key(&p->ui, key);
}

void probe_turn(probe *p, const char *prompt, const char *first, const char *second);
void probe_turn(probe *p, const char *prompt, const char *first, const char *second)
{
    const board_ui *ui = &p->ui.hooks;
    ui->prompt(ui->ctx, prompt, strlen(prompt));
    ui->reply(ui->ctx, first, strlen(first));
    ui->reply(ui->ctx, second, strlen(second));
}

/* Steps until nothing is left to do, at most `steps`. Returns how many it took. */
uint32_t probe_run(probe *p, uint32_t steps);
uint32_t probe_run(probe *p, uint32_t steps)
{
    uint32_t n = 0;
    for (bool more = true; more && n < steps; n++) {
        more = app_step(&p->app);
        more = ui_step(&p->ui) || more;
    }
    return n;
}

const char *probe_row(const probe *p, uint8_t number, uint8_t *colour);
const char *probe_row(const probe *p, uint8_t number, uint8_t *colour)
{
    *colour = p->colours[number];
    return p->rows[number];
}

/* 0 rows drawn, 1 brightness, 2 card closed, 3 position, 4 model state, 5 mode, 6 temperature in tenths. */
uint32_t probe_value(probe *p, uint8_t which);
uint32_t probe_value(probe *p, uint8_t which)
{
    proto_settings s;
    app_settings(&p->app, &s);
    const uint32_t values[] = {p->drawn, p->brightness, p->closed, p->app.chat.n_ids, p->app.model_state, s.mode,
                               (uint32_t)(s.temperature * 10.0f + 0.5f)};
    return values[which];
}

/* As a host does it. */
uint16_t probe_light(probe *p, uint8_t percent);
uint16_t probe_light(probe *p, uint8_t percent)
{
    proto_settings s;
    memset(&s, 0, sizeof s);
    s.brightness = percent;
    return app_settings_set(&p->app, &s, PROTO_SETTINGS_FIELD_BRIGHTNESS);
}

void probe_free(probe *p);
void probe_free(probe *p)
{
    sim_board_free(&p->sim);
    free(p);
}
