/* A person at a plain terminal: a line editor of the simplest kind, and a few commands. */
#include <string.h>

#include "app_parts.h"

#define QUIET_US 2000000u /* after a frame, text is taken for the rest of a damaged one */
#define SETTLE_US 50000u
#define CTRL_C 3u

static void put(app_t *app, const char *text)
{
    frame_text(&app->tx, text, strlen(text));
}

static void put_number(app_t *app, uint32_t value)
{
    char digits[10];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + value % 10u);
    while ((value /= 10u) != 0);
    while (n > 0)
        frame_text(&app->tx, &digits[--n], 1);
}

/* `value` thousandths with `places` of its three decimals. */
static void put_thousandths(app_t *app, uint32_t value, unsigned places)
{
    char decimals[4] = {'.', (char)('0' + value / 100u % 10u), (char)('0' + value / 10u % 10u), (char)('0' + value % 10u)};
    put_number(app, value / 1000u);
    frame_text(&app->tx, decimals, places + 1u);
}

static void put_span(app_t *app, proto_span span)
{
    const char *text = span.data;
    for (size_t i = 0; i < span.len; i++) { /* a bare line feed climbs down stairs */
        if (text[i] == '\n')
            put(app, "\r");
        frame_text(&app->tx, text + i, 1);
    }
}

static void put_error(app_t *app, uint16_t error)
{
    put(app, "! ");
    put(app, proto_error_text(error));
    put(app, "\r\n> ");
}

void terminal_hello(app_t *app)
{
    const char *name = app->chat.open ? tlm_model_info(&app->chat.model, "name") : NULL;
    put(app, "\r\n" APP_FIRMWARE " on ");
    put(app, app->board->name);
    if (app->model_state == PROTO_MODEL_STATE_READY) {
        put(app, ": ");
        put(app, name != NULL ? name : "a model");
        put(app, ", context ");
        put_number(app, app->chat.config.context);
        put(app, ". Type a line, or /help.\r\n");
    } else {
        put(app, ": ");
        put(app, proto_error_text(app->model_error));
        put(app, ".\r\n");
    }
    if (app->selfcheck != 0)
        put(app, "! the self-check failed: see /info\r\n");
    put(app, "> ");
}

/* ---- commands --------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t field;
} knobs[] = {
    {"temp", PROTO_SETTINGS_FIELD_TEMPERATURE},
    {"top_k", PROTO_SETTINGS_FIELD_TOP_K},
    {"top_p", PROTO_SETTINGS_FIELD_TOP_P},
    {"min_p", PROTO_SETTINGS_FIELD_MIN_P},
    {"penalty", PROTO_SETTINGS_FIELD_REPEAT_PENALTY},
    {"tokens", PROTO_SETTINGS_FIELD_MAX_TOKENS},
    {"raw", PROTO_SETTINGS_FIELD_MODE},
    {"context", PROTO_SETTINGS_FIELD_CONTEXT},
    {"echo", PROTO_SETTINGS_FIELD_ECHO},
};

/* A decimal with up to three places, in thousandths. false: no such number. */
static bool thousandths(const char *text, uint32_t *out)
{
    uint32_t value = 0, scale = 1000;
    bool point = false, any = false;
    for (; *text != 0; text++) {
        if (*text == '.' && !point) {
            point = true;
            continue;
        }
        if (*text < '0' || *text > '9' || value > 100000000u)
            return false;
        any = true;
        if (point && scale > 1u)
            value += (uint32_t)(*text - '0') * (scale /= 10u);
        else if (!point)
            value = value * 10u + (uint32_t)(*text - '0') * 1000u;
    }
    *out = value;
    return any;
}

static uint16_t set(app_t *app, const char *name, uint32_t value)
{
    proto_settings s;
    const float real = (float)value / 1000.0f;
    const uint32_t whole = value / 1000u;
    memset(&s, 0, sizeof s);
    s.temperature = s.top_p = s.min_p = s.repeat_penalty = real;
    s.top_k = s.max_tokens = s.context = whole;
    s.mode = s.echo = (uint8_t)(whole < 255u ? whole : 255u);
    for (size_t i = 0; i < sizeof knobs / sizeof knobs[0]; i++)
        if (strcmp(name, knobs[i].name) == 0)
            return app_settings_set(app, &s, knobs[i].field);
    return PROTO_ERROR_UNKNOWN_MESSAGE;
}

static void command_set(app_t *app, char *rest)
{
    uint32_t value;
    char *space = strchr(rest, ' ');
    if (space != NULL)
        *space++ = 0;
    if (space == NULL || !thousandths(space, &value)) {
        put(app, "/set temp|top_k|top_p|min_p|penalty|tokens|raw|context|echo NUMBER\r\n> ");
        return;
    }
    const uint16_t error = app->task == APP_NO_TASK && !app->chat.busy ? set(app, rest, value) : PROTO_ERROR_BUSY;
    if (error != PROTO_ERROR_NONE)
        put_error(app, error);
    else
        put(app, "ok\r\n> ");
}

static proto_span clipped(const char *text)
{
    proto_span span = proto_text(text);
    if (span.len > 200u)
        span.len = 200;
    return span;
}

static void command_info(app_t *app)
{
    const chat *c = &app->chat;
    const char *facts[] = {"name", "arch", "licence", "attribution"};
    put(app, APP_FIRMWARE "\r\n");
    for (size_t i = 0; i < sizeof facts / sizeof facts[0] && c->open; i++) {
        const char *value = tlm_model_info(&c->model, facts[i]);
        put(app, facts[i]);
        put(app, ": ");
        put_span(app, clipped(value));
        put(app, "\r\n");
    }
    if (c->open) {
        put(app, "kernels: ");
        put(app, tlm_backend(&c->session));
        put(app, "\r\ncontext: ");
        put_number(app, c->n_ids);
        put(app, " of ");
        put_number(app, c->config.context);
        put(app, "\r\n");
    }
    put(app, "self-check: ");
    put_number(app, app->selfcheck);
    put(app, app->selfcheck == 0 ? " (well)\r\n> " : " (see PROTOCOL.md, Check)\r\n> ");
}

static void command(app_t *app, char *line)
{
    if (strncmp(line, "/set ", 5) == 0) {
        command_set(app, line + 5);
    } else if (strcmp(line, "/info") == 0) {
        command_info(app);
    } else if (strcmp(line, "/new") == 0) {
        app_new(app);
        put(app, "a new conversation\r\n> ");
    } else if (strcmp(line, "/stop") == 0) {
        if (!app->chat.busy) /* its own end writes this */
            put(app, "> ");
        app_stop(app);
    } else {
        put(app, "/new /stop /info /set NAME NUMBER; Ctrl-C stops a reply; anything else is said to the model\r\n> ");
    }
}

/* ---- lines ------------------------------------------------------------------------------------------ */

/* What is typed, line ends included, waits until the line has been silent for a moment: the rest of a damaged frame
 * is followed by more of it, and in the end by a zero. */
void terminal_quiet(app_t *app)
{
    app->line_n = app->lines = 0;
    app->line_dirty = app->line_long = false;
}

static void run_line(app_t *app, char *line)
{
    if (line[0] == '/') {
        command(app, line);
        return;
    }
    const uint16_t error = app_typed(app, line, strlen(line));
    if (error != PROTO_ERROR_NONE)
        put_error(app, error);
}

/* The one line that does not wait for the end of a reply: many terminals keep Ctrl-C for themselves. */
static bool stop_waits(const app_t *app)
{
    static const char stop[] = "/stop\n";
    return app->line_n >= sizeof stop - 1u && memcmp(app->line, stop, sizeof stop - 1u) == 0;
}

bool terminal_step(app_t *app)
{
    char line[APP_LINE];
    if (app->lines == 0)
        return false;
    if ((app_busy(app) && !stop_waits(app)) || app->board->clock_us(app->board->ctx) - app->input_us < SETTLE_US)
        return true;
    if (app->line_dirty || app->line_long) {
        put(app, app->line_dirty ? "! a line with control bytes is not taken\r\n> " : "! the line is too long\r\n> ");
        terminal_quiet(app);
        return false;
    }
    const size_t n = (size_t)((const char *)memchr(app->line, '\n', app->line_n) - app->line);
    memcpy(line, app->line, n);
    line[n] = 0;
    app->line_n -= n + 1u;
    app->lines--;
    memmove(app->line, app->line + n + 1u, app->line_n);
    run_line(app, line);
    return app->lines > 0;
}

static bool at_start(const app_t *app)
{
    return app->line_n == 0 || app->line[app->line_n - 1u] == '\n';
}

static void echo(app_t *app, const char *text, size_t bytes)
{
    const bool wanted = (app->settings.mask & PROTO_SETTINGS_FIELD_ECHO) == 0 || app->settings.echo != 0;
    if (wanted && !app->line_dirty)
        frame_text(&app->tx, text, bytes);
}

static void add(app_t *app, char byte)
{
    if (app->line_n == sizeof app->line) {
        app->line_long = true;
        return;
    }
    app->line[app->line_n++] = byte;
}

static void enter(app_t *app)
{
    if (at_start(app) && !app->line_dirty && !app->line_long)
        return;
    add(app, '\n');
    app->lines++;
    echo(app, "\r\n", 2);
}

static void rub_out(app_t *app)
{
    if (at_start(app))
        return;
    while (((uint8_t)app->line[--app->line_n] & 0xC0u) == 0x80u && !at_start(app)) {
    }
    echo(app, "\b \b", 3);
}

void terminal_byte(app_t *app, uint8_t byte)
{
    const bool after_return = app->line_return;
    const char c = (char)byte;
    if (app->frame_seen && app->input_us - app->frame_us < QUIET_US)
        return;
    app->line_return = byte == '\r';
    if (byte == CTRL_C) {
        terminal_quiet(app);
        app_stop(app);
    } else if (byte == '\r' || (byte == '\n' && !after_return)) {
        enter(app);
    } else if (byte == '\b' || byte == 127u) {
        rub_out(app);
    } else if (byte >= 32u || byte == '\t') {
        add(app, c);
        echo(app, &c, 1);
    } else if (byte != '\n') {
        app->line_dirty = true;
    }
}

void terminal_event(app_t *app, chat_event event)
{
    const proto_done *d = &app->chat.done;
    if (event == CHAT_TOKEN)
        put_span(app, app->chat.token.text);
    if (event != CHAT_DONE)
        return;
    put_span(app, d->text);
    put(app, "\r\n[");
    if (d->error != PROTO_ERROR_NONE) {
        put(app, proto_error_text(d->error));
        put(app, ", ");
    }
    put_number(app, d->tokens);
    put(app, " tokens");
    if (d->tokens > 1u && d->decode_us > 0) {
        put(app, ", ");
        put_thousandths(app, (uint32_t)((uint64_t)(d->tokens - 1u) * 1000000000u / d->decode_us), 1);
        put(app, " tok/s");
    }
    put(app, "]\r\n> ");
}
