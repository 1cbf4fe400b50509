/* M5Stack Cardputer: the chip's board with a screen, a keyboard and a card. Serial chat goes on beside it. */
#include "cardputer.h"
#include "esp_timer.h"
#include "s3.h"
#include "ui.h"

#define KEYS_EVERY_US 10000

static ui screen;
static ui_keys keys;

static void row(void *ctx, uint8_t number, ui_colour colour, const char *text)
{
    static const struct {
        uint16_t ink, paper; /* RGB 5-6-5 */
    } colours[] = {
        [UI_REPLY] = {0xFFFF, 0x0000}, [UI_PERSON] = {0x07FF, 0x0000}, [UI_NOTE] = {0xAD55, 0x0000},
        [UI_BAR] = {0x0000, 0xFD20},   [UI_INPUT] = {0xFFE0, 0x2104},  [UI_CHOSEN] = {0x0000, 0xFFFF},
    };
    (void)ctx;
    screen_row(number, colours[colour].ink, colours[colour].paper, text, UI_COLS);
}

static void brightness(void *ctx, uint8_t percent)
{
    (void)ctx;
    screen_brightness(percent);
}

static int battery(void *ctx)
{
    (void)ctx;
    return screen_battery();
}

static uint8_t files(void *ctx, char names[UI_FILES][UI_NAME])
{
    (void)ctx;
    return card_list(names, UI_FILES);
}

static bool read_file(void *ctx, uint32_t offset, void *data, uint32_t bytes)
{
    (void)ctx;
    return card_read(offset, data, bytes);
}

static bool open_file(void *ctx, const char *name, install_source *source)
{
    source->ctx = ctx;
    source->read = read_file;
    return card_open(name, &source->bytes);
}

static void close_file(void *ctx)
{
    (void)ctx;
    card_close();
}

static void ready(app_t *app)
{
    ui_attach(&screen, app);
}

static bool look_after(app_t *app)
{
    static int64_t looked;
    const int64_t now = esp_timer_get_time();
    (void)app;
    if (now - looked >= KEYS_EVERY_US) {
        looked = now;
        const uint64_t down = keyboard_down();
        for (uint8_t key = ui_keys_next(&keys, down, (uint64_t)now); key != UI_NO_KEY;
             key = ui_keys_next(&keys, down, (uint64_t)now))
            ui_key(&screen, key);
    }
    return ui_step(&screen);
}

void app_main(void);
void app_main(void)
{
    static const ui_screen parts = {NULL, row, brightness, battery, files, open_file, close_file};
    keyboard_open(screen_open()); /* before the app takes what memory is left */
    ui_init(&screen, &parts);
    const s3_extras extras = {.name = "cardputer", .ui = &screen.hooks, .ready = ready, .poll = look_after};
    s3_start(&extras);
}
