#include <string.h>

#include "app_parts.h"

#define FRAME_SILENCE_US 500000u

bool app_busy(const app_t *app)
{
    return app->chat.busy || app->chat.replaying || app->task != APP_NO_TASK;
}

/* ---- settings -------------------------------------------------------------------------------------- */

static void defaults(const app_t *app, proto_settings *out)
{
    memset(out, 0, sizeof *out);
    tlm_sampling s = {0.0f, 0, 1.0f, 0.0f, 1.0f, 0, 0};
    if (app->chat.open) {
        tlm_sampling_default(&s, &app->chat.model);
        out->max_tokens = app->chat.model.chat != NULL ? app->chat.model.chat->max_tokens : 0;
    }
    out->temperature = s.temperature;
    out->top_k = s.top_k;
    out->top_p = s.top_p;
    out->min_p = s.min_p;
    out->repeat_penalty = s.repeat_penalty;
    out->repeat_window = s.repeat_window;
    out->mode = PROTO_MODE_CHAT;
    out->kv_type = chat_kv(app->chat.open ? &app->chat.config : &app->board->session);
    out->context = app->board->session.context;
    out->brightness = 80;
    out->echo = 1;
}

void app_settings(const app_t *app, proto_settings *out)
{
    defaults(app, out);
    settings_merge(out, &app->settings, app->settings.mask);
    out->mask = app->settings.mask;
    out->stored = app->settings_stored;
}

/* A model that is open, or one that could not be. */
static bool reopens(const app_t *app, uint32_t mask)
{
    return (mask & (PROTO_SETTINGS_FIELD_KV_TYPE | PROTO_SETTINGS_FIELD_CONTEXT)) != 0 &&
           app->model_state != PROTO_MODEL_STATE_NONE;
}

/* Stores the settings after a change of those in `mask`. */
static uint16_t keep_settings(app_t *app, uint32_t mask)
{
    app->settings_stored = settings_save(&app->settings_store, &app->settings);
    if (reopens(app, mask))
        models_load(app);
    app_status_changed(app);
    return app->settings_stored || app->settings_store.flash == NULL ? PROTO_ERROR_NONE : PROTO_ERROR_SETTINGS_STORE;
}

uint16_t app_settings_set(app_t *app, const proto_settings *values, uint32_t mask)
{
    if (!settings_valid(values, mask))
        return PROTO_ERROR_BAD_MESSAGE;
    const bool kv = (mask & PROTO_SETTINGS_FIELD_KV_TYPE) != 0 && values->kv_type != PROTO_AUTO;
    if (kv && app->chat.open && !chat_takes(&app->chat, values->kv_type))
        return PROTO_ERROR_MODEL_KV;
    settings_merge(&app->settings, values, mask);
    app->settings.mask |= mask;
    if ((mask & PROTO_SETTINGS_FIELD_KV_TYPE) != 0 && values->kv_type == PROTO_AUTO)
        app->settings.mask &= ~(uint32_t)PROTO_SETTINGS_FIELD_KV_TYPE;
    return keep_settings(app, mask);
}

uint16_t app_settings_forget(app_t *app, uint32_t mask)
{
    app->settings.mask &= ~mask;
    return keep_settings(app, mask);
}

void app_sampling(const proto_settings *from, uint64_t seed, tlm_sampling *to)
{
    to->temperature = from->temperature;
    to->top_k = from->top_k;
    to->top_p = from->top_p;
    to->min_p = from->min_p;
    to->repeat_penalty = from->repeat_penalty;
    to->repeat_window = from->repeat_window;
    to->seed = seed;
}

/* ---- replies --------------------------------------------------------------------------------------- */

void app_status(const app_t *app, ui_status *s)
{
    const chat *c = &app->chat;
    memset(s, 0, sizeof *s);
    s->error = app->model_state == PROTO_MODEL_STATE_READY ? PROTO_ERROR_NONE : app->model_error;
    if (!c->open)
        return;
    s->model = tlm_model_info(&c->model, "name");
    s->licence = tlm_model_info(&c->model, "licence");
    s->attribution = tlm_model_info(&c->model, "attribution");
    s->context = c->config.context;
    s->position = c->n_ids;
    s->busy = c->busy;
    s->prefill_at = c->progress.at;
    s->prefill_of = c->progress.of;
    s->tokens = c->n_tokens;
    if (c->n_tokens > 0)
        s->decode_us = (uint32_t)(app->board->clock_us(app->board->ctx) - c->first_us);
}

void app_status_changed(app_t *app)
{
    ui_status status;
    if (app->board->ui == NULL)
        return;
    app_status(app, &status);
    app->board->ui->status(app->board->ui->ctx, &status);
}

uint16_t app_generate(app_t *app, app_origin origin, const chat_request *request, uint32_t *detail)
{
    if (app->model_state != PROTO_MODEL_STATE_READY)
        return app->model_error;
    if (app_busy(app))
        return PROTO_ERROR_BUSY;
    if (request->bytes > app->board->max_text) {
        *detail = app->board->max_text;
        return PROTO_ERROR_TOO_LONG;
    }
    const uint16_t error = chat_begin(&app->chat, request, detail);
    if (error != PROTO_ERROR_NONE)
        return error;
    app->origin = origin;
    if (origin != APP_HOST)
        app->reply_to.request = 0;
    if (app->board->ui != NULL)
        app->board->ui->prompt(app->board->ui->ctx, request->text, request->bytes);
    app_status_changed(app);
    return PROTO_ERROR_NONE;
}

static uint16_t say(app_t *app, app_origin origin, const char *text, size_t bytes)
{
    proto_settings s;
    chat_request r;
    uint32_t detail = 0;
    app_settings(app, &s);
    memset(&r, 0, sizeof r);
    app_sampling(&s, app->board->random(app->board->ctx), &r.sampling);
    r.mode = s.mode;
    r.max_tokens = s.max_tokens;
    r.text = text;
    r.bytes = bytes;
    return app_generate(app, origin, &r, &detail);
}

uint16_t app_say(app_t *app, const char *text, size_t bytes)
{
    return say(app, APP_BOARD, text, bytes);
}

uint16_t app_typed(app_t *app, const char *text, size_t bytes)
{
    return say(app, APP_TERMINAL, text, bytes);
}

void app_stop(app_t *app)
{
    chat_end(&app->chat, PROTO_REASON_STOPPED, 0);
}

static void ui_event(app_t *app, chat_event event)
{
    const board_ui *ui = app->board->ui;
    if (ui == NULL)
        return;
    const proto_span text = event == CHAT_TOKEN ? app->chat.token.text : app->chat.done.text;
    if ((event == CHAT_TOKEN || event == CHAT_DONE) && text.len > 0)
        ui->reply(ui->ctx, text.data, text.len);
    if (event == CHAT_DONE)
        ui->done(ui->ctx, app->chat.done.reason);
    app_status_changed(app);
}

void app_tell(app_t *app, chat_event event)
{
    if (event == CHAT_NOTHING)
        return;
    if (app->origin == APP_HOST)
        shell_event(app, event);
    if (app->origin == APP_TERMINAL)
        terminal_event(app, event);
    ui_event(app, event);
}

static void step_reply(app_t *app)
{
    const bool resent = app->chat.replaying;
    const chat_event event = chat_step(&app->chat);
    if (resent)
        shell_event(app, event);
    else
        app_tell(app, event);
}

void app_new(app_t *app)
{
    app->chat.replaying = false;
    while (app->chat.busy) { /* the reply ends here and now */
        app_stop(app);
        app_tell(app, chat_step(&app->chat));
    }
    if (app->chat.open)
        chat_reset(&app->chat);
    app_status_changed(app);
}

/* ---- the line -------------------------------------------------------------------------------------- */

static uint64_t now(const app_t *app)
{
    return app->board->clock_us(app->board->ctx);
}

/* Output that nobody takes is thrown away after a while: the host is gone, its reply too. */
static void send_waiting(app_t *app)
{
    const uint8_t *data;
    const board *b = app->board;
    for (size_t n = frame_tx_peek(&app->tx, &data); n > 0; n = frame_tx_peek(&app->tx, &data)) {
        const size_t sent = b->write(b->ctx, data, n);
        frame_tx_sent(&app->tx, sent);
        if (sent > 0)
            app->sent_us = now(app);
        if (sent < n)
            break;
    }
    if (frame_tx_room(&app->tx) == FRAME_TX_BYTES) {
        app->sent_us = now(app);
    } else if (b->stall_ms != 0 && now(app) - app->sent_us > (uint64_t)b->stall_ms * 1000u) {
        frame_tx_init(&app->tx);
        if (app->origin != APP_BOARD)
            chat_end(&app->chat, PROTO_REASON_TAKEN, 0);
    }
}

static void take_byte(app_t *app, uint8_t byte)
{
    const proto_header nobody = {0, 0, 0};
    switch (frame_rx_byte(&app->rx, byte)) {
    case FRAME_TEXT:
        terminal_byte(app, byte);
        break;
    case FRAME_PACKET:
        app->frame_seen = true;
        app->frame_us = now(app);
        terminal_quiet(app);
        shell_packet(app, app->rx.payload, app->rx.len);
        break;
    case FRAME_TOO_LONG:
        shell_error(app, &nobody, PROTO_ERROR_TOO_LONG, PROTO_MAX_PAYLOAD);
        break;
    default:
        if (byte == 0) /* people type none: what was typed belongs to a damaged frame */
            terminal_quiet(app);
        break;
    }
}

/* The line had nothing. Only what it had at the look before counts as silence: between two looks lies a step,
 * which may take longer than the sender waits. */
static void silence(app_t *app)
{
    if (!app->silent)
        app->silent_us = now(app);
    app->silent = true;
    if (!frame_rx_inside(&app->rx) || now(app) - app->silent_us < FRAME_SILENCE_US)
        return;
    frame_rx_init(&app->rx); /* its end was lost; if it comes after all, it is no text */
    app->frame_seen = true;
    app->frame_us = now(app);
}

static void receive(app_t *app)
{
    const board *b = app->board;
    if (app->input_at == app->input_n) {
        app->input_at = 0;
        app->input_n = b->read(b->ctx, app->input, sizeof app->input);
        if (app->input_n > 0) {
            app->input_us = now(app);
            app->silent = false;
        } else {
            silence(app);
        }
    }
    while (app->input_at < app->input_n && frame_tx_room(&app->tx) >= APP_ROOM && !app->rebooting)
        take_byte(app, app->input[app->input_at++]);
}

bool app_step(app_t *app)
{
    send_waiting(app);
    if (app->rebooting) {
        if (frame_tx_room(&app->tx) == FRAME_TX_BYTES)
            app->board->reboot(app->board->ctx);
        return true;
    }
    receive(app);
    if (frame_tx_room(&app->tx) < APP_ROOM)
        return false;
    if (app->task == APP_PROBE)
        probe_step(app);
    else if (app->task == APP_VERIFY)
        models_verify_step(app);
    else
        step_reply(app);
    const bool lines = terminal_step(app);
    send_waiting(app);
    return app_busy(app) || lines || app->rebooting || app->input_at < app->input_n;
}

void app_init(app_t *app, const board *b)
{
    const uint16_t one = 1;
    memset(app, 0, sizeof *app);
    app->board = b;
    app->booted_us = now(app);
    frame_rx_init(&app->rx);
    frame_tx_init(&app->tx);
    app->session = (uint16_t)b->random(b->ctx);
    app->slot = PROTO_AUTO;
    app->selfcheck = *(const uint8_t *)&one == 1 ? selfcheck_boot(b) : PROTO_CHECK_ARITHMETIC;
    if (!settings_load(&app->settings_store, b->settings, &app->settings))
        app->selfcheck |= PROTO_CHECK_SETTINGS;
    app->settings_stored = b->settings != NULL;
    store_init(&app->store, b->models, b->slots);
    models_load(app);
    terminal_hello(app);
    app_status_changed(app);
}
