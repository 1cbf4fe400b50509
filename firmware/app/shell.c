/* The protocol server: one table of requests, one function each. */
#include <string.h>

#include "app_parts.h"

void shell_send(app_t *app, const proto_header *to, uint8_t type, const void *message)
{
    const proto_header header = {type, to->session, to->request};
    (void)proto_send(&app->tx, &header, message); /* APP_ROOM was there before the request was taken */
}

void shell_error(app_t *app, const proto_header *to, uint16_t code, uint32_t detail)
{
    const proto_error m = {code, detail, to->type, proto_text(proto_error_text(code))};
    shell_send(app, to, PROTO_ERROR, &m);
}

void shell_log(app_t *app, uint8_t level, const char *text)
{
    const proto_header header = {PROTO_LOG, app->session, 0};
    const proto_log m = {level, proto_text(text)};
    if (app->frame_seen && frame_tx_room(&app->tx) >= APP_ROOM)
        (void)proto_send(&app->tx, &header, &m);
}

void shell_event(app_t *app, chat_event event)
{
    const chat *c = &app->chat;
    if (app->reply_to.request == 0)
        return;
    if (event == CHAT_PROGRESS)
        shell_send(app, &app->reply_to, PROTO_PROGRESS, &c->progress);
    if (event == CHAT_TOKEN)
        shell_send(app, &app->reply_to, PROTO_TOKEN, &c->token);
    if (event == CHAT_DONE)
        shell_send(app, &app->reply_to, PROTO_DONE, &c->done);
}

/* ---- sessions -------------------------------------------------------------------------------------- */

/* A host that takes over ends the reply of the one before; a reply for the terminal or the keys goes on. */
static void take_over(app_t *app)
{
    app->chat.replaying = false; /* what is sent again was shown before */
    while (app->chat.busy && app->origin == APP_HOST) {
        chat_end(&app->chat, PROTO_REASON_TAKEN, 0);
        app_tell(app, chat_step(&app->chat));
    }
    app->chat.any = false;
    app->reply_to.request = 0;
}

static void hello(app_t *app, const proto_header *to, const uint8_t *body, size_t bytes)
{
    proto_hello m;
    if (!proto_decode(PROTO_HELLO, body, bytes, &m)) {
        shell_error(app, to, PROTO_ERROR_BAD_MESSAGE, 0);
        return;
    }
    if (m.major != PROTO_VERSION_MAJOR) {
        shell_error(app, to, PROTO_ERROR_VERSION, PROTO_VERSION_MAJOR);
        return;
    }
    const bool again = app->hello_repeats && app->hello_request == to->request; /* its answer was lost */
    if (!again) {
        take_over(app);
        app->session = (uint16_t)(app->session + 1u != 0x10000u ? app->session + 1u : 1u);
    }
    app->greeted = app->hello_repeats = true;
    app->hello_request = to->request;
    const proto_header header = {PROTO_HELLO, app->session, to->request};
    info_welcome(app, &header);
    if (app->selfcheck != 0)
        shell_log(app, PROTO_LOG_LEVEL_WARNING, "the self-check at boot failed: see info");
}

/* ---- requests -------------------------------------------------------------------------------------- */

/* A request's function answers, or returns an error, or returns SAY_OK. */
#define SAY_OK 0xFFFFu
typedef uint16_t request_fn(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail);

static uint16_t do_info(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)m;
    (void)detail;
    info_is(app, to);
    return PROTO_ERROR_NONE;
}

static uint16_t do_ping(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)detail;
    if (m->ping.data.len > 64)
        return PROTO_ERROR_BAD_MESSAGE;
    const uint64_t uptime = app->board->clock_us(app->board->ctx) - app->booted_us;
    const proto_pong pong = {uptime, app->chat.busy ? app->reply_to.request : (uint16_t)0, m->ping.data};
    shell_send(app, to, PROTO_PONG, &pong);
    return PROTO_ERROR_NONE;
}

static bool settle(app_t *app, const proto_generate *m, chat_request *r)
{
    proto_settings s;
    app_settings(app, &s);
    const uint32_t default_tokens = s.max_tokens;
    if ((m->flags & PROTO_GENERATE_FLAG_DEFAULTS) == 0) {
        s.temperature = m->temperature;
        s.top_k = m->top_k;
        s.top_p = m->top_p;
        s.min_p = m->min_p;
        s.repeat_penalty = m->repeat_penalty;
        s.repeat_window = m->repeat_window;
        s.max_tokens = m->max_tokens != 0 ? m->max_tokens : default_tokens;
    }
    const uint32_t checked = PROTO_SETTINGS_FIELD_TEMPERATURE | PROTO_SETTINGS_FIELD_TOP_K | PROTO_SETTINGS_FIELD_TOP_P |
                             PROTO_SETTINGS_FIELD_MIN_P | PROTO_SETTINGS_FIELD_REPEAT_PENALTY |
                             PROTO_SETTINGS_FIELD_REPEAT_WINDOW;
    const bool draw = (m->flags & PROTO_GENERATE_FLAG_RANDOM_SEED) != 0;
    app_sampling(&s, draw ? app->board->random(app->board->ctx) : m->seed, &r->sampling);
    r->mode = m->mode;
    r->flags = m->flags;
    r->max_tokens = s.max_tokens;
    r->text = m->text.data;
    r->bytes = m->text.len;
    r->grammar = m->grammar.data;
    r->grammar_bytes = m->grammar.len;
    return settings_valid(&s, checked) && m->mode <= PROTO_MODE_RAW;
}

static uint16_t do_generate(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    const proto_generate *g = &m->generate;
    chat_request r;
    const uint16_t last = app->reply_to.request;
    if (last != 0 && (int16_t)(uint16_t)(to->request - last) < 0)
        return PROTO_ERROR_STALE;
    if (!settle(app, g, &r))
        return PROTO_ERROR_BAD_MESSAGE;
    if (g->expect != PROTO_ANY_POSITION && g->expect != app->chat.n_ids) {
        *detail = app->chat.n_ids;
        return PROTO_ERROR_CONVERSATION;
    }
    const uint16_t error = app_generate(app, APP_HOST, &r, detail);
    if (error != PROTO_ERROR_NONE)
        return error;
    app->reply_to = *to;
    shell_send(app, to, PROTO_ACCEPTED, &app->chat.accepted);
    return PROTO_ERROR_NONE;
}

static uint16_t do_resend(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)to;
    (void)detail;
    if (app->reply_to.request == 0 || m->resend.reply != app->reply_to.request)
        return PROTO_ERROR_NOTHING;
    return chat_resend(&app->chat, m->resend.first) ? PROTO_ERROR_NONE : PROTO_ERROR_NOTHING;
}

static uint16_t do_stop(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)to;
    (void)m;
    (void)detail;
    if (!app->chat.busy)
        return PROTO_ERROR_NOTHING;
    app_stop(app);
    return SAY_OK;
}

static uint16_t do_reset(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)to;
    (void)m;
    (void)detail;
    app_new(app);
    return SAY_OK;
}

static uint16_t send_settings(app_t *app, const proto_header *to, uint16_t error)
{
    proto_settings s;
    app_settings(app, &s);
    if (error == PROTO_ERROR_NONE)
        shell_send(app, to, PROTO_SETTINGS, &s);
    return error;
}

static uint16_t do_settings_get(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)m;
    (void)detail;
    return send_settings(app, to, PROTO_ERROR_NONE);
}

static uint16_t do_settings_set(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    const proto_settings_set *s = &m->settings_set;
    (void)detail;
    const proto_settings values = {s->mask,          s->temperature, s->top_k,      s->top_p, s->min_p,
                                   s->repeat_penalty, s->repeat_window, s->max_tokens, s->mode,  s->kv_type,
                                   s->context,       s->brightness,  s->echo,       0};
    return send_settings(app, to, app_settings_set(app, &values, s->mask));
}

static uint16_t do_settings_forget(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)detail;
    return send_settings(app, to, app_settings_forget(app, m->settings_forget.mask));
}

static uint16_t do_slot(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)detail;
    return models_slot(app, to, m->slot.slot);
}

static uint16_t do_begin(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    return models_begin(app, to, &m->upload_begin, detail);
}

static uint16_t do_chunk(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    return models_chunk(app, to, &m->upload_chunk, detail);
}

static uint16_t do_query(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)m;
    (void)detail;
    return models_query(app, to);
}

static uint16_t do_verify(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)m;
    return models_verify(app, to, detail);
}

static uint16_t do_activate(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)to;
    (void)m;
    const uint16_t error = models_activate(app, detail);
    return error == PROTO_ERROR_NONE ? SAY_OK : error;
}

static uint16_t do_abort(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)to;
    (void)m;
    (void)detail;
    const uint16_t error = models_abort(app);
    return error == PROTO_ERROR_NONE ? SAY_OK : error;
}

static uint16_t do_reboot(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)to;
    (void)m;
    (void)detail;
    app->rebooting = app->board->reboot != NULL;
    return app->rebooting ? SAY_OK : PROTO_ERROR_UNSUPPORTED;
}

typedef struct bench_to {
    app_t *app;
    const proto_header *to;
} bench_to;

static void bench_row(void *ctx, const board_measure *m)
{
    const bench_to *b = ctx;
    const proto_bench_row row = {proto_text(m->name), m->value, proto_text(m->unit), proto_text(m->note)};
    shell_send(b->app, b->to, PROTO_BENCH_ROW, &row);
}

static uint16_t do_bench(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    const board *b = app->board;
    bench_to rows = {app, to};
    (void)detail;
    if (b->bench == NULL || m->bench.which >= b->benches)
        return PROTO_ERROR_UNSUPPORTED;
    return b->bench(b->ctx, m->bench.which, m->bench.argument, bench_row, &rows) ? SAY_OK : PROTO_ERROR_INTERNAL;
}

static uint16_t do_probe(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    (void)detail;
    return probe_begin(app, to, &m->probe);
}

static uint16_t do_tokenize(app_t *app, const proto_header *to, const proto_request *m, uint32_t *detail)
{
    uint32_t ids[250];
    const proto_tokenize *t = &m->tokenize;
    prompt_sink *sink = &app->chat.sink;
    if (t->text.len > app->board->max_text) {
        *detail = app->board->max_text;
        return PROTO_ERROR_TOO_LONG;
    }
    size_t n = 0;
    chat_work(&app->chat);
    const uint32_t flags = ((t->flags & 1u) != 0 ? TLM_ENCODE_SPECIAL : 0u) | ((t->flags & 2u) != 0 ? TLM_ENCODE_BOS : 0u);
    const tlm_err err = tlm_encode(&app->chat.model, t->text.data, t->text.len, flags, sink->work, ids,
                                   sizeof ids / sizeof ids[0], &n);
    if (err != TLM_OK && err != TLM_ERR_OVERFLOW)
        return chat_error(err);
    const size_t sent = n < sizeof ids / sizeof ids[0] ? n : sizeof ids / sizeof ids[0];
    const proto_tokens tokens = {(uint32_t)n, {ids, (uint16_t)(sent * sizeof ids[0])}};
    shell_send(app, to, PROTO_TOKENS, &tokens);
    return PROTO_ERROR_NONE;
}

enum { WHEN_BUSY = 1, NEEDS_MODEL = 2 };
static const struct {
    uint8_t type, rules;
    request_fn *run;
} requests[] = {
    {PROTO_INFO, WHEN_BUSY, do_info},
    {PROTO_PING, WHEN_BUSY, do_ping},
    {PROTO_GENERATE, NEEDS_MODEL, do_generate},
    {PROTO_RESEND, WHEN_BUSY, do_resend},
    {PROTO_STOP, WHEN_BUSY, do_stop},
    {PROTO_RESET, WHEN_BUSY, do_reset},
    {PROTO_SETTINGS_GET, WHEN_BUSY, do_settings_get},
    {PROTO_SETTINGS_SET, 0, do_settings_set},
    {PROTO_SETTINGS_FORGET, 0, do_settings_forget},
    {PROTO_SLOT, 0, do_slot},
    {PROTO_UPLOAD_BEGIN, 0, do_begin},
    {PROTO_UPLOAD_CHUNK, 0, do_chunk},
    {PROTO_UPLOAD_QUERY, 0, do_query},
    {PROTO_UPLOAD_VERIFY, 0, do_verify},
    {PROTO_UPLOAD_ACTIVATE, 0, do_activate},
    {PROTO_UPLOAD_ABORT, 0, do_abort},
    {PROTO_REBOOT, WHEN_BUSY, do_reboot},
    {PROTO_BENCH, 0, do_bench},
    {PROTO_PROBE, NEEDS_MODEL, do_probe},
    {PROTO_TOKENIZE, NEEDS_MODEL, do_tokenize},
};

/* The request of what is under way; 0 when that is a typed line. */
static uint16_t busy_with(const app_t *app)
{
    return app->task != APP_NO_TASK ? app->task_for.request : app->reply_to.request;
}

static uint16_t run(app_t *app, const proto_header *to, size_t row, uint32_t *detail)
{
    if (to->type == PROTO_GENERATE && to->request != 0 && to->request == app->reply_to.request)
        return chat_resend(&app->chat, 0) ? PROTO_ERROR_NONE : PROTO_ERROR_STALE;
    if (app_busy(app) && (requests[row].rules & WHEN_BUSY) == 0) {
        *detail = busy_with(app);
        return *detail == to->request && app->task != APP_NO_TASK ? PROTO_ERROR_NONE : PROTO_ERROR_BUSY;
    }
    if ((requests[row].rules & NEEDS_MODEL) != 0 && app->model_state != PROTO_MODEL_STATE_READY)
        return app->model_error;
    return requests[row].run(app, to, &app->request, detail);
}

void shell_packet(app_t *app, const uint8_t *payload, size_t bytes)
{
    proto_header to;
    uint32_t detail = 0;
    size_t row = 0;
    const size_t rows = sizeof requests / sizeof requests[0];
    proto_read_header(payload, &to);
    const uint8_t *body = payload + PROTO_HEADER_BYTES;
    bytes -= PROTO_HEADER_BYTES;
    if (to.type == PROTO_HELLO) {
        hello(app, &to, body, bytes);
        return;
    }
    if (to.session == 0 || to.session != app->session || !app->greeted) {
        shell_error(app, &to, PROTO_ERROR_SESSION, 0);
        return;
    }
    app->hello_repeats = false;
    while (row < rows && requests[row].type != to.type)
        row++;
    uint16_t error = PROTO_ERROR_NONE;
    if (row == rows) {
        error = PROTO_ERROR_UNKNOWN_MESSAGE;
        detail = to.type;
    } else if (!proto_decode(to.type, body, bytes, &app->request)) {
        error = PROTO_ERROR_BAD_MESSAGE;
    } else {
        error = run(app, &to, row, &detail);
    }
    if (error == SAY_OK)
        shell_send(app, &to, PROTO_OK, NULL);
    else if (error != PROTO_ERROR_NONE)
        shell_error(app, &to, error, detail);
}
