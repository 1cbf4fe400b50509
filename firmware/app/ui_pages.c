/* The pages beside the chat: settings, models on the card, about. */
#include <string.h>

#include "ui.h"

enum { ROW_TEMPERATURE, ROW_TOP_K, ROW_LENGTH, ROW_MODE, ROW_BRIGHTNESS, ROW_NEW, SETTING_ROWS };

static const uint16_t top_ks[] = {1, 5, 10, 20, 40, 80, 0}; /* 0: as many as there are */
static const uint16_t lengths[] = {16, 32, 64, 128, 256, 512, 0}; /* 0: the model's own */
#define COUNT(list) (sizeof(list) / sizeof(list)[0])

/* ---- settings --------------------------------------------------------------------------------------- */

static void put_or(ui_out *out, uint32_t value, const char *zero)
{
    if (value == 0)
        ui_put(out, zero);
    else
        ui_put_number(out, value);
}

static void setting_text(const ui *u, uint8_t row, ui_out *out)
{
    proto_settings s;
    app_settings(u->app, &s);
    switch (row) {
    case ROW_TEMPERATURE:
        ui_put(out, "temperature   ");
        ui_put_tenths(out, (uint32_t)(s.temperature * 10.0f + 0.5f));
        break;
    case ROW_TOP_K:
        ui_put(out, "top-k         ");
        put_or(out, s.top_k, "all");
        break;
    case ROW_LENGTH:
        ui_put(out, "reply length  ");
        put_or(out, s.max_tokens, "the model's");
        break;
    case ROW_MODE:
        ui_put(out, "mode          ");
        ui_put(out, s.mode != PROTO_MODE_RAW ? "chat" : u->story ? "story" : "raw");
        break;
    case ROW_BRIGHTNESS:
        ui_put(out, "brightness    ");
        ui_put_number(out, s.brightness);
        ui_put(out, "%");
        break;
    case ROW_NEW:
        ui_put(out, "new conversation (ok)");
        break;
    default:
        break;
    }
}

/* The neighbour of `value` in a list; an unknown value counts as the first. */
static uint32_t neighbour(const uint16_t *list, size_t n, uint32_t value, bool more)
{
    size_t i = 0;
    while (i + 1u < n && list[i] != value)
        i++;
    return list[more ? (i + 1u < n ? i + 1u : i) : (i > 0 ? i - 1u : 0)];
}

static float other_temperature(float t, bool more)
{
    const int tenths = (int)(t * 10.0f + 0.5f) + (more ? 1 : -1);
    return (float)(tenths < 0 ? 0 : tenths > 20 ? 20 : tenths) / 10.0f;
}

/* chat, story (raw, each prompt a new text), raw. */
static void other_mode(ui *u, proto_settings *s, bool more)
{
    int at = s->mode != PROTO_MODE_RAW ? 0 : u->story ? 1 : 2;
    at = (at + (more ? 1 : 2)) % 3;
    u->story = at == 1;
    s->mode = at == 0 ? PROTO_MODE_CHAT : PROTO_MODE_RAW;
}

static void change(ui *u, bool more)
{
    proto_settings s;
    uint32_t mask = 0;
    app_settings(u->app, &s);
    switch (u->row) {
    case ROW_TEMPERATURE:
        s.temperature = other_temperature(s.temperature, more);
        mask = PROTO_SETTINGS_FIELD_TEMPERATURE;
        break;
    case ROW_TOP_K:
        s.top_k = neighbour(top_ks, COUNT(top_ks), s.top_k, more);
        mask = PROTO_SETTINGS_FIELD_TOP_K;
        break;
    case ROW_LENGTH:
        s.max_tokens = neighbour(lengths, COUNT(lengths), s.max_tokens, more);
        mask = PROTO_SETTINGS_FIELD_MAX_TOKENS;
        break;
    case ROW_MODE:
        other_mode(u, &s, more);
        mask = PROTO_SETTINGS_FIELD_MODE;
        break;
    case ROW_BRIGHTNESS:
        s.brightness = (uint8_t)(more ? (s.brightness < 90 ? s.brightness + 10 : 100) : s.brightness > 20 ? s.brightness - 10 : 10);
        mask = PROTO_SETTINGS_FIELD_BRIGHTNESS;
        break;
    default:
        return;
    }
    const uint16_t error = app_settings_set(u->app, &s, mask);
    if (error != PROTO_ERROR_NONE)
        ui_note(u, proto_error_text(error));
}

/* ---- about ------------------------------------------------------------------------------------------ */

/* Lines of a text, wrapped at the screen's width; the one wanted is copied. Returns how many there are. */
static uint8_t wrapped(const char *title, const char *text, uint8_t wanted, uint8_t first, char out[UI_COLS])
{
    uint8_t line = first;
    ui_out row = {out, 0};
    if (text == NULL)
        return line;
    if (line == wanted)
        ui_put(&row, title);
    line++;
    for (size_t left = strlen(text); left > 0; line++) {
        const size_t most = UI_COLS - 2u;
        size_t n = left < most ? left : most;
        while (n < left && n > 1u && text[n] != ' ' && n > most / 2u)
            n--;
        while (n < left && n > 1u && ((uint8_t)text[n] & 0xC0u) == 0x80u)
            n--;
        char part[UI_COLS + 1u];
        memcpy(part, text, n);
        part[n] = 0;
        if (line == wanted) {
            ui_put(&row, "  ");
            ui_put(&row, part);
        }
        text += n;
        left -= n;
        while (left > 0 && *text == ' ') {
            text++;
            left--;
        }
    }
    return line;
}

static void about_text(const ui *u, uint8_t row, char text[UI_COLS])
{
    uint8_t line = 0;
    const uint8_t wanted = (uint8_t)(row + u->row);
    line = wrapped("model", u->status.model, wanted, line, text);
    line = wrapped("licence", u->status.licence, wanted, line, text);
    line = wrapped("attribution", u->status.attribution, wanted, line, text);
    (void)wrapped("firmware", APP_FIRMWARE, wanted, line, text);
}

/* ---- all pages -------------------------------------------------------------------------------------- */

static uint8_t rows_of(const ui *u)
{
    return u->page == UI_SETTINGS ? SETTING_ROWS : u->page == UI_FILE_LIST ? u->n_files : 12u;
}

void ui_page_text(const ui *u, uint8_t row, char text[UI_COLS], ui_colour *colour)
{
    ui_out out = {text, 0};
    if (u->page == UI_ABOUT) {
        about_text(u, row, text);
        return;
    }
    if (row == 0) {
        *colour = UI_NOTE;
        ui_put(&out, u->page == UI_SETTINGS ? "Settings: fn with , and / changes"
                                            : u->n_files > 0 ? "Models on the card: ok installs" : "No models on a card");
        return;
    }
    const uint8_t first = u->page == UI_FILE_LIST && u->row > 9u ? (uint8_t)(u->row - 9u) : 0;
    const uint8_t item = (uint8_t)(row - 1u + first);
    if (item >= rows_of(u))
        return;
    *colour = item == u->row ? UI_CHOSEN : UI_REPLY;
    if (u->page == UI_SETTINGS)
        setting_text(u, item, &out);
    else
        ui_put(&out, u->files[item]);
}

static void choose(ui *u)
{
    install_source source;
    if (u->page == UI_SETTINGS && u->row == ROW_NEW) {
        app_new(u->app);
        ui_scroll_clear(&u->scroll);
        ui_page_open(u, UI_CHAT);
    }
    if (u->page != UI_FILE_LIST || u->row >= u->n_files || u->install.phase != INSTALL_IDLE)
        return;
    if (u->screen->open(u->screen->ctx, u->files[u->row], &source) && source.bytes > 0)
        install_begin(&u->install, &source);
    else
        ui_note(u, "(the file can not be read)");
}

void ui_page_open(ui *u, ui_page page)
{
    u->page = page;
    u->row = 0;
    if (page == UI_FILE_LIST)
        u->n_files = u->screen->files != NULL ? u->screen->files(u->screen->ctx, u->files) : 0;
}

void ui_page_key(ui *u, uint8_t key)
{
    if (key == UI_KEY_ESCAPE)
        ui_page_open(u, UI_CHAT);
    else if (key == UI_KEY_TAB)
        ui_page_open(u, u->page == UI_ABOUT ? UI_CHAT : (ui_page)(u->page + 1));
    else if (key == UI_KEY_UP && u->row > 0)
        u->row--;
    else if (key == UI_KEY_DOWN && u->row + 1u < rows_of(u))
        u->row++;
    else if (u->page == UI_SETTINGS && (key == UI_KEY_LEFT || key == UI_KEY_RIGHT))
        change(u, key == UI_KEY_RIGHT);
    else if (key == UI_KEY_ENTER)
        choose(u);
}
