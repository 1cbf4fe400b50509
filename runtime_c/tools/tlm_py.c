/* The flat interface that export/tinyexport/runtime.py loads: opaque pointers, plain numbers, no structs by value.
 * Memory comes from malloc here, because the library itself takes none. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tlm_pool.h"
#include "tlm_py.h"

typedef struct tlm_py_session {
    tlm_session session;
    void *memory;
    tlm_pool *pool;
    uint32_t vocab;
} tlm_py_session;

typedef struct tlm_py_sampler {
    tlm_sampler sampler;
    uint8_t *mask; /* one byte an id, or NULL */
} tlm_py_sampler;

/* ---- model --------------------------------------------------------------------------------------- */

tlm_py_model *tlm_py_open(const void *blob, size_t bytes, int32_t *err)
{
    tlm_py_model *m = calloc(1, sizeof *m);
    void *memory = malloc(bytes + 64);
    if (m == NULL || memory == NULL) {
        free(m);
        free(memory);
        *err = TLM_ERR_MEMORY;
        return NULL;
    }
    memcpy(tlm_py_align64(memory), blob, bytes);
    m->memory = memory;
    *err = (int32_t)tlm_model_open(&m->model, tlm_py_align64(memory), bytes);
    if (*err != TLM_OK) {
        free(memory);
        free(m);
        return NULL;
    }
    return m;
}

void tlm_py_close(tlm_py_model *m)
{
    free(m->memory);
    free(m);
}

uint32_t tlm_py_vocab(const tlm_py_model *m)
{
    return m->model.spec->vocab;
}

uint32_t tlm_py_context(const tlm_py_model *m)
{
    return m->model.spec->context;
}

uint32_t tlm_py_bos(const tlm_py_model *m)
{
    return tlm_bos(&m->model);
}

uint32_t tlm_py_eos(const tlm_py_model *m)
{
    return tlm_eos(&m->model);
}

uint32_t tlm_py_token_id(const tlm_py_model *m, const char *piece, size_t len)
{
    return tlm_token_id(&m->model, piece, len);
}

int32_t tlm_py_encode(const tlm_py_model *m, const char *text, size_t len, uint32_t flags, uint32_t *ids, size_t cap,
                      size_t *count)
{
    void *work = malloc(TLM_ENCODE_WORK(len));
    if (work == NULL) {
        return TLM_ERR_MEMORY;
    }
    const tlm_err err = tlm_encode(&m->model, text, len, flags, work, ids, cap, count);
    free(work);
    return (int32_t)err;
}

int32_t tlm_py_piece(const tlm_py_model *m, uint32_t id, char *out, size_t cap, size_t *len)
{
    return (int32_t)tlm_piece(&m->model, id, out, cap, len);
}

tlm_decoder *tlm_py_decoder_new(bool replace, bool started)
{
    tlm_decoder *d = malloc(sizeof *d);
    if (d != NULL) {
        tlm_decoder_init(d, replace);
        d->started = started;
    }
    return d;
}

void tlm_py_free(void *p)
{
    free(p);
}

int32_t tlm_py_decode(tlm_decoder *d, const tlm_py_model *m, uint32_t id, char *out, size_t cap, size_t *len)
{
    return (int32_t)tlm_decode(d, &m->model, id, out, cap, len);
}

size_t tlm_py_decode_end(tlm_decoder *d, char *out, size_t cap)
{
    return tlm_decode_end(d, out, cap);
}

uint32_t tlm_py_decode_pending(const tlm_decoder *d)
{
    return d->n_pending;
}

/* ---- session ------------------------------------------------------------------------------------- */

static void no_run(void *ctx, void (*job)(void *arg, uint32_t part, uint32_t parts), void *arg)
{
    (void)ctx;
    (void)job;
    (void)arg;
}

/* Threads are counted, and nothing runs on them. */
tlm_config tlm_py_config(const tlm_model *model, const tlm_py_options *o)
{
    tlm_config c;
    tlm_config_default(&c, model);
    c.context = o->context != 0 ? o->context : c.context;
    c.kv_type = (tlm_kv_type)o->kv_type;
    c.kv_groups = o->kv_groups;
    c.batch = o->batch;
    c.batch_in_pages = o->batch_in_pages != 0;
    c.head_rows = o->head_rows;
    c.repack = o->repack != 0;
    c.pin = o->pin != 0;
    for (uint32_t i = 0; i < TLM_OWN_BLOCKS; i++) {
        c.own[i] = (size_t)o->own[i];
    }
    c.backend = o->backend;
    if (o->threads > 1) {
        c.parallel.run = no_run;
        c.parallel.parts = o->threads;
    }
    return c;
}

static void store_need(const tlm_need *n, uint64_t out[7])
{
    const uint64_t own = (uint64_t)n->own[0] + n->own[1] + n->own[2];
    const uint64_t values[7] = {n->total, n->state, n->batch_scratch, n->page, n->pages, n->repack, own};
    memcpy(out, values, sizeof values);
}

int32_t tlm_py_need(const tlm_py_model *m, const tlm_py_options *o, uint64_t out[7])
{
    const tlm_config c = tlm_py_config(&m->model, o);
    tlm_need need;
    const tlm_err err = tlm_session_need(&m->model, &c, &need);
    if (err == TLM_OK) {
        store_need(&need, out);
    }
    return (int32_t)err;
}

void tlm_py_session_free(tlm_py_session *s)
{
    tlm_pool_free(s->pool);
    free(s->memory);
    free(s);
}

static tlm_err start(tlm_py_session *s, const tlm_py_model *m, const tlm_py_options *o, uint64_t out[7])
{
    if (o->threads > TLM_MAX_PARTS) {
        return TLM_ERR_ARG;
    }
    if (o->threads > 1) {
        s->pool = tlm_pool_new(o->threads);
        if (s->pool == NULL) {
            return TLM_ERR_MEMORY;
        }
    }
    tlm_config c = tlm_py_config(&m->model, o);
    if (s->pool != NULL) {
        c.parallel = tlm_pool_parallel(s->pool);
    }
    tlm_need need;
    tlm_err err = tlm_session_need(&m->model, &c, &need);
    if (err != TLM_OK) {
        return err;
    }
    s->memory = malloc(need.total + 64);
    if (s->memory == NULL) {
        return TLM_ERR_MEMORY;
    }
    const tlm_mem piece = {tlm_py_align64(s->memory), need.total};
    err = tlm_session_init(&s->session, &m->model, &c, &piece, 1);
    store_need(&need, out);
    return err;
}

tlm_py_session *tlm_py_session_new(const tlm_py_model *m, const tlm_py_options *o, uint64_t need[7], int32_t *err)
{
    tlm_py_session *s = calloc(1, sizeof *s);
    if (s == NULL) {
        *err = TLM_ERR_MEMORY;
        return NULL;
    }
    s->vocab = m->model.spec->vocab;
    *err = (int32_t)start(s, m, o, need);
    if (*err != TLM_OK) {
        tlm_py_session_free(s);
        return NULL;
    }
    return s;
}

/* want: one byte an id, or NULL for the last one; out NULL: no logits. */
int32_t tlm_py_eval(tlm_py_session *s, const uint32_t *ids, uint32_t n, const uint8_t *want, float *out)
{
    if (out == NULL) {
        return (int32_t)tlm_eval(&s->session, ids, n, NULL, NULL);
    }
    tlm_buffer_sink buffer;
    const tlm_sink sink = tlm_buffer_sink_init(&buffer, s->session.model, out, s->vocab);
    return (int32_t)tlm_eval(&s->session, ids, n, want, &sink);
}

int32_t tlm_py_eval_sample(tlm_py_session *s, const uint32_t *ids, uint32_t n, tlm_py_sampler *sampler)
{
    const tlm_sink sink = tlm_sampler_sink(&sampler->sampler);
    return (int32_t)tlm_eval(&s->session, ids, n, NULL, &sink);
}

uint32_t tlm_py_position(const tlm_py_session *s)
{
    return tlm_position(&s->session);
}

uint32_t tlm_py_next_batch(const tlm_py_session *s)
{
    return tlm_next_batch(&s->session);
}

int32_t tlm_py_rewind(tlm_py_session *s, uint32_t position)
{
    return (int32_t)tlm_rewind(&s->session, position);
}

const char *tlm_py_backend(const tlm_py_session *s)
{
    return tlm_backend(&s->session);
}

/* ---- sampler ------------------------------------------------------------------------------------- */

static bool allowed(void *ctx, uint32_t id)
{
    return ((const uint8_t *)ctx)[id] != 0;
}

/* params: temperature, top_p, min_p, repeat_penalty. `mask` has `vocab` bytes, or is NULL. */
tlm_py_sampler *tlm_py_sampler_new(const float params[4], uint32_t top_k, uint32_t repeat_window, uint64_t seed,
                                   bool want_all, const uint8_t *mask, uint32_t vocab, int32_t *err)
{
    const tlm_sampling p = {params[0], top_k, params[1], params[2], params[3], repeat_window, seed};
    tlm_py_sampler *s = calloc(1, sizeof *s);
    uint8_t *copy = mask != NULL ? malloc(vocab) : NULL;
    *err = s == NULL || (mask != NULL && copy == NULL) ? TLM_ERR_MEMORY : (int32_t)tlm_sampler_init(&s->sampler, &p);
    if (*err != TLM_OK) {
        free(s);
        free(copy);
        return NULL;
    }
    if (copy != NULL) {
        memcpy(copy, mask, vocab);
        s->mask = copy;
        s->sampler.allowed = allowed;
        s->sampler.allowed_ctx = copy;
    }
    s->sampler.want_all_logprob = want_all;
    return s;
}

void tlm_py_sampler_free(tlm_py_sampler *s)
{
    free(s->mask);
    free(s);
}

void tlm_py_sampler_accept(tlm_py_sampler *s, uint32_t id)
{
    tlm_sampler_accept(&s->sampler, id);
}

/* The logits of one position, in slices of `slice` rows as a session would hand them over. */
int32_t tlm_py_sampler_feed(tlm_py_sampler *s, const float *logits, uint32_t vocab, uint32_t slice)
{
    const tlm_sink sink = tlm_sampler_sink(&s->sampler);
    for (uint32_t row = 0; row < vocab; row += slice) {
        const uint32_t rows = vocab - row < slice ? vocab - row : slice;
        const tlm_err err = sink.rows(sink.ctx, 0, row, rows, logits + row);
        if (err != TLM_OK) {
            return (int32_t)err;
        }
    }
    return TLM_OK;
}

int32_t tlm_py_sample(tlm_py_sampler *s, uint32_t ints[2], float floats[2])
{
    tlm_choice choice;
    const tlm_err err = tlm_sample(&s->sampler, &choice);
    if (err == TLM_OK) {
        ints[0] = choice.id;
        ints[1] = choice.candidates;
        floats[0] = choice.logprob;
        floats[1] = choice.logprob_all;
    }
    return (int32_t)err;
}

/* ---- timing -------------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Prefill of `prompt` arbitrary tokens, then `decode` greedy steps, from an empty context; seconds of each. */
int32_t tlm_py_bench(tlm_py_session *s, uint32_t prompt, uint32_t decode, double out[2])
{
    const tlm_sampling greedy = {0.0f, 1, 1.0f, 0.0f, 1.0f, 0, 0};
    tlm_sampler *sampler = malloc(sizeof *sampler);
    uint32_t *ids = malloc((prompt + 1u) * sizeof *ids);
    tlm_err err = sampler != NULL && ids != NULL ? tlm_sampler_init(sampler, &greedy) : TLM_ERR_MEMORY;
    if (err == TLM_OK) {
        err = tlm_rewind(&s->session, 0);
    }
    for (uint32_t i = 0; err == TLM_OK && i < prompt; i++) {
        ids[i] = (uint32_t)((i * 7919ull + 11u) % s->vocab);
    }
    const double t0 = seconds();
    if (err == TLM_OK) {
        const tlm_sink sink = tlm_sampler_sink(sampler);
        err = tlm_eval(&s->session, ids, prompt, NULL, &sink);
    }
    const double t1 = seconds();
    for (uint32_t i = 0; err == TLM_OK && i < decode; i++) {
        tlm_choice choice;
        err = tlm_sample(sampler, &choice);
        const tlm_sink sink = tlm_sampler_sink(sampler);
        err = err == TLM_OK ? tlm_eval(&s->session, &choice.id, 1, NULL, &sink) : err;
    }
    out[0] = t1 - t0;
    out[1] = seconds() - t1;
    free(sampler);
    free(ids);
    return (int32_t)err;
}

/* ---- errors -------------------------------------------------------------------------------------- */

const char *tlm_py_err_name(int32_t err)
{
    return tlm_err_name((tlm_err)err);
}

const char *tlm_py_err_text(int32_t err)
{
    return tlm_err_text((tlm_err)err);
}
