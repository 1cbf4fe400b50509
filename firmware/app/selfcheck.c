#include <string.h>

#include "app_parts.h"
#include "golden_gen.h"

/* ---- digests of logits ------------------------------------------------------------------------------ */

static tlm_err digest_rows(void *ctx, uint32_t index, uint32_t row0, uint32_t rows, const float *logits)
{
    logit_digest *d = ctx;
    if (index >= TLM_MAX_BATCH)
        return TLM_ERR_LIMIT;
    d->crc[index] = app_crc32(row0 == 0 ? 0 : d->crc[index], logits, rows * sizeof logits[0]);
    for (uint32_t i = 0; i < rows; i++)
        if (row0 + i == 0 || logits[i] > d->logit[index]) {
            d->best[index] = row0 + i;
            d->logit[index] = logits[i];
        }
    return TLM_OK;
}

tlm_sink digest_sink(logit_digest *digest)
{
    const tlm_sink sink = {digest_rows, digest, NULL};
    return sink;
}

/* ---- probe ------------------------------------------------------------------------------------------ */

uint16_t probe_begin(app_t *app, const proto_header *to, const proto_probe *m)
{
    chat *c = &app->chat;
    const uint32_t n = m->ids.len / 4u;
    if (n == 0 || n > c->config.context)
        return n == 0 ? PROTO_ERROR_BAD_MESSAGE : PROTO_ERROR_PROMPT_TOO_LONG;
    app_new(app);
    c->raw = true;
    c->n_ids = n;
    memcpy(c->ids, m->ids.data, n * sizeof c->ids[0]);
    app->task = APP_PROBE;
    app->task_for = *to;
    return PROTO_ERROR_NONE;
}

static void probe_end(app_t *app, tlm_err err)
{
    app->task = APP_NO_TASK;
    if (err != TLM_OK) {
        app_new(app);
        shell_error(app, &app->task_for, chat_error(err), (uint32_t)err);
    } else {
        shell_send(app, &app->task_for, PROTO_OK, NULL);
    }
}

void probe_step(app_t *app)
{
    chat *c = &app->chat;
    uint8_t want[TLM_MAX_BATCH];
    logit_digest digest;
    const tlm_sink sink = digest_sink(&digest);
    const uint32_t at = tlm_position(&c->session), batch = tlm_next_batch(&c->session);
    const uint32_t n = c->n_ids - at < batch ? c->n_ids - at : batch;
    memset(want, 1, sizeof want);
    const tlm_err err = tlm_eval(&c->session, c->ids + at, n, want, &sink);
    for (uint32_t i = 0; i < n && err == TLM_OK; i++) {
        const proto_probe_row row = {at + i, digest.crc[i], digest.best[i], digest.logit[i]};
        shell_send(app, &app->task_for, PROTO_PROBE_ROW, &row);
    }
    if (err != TLM_OK || tlm_position(&c->session) == c->n_ids)
        probe_end(app, err);
}

/* ---- at boot ---------------------------------------------------------------------------------------- */

typedef struct golden_model {
    const uint32_t *blob;
    uint32_t bytes, crc[TLM_KV_COUNT];
} golden_model;
static const golden_model golden_models[] = GOLDEN_MODELS_INIT;

/* Small models of every weight type, as this build computes them with this KV type: the reference's bits? */
static bool golden(const board *b, const golden_model *g, tlm_kv_type kv)
{
    tlm_model model;
    tlm_config config = b->session;
    tlm_session session;
    uint32_t ids[GOLDEN_TOKENS], crc = 0;
    uint8_t want[TLM_MAX_BATCH];
    logit_digest digest;
    const tlm_sink sink = digest_sink(&digest);
    memset(want, 1, sizeof want);
    if (tlm_model_open(&model, g->blob, g->bytes) != TLM_OK)
        return false;
    config.context = model.spec->context;
    config.kv_type = kv;
    config.kv_groups = 1;
    if (tlm_session_init(&session, &model, &config, b->pieces, b->n_pieces) != TLM_OK)
        return false;
    for (uint32_t i = 0; i < GOLDEN_TOKENS; i++)
        ids[i] = (7u * i + 3u) % model.spec->vocab;
    for (uint32_t at = 0, n; at < GOLDEN_TOKENS; at += n) {
        const uint32_t batch = tlm_next_batch(&session);
        n = GOLDEN_TOKENS - at < batch ? GOLDEN_TOKENS - at : batch;
        if (tlm_eval(&session, ids + at, n, want, &sink) != TLM_OK)
            return false;
        crc = app_crc32(crc, digest.crc, n * sizeof digest.crc[0]);
    }
    return crc == g->crc[kv];
}

uint32_t selfcheck_boot(const board *b)
{
    if (tlm_self_test() != TLM_OK)
        return PROTO_CHECK_ARITHMETIC;
    for (size_t i = 0; i < sizeof golden_models / sizeof golden_models[0]; i++)
        for (uint32_t kv = 0; kv < TLM_KV_COUNT; kv++)
            if (!golden(b, &golden_models[i], (tlm_kv_type)kv))
                return PROTO_CHECK_GOLDEN;
    return 0;
}

/* Of a certified head what it finds: all of its logits are many passes over it, ten seconds on a board. */
static tlm_err digest_best(void *ctx, uint32_t index, const uint32_t *ids, const float *logits, uint32_t n, float *bar)
{
    logit_digest *d = ctx;
    if (index >= TLM_MAX_BATCH)
        return TLM_ERR_LIMIT;
    d->crc[index] = n == 0 ? 0 : app_crc32(app_crc32(d->crc[index], ids, n * sizeof ids[0]), logits, n * sizeof logits[0]);
    for (uint32_t i = 0; i < n; i++)
        *bar = logits[i] > *bar ? logits[i] : *bar;
    return TLM_OK;
}

/* CRC of the logits after three tokens: a batch of two and one alone, which take different kernels. */
static bool fingerprint(chat *c, const board *b, const char *backend, uint32_t *crc)
{
    logit_digest digest;
    const tlm_sink sink = {digest_rows, &digest, digest_best};
    const uint32_t vocab = c->model.spec->vocab, ids[3] = {vocab / 3u, vocab / 2u, vocab - 1u};
    const uint32_t n = c->config.context < 3u ? c->config.context : 3u;
    tlm_config config = c->config;
    config.backend = backend;
    if (tlm_session_init(&c->session, &c->model, &config, b->pieces, b->n_pieces) != TLM_OK)
        return false;
    bool ok = tlm_eval(&c->session, ids, n - 1u, NULL, NULL) == TLM_OK;
    ok = ok && tlm_eval(&c->session, ids + n - 1u, 1, NULL, &sink) == TLM_OK;
    *crc = digest.crc[0];
    return ok;
}

/* Leaves the session as it was opened: empty, with the board's backend. */
uint32_t selfcheck_model(app_t *app)
{
    chat *c = &app->chat;
    if (strcmp(tlm_backend(&c->session), "ref") == 0)
        return 0;
    uint32_t fast = 0, reference = 1;
    const bool ok = fingerprint(c, app->board, "ref", &reference) &&
                    fingerprint(c, app->board, app->board->session.backend, &fast);
    chat_reset(c);
    return ok && fast == reference ? 0 : (uint32_t)PROTO_CHECK_KERNELS;
}
