#include "ui.h"

#include <string.h>

#define BODY_ROWS (UI_ROWS - 2u)

/* ---- rows ------------------------------------------------------------------------------------------- */

void ui_put(ui_out *out, const char *text)
{
    char ascii[3];
    size_t n;
    for (size_t left = strlen(text); left > 0;) {
        const size_t took = ui_ascii(text, left, ascii, &n);
        text += took;
        left -= took;
        for (size_t i = 0; i < n && out->at < UI_COLS; i++)
            out->text[out->at++] = ascii[i];
    }
}

void ui_put_number(ui_out *out, uint32_t value)
{
    char digits[11];
    size_t at = sizeof digits - 1u;
    digits[at] = 0;
    do
        digits[--at] = (char)('0' + value % 10u);
    while ((value /= 10u) != 0);
    ui_put(out, digits + at);
}

void ui_put_tenths(ui_out *out, uint32_t tenths)
{
    const char decimal[3] = {'.', (char)('0' + tenths % 10u), 0};
    ui_put_number(out, tenths / 10u);
    ui_put(out, decimal);
}

static void status_row(const ui *u, char text[UI_COLS])
{
    const ui_status *s = &u->status;
    ui_out out = {text, 0};
    ui_put(&out, s->model != NULL ? s->model : "no model");
    if (out.at > 18u) {
        out.at = 18;
        memset(text + 18, ' ', UI_COLS - 18u);
    }
    ui_put(&out, " ");
    if (u->install.phase != INSTALL_IDLE) {
        static const char *const words[] = {"", "reading ", "writing ", "checking "};
        ui_put(&out, words[u->install.phase]);
        ui_put_number(&out, (uint32_t)((uint64_t)u->install.at * 100u / u->install.source.bytes));
        ui_put(&out, "%");
    } else if (s->busy && s->tokens == 0 && s->prefill_of > 0) {
        ui_put_number(&out, s->prefill_at);
        ui_put(&out, "/");
        ui_put_number(&out, s->prefill_of);
    } else if (s->tokens > 1u && s->decode_us > 0) {
        ui_put_tenths(&out, (uint32_t)((uint64_t)(s->tokens - 1u) * 10000000u / s->decode_us));
        ui_put(&out, " tok/s");
    }
    const int battery = u->screen->battery != NULL ? u->screen->battery(u->screen->ctx) : -1;
    if (battery >= 0) {
        out.at = UI_COLS - 4u;
        ui_put_number(&out, (uint32_t)(battery < 100 ? battery : 100));
        ui_put(&out, "%");
    }
}

/* The end of what is typed, with a cursor. */
static void input_row(const ui *u, char text[UI_COLS])
{
    const size_t room = UI_COLS - 3u, n = u->n_typed < room ? u->n_typed : room;
    memcpy(text, "> ", 2);
    memcpy(text + 2, u->typed + (u->n_typed - n), n);
    text[2u + n] = '_';
    if (u->status.busy && u->n_typed == 0)
        memcpy(text, "Esc stops", 9);
}

static ui_colour body_row(const ui *u, uint8_t row, char text[UI_COLS])
{
    ui_colour colour = UI_REPLY;
    if (u->page != UI_CHAT) {
        ui_page_text(u, row, text, &colour);
        return colour;
    }
    const ui_line *line = ui_scroll_line(&u->scroll, u->back + (BODY_ROWS - 1u - row));
    if (line == NULL)
        return colour;
    memcpy(text, line->text, line->bytes);
    return (ui_colour)line->speaker;
}

static void draw(ui *u)
{
    for (uint8_t row = 0; row < UI_ROWS; row++) {
        char text[UI_COLS];
        ui_colour colour = UI_INPUT;
        memset(text, ' ', sizeof text);
        if (row == 0) {
            colour = UI_BAR;
            status_row(u, text);
        } else if (row < UI_ROWS - 1u) {
            colour = body_row(u, (uint8_t)(row - 1u), text);
        } else if (u->page == UI_CHAT) {
            input_row(u, text);
        } else {
            memcpy(text, "Esc: back  Tab: next page", 25);
        }
        if (u->drawn && u->colours[row] == (uint8_t)colour && memcmp(text, u->shown[row], sizeof text) == 0)
            continue;
        memcpy(u->shown[row], text, sizeof text);
        u->colours[row] = (uint8_t)colour;
        u->screen->row(u->screen->ctx, row, colour, text);
    }
    u->drawn = true;
}

/* ---- what the app tells ----------------------------------------------------------------------------- */

static void on_prompt(void *ctx, const char *text, size_t bytes)
{
    ui *u = ctx;
    ui_scroll_begin(&u->scroll, UI_PERSON);
    ui_scroll_add(&u->scroll, text, bytes);
    ui_scroll_begin(&u->scroll, UI_REPLY);
    u->back = 0;
}

/* Nothing of the reply is there yet. */
static bool reply_begins(const ui *u)
{
    const ui_line *newest = ui_scroll_line(&u->scroll, 0), *older = ui_scroll_line(&u->scroll, 1);
    return newest != NULL && newest->bytes == 0 && (older == NULL || older->speaker != UI_REPLY);
}

/* The space between a prompt and its reply is the line's break. */
static void on_reply(void *ctx, const char *text, size_t bytes)
{
    ui *u = ctx;
    const uint32_t before = u->scroll.begun;
    for (const bool begins = reply_begins(u); begins && bytes > 0 && *text == ' '; bytes--)
        text++;
    ui_scroll_add(&u->scroll, text, bytes);
    if (u->back != 0) /* who reads older lines keeps them in view */
        u->back += u->scroll.begun - before;
}

static void on_done(void *ctx, uint8_t reason)
{
    ui *u = ctx;
    if (reason == PROTO_REASON_STOPPED)
        ui_note(u, "(stopped)");
    else if (reason == PROTO_REASON_CONTEXT)
        ui_note(u, "(the context is full)");
    else if (reason == PROTO_REASON_ERROR)
        ui_note(u, "(the reply failed)");
}

/* As the settings say, whoever changed them. */
static void show_brightness(ui *u)
{
    proto_settings s;
    if (u->app == NULL || u->screen->brightness == NULL)
        return;
    app_settings(u->app, &s);
    if (u->lit && s.brightness == u->brightness)
        return;
    u->lit = true;
    u->brightness = s.brightness;
    u->screen->brightness(u->screen->ctx, s.brightness);
}

static void on_status(void *ctx, const ui_status *status)
{
    ui *u = ctx;
    u->status = *status;
    show_brightness(u);
}

void ui_note(ui *u, const char *text)
{
    ui_scroll_begin(&u->scroll, UI_NOTE);
    ui_scroll_add(&u->scroll, text, strlen(text));
}

/* ---- typing ----------------------------------------------------------------------------------------- */

static void enter(ui *u)
{
    if (u->n_typed == 0 || u->status.busy)
        return;
    if (u->story)
        app_new(u->app);
    const uint16_t error = app_say(u->app, u->typed, u->n_typed);
    if (error == PROTO_ERROR_NONE)
        u->n_typed = 0;
    else
        ui_note(u, proto_error_text(error));
    u->back = 0;
}

static void scroll_by(ui *u, bool up)
{
    const uint32_t count = ui_scroll_count(&u->scroll);
    const uint32_t most = count > BODY_ROWS ? count - BODY_ROWS : 0;
    if (u->back > most)
        u->back = most;
    if (up && u->back < most)
        u->back++;
    else if (!up && u->back > 0)
        u->back--;
}

static void chat_key(ui *u, uint8_t key)
{
    if (key == UI_KEY_ESCAPE)
        app_stop(u->app);
    else if (key == UI_KEY_TAB)
        ui_page_open(u, UI_SETTINGS);
    else if (key == UI_KEY_ENTER)
        enter(u);
    else if (key == UI_KEY_UP || key == UI_KEY_DOWN)
        scroll_by(u, key == UI_KEY_UP);
    else if (key == UI_KEY_RUB_OUT && u->n_typed > 0)
        u->n_typed--;
    else if (key >= 32u && key < 127u && u->n_typed < sizeof u->typed)
        u->typed[u->n_typed++] = (char)key;
}

void ui_key(ui *u, uint8_t key)
{
    if (key == UI_NO_KEY || u->app == NULL)
        return;
    if (u->page == UI_CHAT)
        chat_key(u, key);
    else
        ui_page_key(u, key);
}

static void go_on_installing(ui *u)
{
    const uint16_t error = install_step(&u->install, u->app);
    if (u->install.phase != INSTALL_IDLE)
        return;
    u->screen->close(u->screen->ctx);
    ui_note(u, error == PROTO_ERROR_NONE ? "(the model is installed)" : proto_error_text(error));
    ui_page_open(u, UI_CHAT);
}

bool ui_step(ui *u)
{
    if (u->app != NULL && u->install.phase != INSTALL_IDLE)
        go_on_installing(u);
    draw(u);
    return u->install.phase != INSTALL_IDLE;
}

void ui_init(ui *u, const ui_screen *screen)
{
    const board_ui hooks = {u, on_prompt, on_reply, on_done, on_status};
    memset(u, 0, sizeof *u);
    u->screen = screen;
    u->hooks = hooks;
}

void ui_attach(ui *u, app_t *app)
{
    u->app = app;
    show_brightness(u);
    if (u->status.error != PROTO_ERROR_NONE)
        ui_note(u, proto_error_text(u->status.error));
    ui_note(u, "Type and press ok. Tab: settings, models, about. fn with ; and . scrolls.");
}
