/* Sessions in boxes, and kernels that count or fail. */
#ifndef CORE_SESSION_H
#define CORE_SESSION_H

#include "check.h"
#include "tlm.h"
#include "tlm_model.h"
#include "tlm_session.h"

/* ---- kernel tables that watch ---- */

typedef struct counts {
    uint64_t rows, head_rows;
    const uint8_t *last; /* matrix of a layer read last */
    uint32_t back;       /* times that the one before lay behind it in the blob */
} counts;
static counts counted;
static tlm_kernels plain;
static const void *head_data;
static uint32_t quant_fails_in; /* 0 = never */

static inline void counted_reset(void)
{
    memset(&counted, 0, sizeof counted);
}

static void counting(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                     uint32_t y_stride)
{
    const uint32_t tile = tlm_tile_rows(w->type), end = tile1 * tile < w->rows ? tile1 * tile : w->rows;
    if (w->data == head_data) {
        counted.head_rows += end - tile0 * tile;
    } else {
        counted.rows += end - tile0 * tile;
        counted.back += counted.last > (const uint8_t *)w->data;
        counted.last = w->data;
    }
    plain.linear[w->type](w, in, tile0, tile1, y, y_stride);
}

static inline void count_linear(tlm_kernels *k, const tlm_model *m)
{
    plain = *k;
    head_data = tlm_model_weight(m, m->spec->head).data;
    counted_reset();
    for (uint32_t i = 0; i < TLM_TENSOR_TYPE_COUNT; i++) {
        k->linear[i] = counting;
    }
}

static bool failing_block(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums)
{
    return (quant_fails_in == 0 || --quant_fails_in != 0) && plain.quant_block(x, n, floor, codes, scales, sums);
}

static bool failing_vector(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums)
{
    return (quant_fails_in == 0 || --quant_fails_in != 0) && plain.quant_vector(x, n, floor, codes, scales, sums);
}

static bool failing_store(const float *x, uint32_t kvh, uint32_t kd, bool is_v, void *region, uint16_t *scales,
                          uint32_t slot)
{
    return (quant_fails_in == 0 || --quant_fails_in != 0) &&
           plain.kv_store[TLM_KV_I8](x, kvh, kd, is_v, region, scales, slot);
}

static inline void fail_quant(tlm_kernels *k, const tlm_model *m)
{
    (void)m;
    plain = *k;
    quant_fails_in = 0;
    k->quant_block = failing_block;
    k->quant_vector = failing_vector;
    k->kv_store[TLM_KV_I8] = failing_store;
}

/* Rows of all layers' matrices. */
static inline uint64_t layer_rows(const tlm_model *m)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < m->spec->n_layers; i++) {
        const tlm_layer_rec *l = &m->layers[i];
        const uint32_t ids[7] = {l->wq, l->wk, l->wv, l->wo, l->w_gate, l->w_up, l->w_down};
        for (uint32_t k = 0; k < 7u; k++) {
            rows += ids[k] == TLM_NO_TENSOR ? 0 : m->tensors[ids[k]].rows;
        }
    }
    return rows;
}

/* ---- sessions ---- */

typedef struct box {
    const tlm_model *model;
    tlm_config config;
    tlm_need need;
    tlm_session s;
    void *memory;
    float *logits;
} box;

/* Kinds of cache that the blobs of blobs.py take: their layers have 2 and 4 kv heads. */
typedef struct cache_kind {
    tlm_kv_type type;
    uint32_t groups;
} cache_kind;
enum { KINDS = 6 };
static const cache_kind kinds[KINDS] = {{TLM_KV_F32, 1}, {TLM_KV_F16, 1}, {TLM_KV_I8, 1},
                                        {TLM_KV_I4, 1},  {TLM_KV_I8, 2},  {TLM_KV_I4, 2}};

/* Parts in falling order, as no queue would run them. */
static void run_backwards(void *ctx, void (*job)(void *arg, uint32_t part, uint32_t parts), void *arg)
{
    const uint32_t parts = *(const uint32_t *)ctx;
    for (uint32_t p = parts; p-- > 0;) {
        job(arg, p, parts);
    }
}

static inline box box_new(const tlm_model *m, tlm_kv_type kv, uint32_t groups, uint32_t batch, bool in_pages,
                          uint32_t head_rows, uint32_t *parts, void (*change)(tlm_kernels *, const tlm_model *))
{
    box b;
    tlm_kernels k;
    memset(&b, 0, sizeof b);
    b.model = m;
    tlm_config_default(&b.config, m);
    b.config.kv_type = kv;
    b.config.kv_groups = groups;
    b.config.batch = batch;
    b.config.batch_in_pages = in_pages;
    b.config.head_rows = head_rows;
    if (parts != NULL) {
        b.config.parallel.run = run_backwards;
        b.config.parallel.ctx = parts;
        b.config.parallel.parts = *parts;
    }
    tlm_kernels_ref(&k);
    if (change != NULL) {
        change(&k, m);
    }
    CHECK(tlm_session_need_with(m, &b.config, &k, &b.need) == TLM_OK);
    b.memory = guarded(b.need.total);
    b.logits = guarded(sizeof(float) * m->spec->vocab);
    const tlm_mem piece = {b.memory, b.need.total};
    CHECK(tlm_session_init_with(&b.s, m, &b.config, &k, &piece, 1) == TLM_OK);
    return b;
}

static inline void box_free(box *b)
{
    free(b->memory);
    free(b->logits);
}

static inline void all_logits(box *b, const uint32_t *ids, uint32_t n, const uint8_t *want, float *out)
{
    tlm_buffer_sink buffer;
    const tlm_sink sink = tlm_buffer_sink_init(&buffer, b->model, out, b->model->spec->vocab);
    CHECK(tlm_eval(&b->s, ids, n, want, &sink) == TLM_OK && buffer.wanted == n);
}

/* Logits after one more token. */
static inline const float *logits_of(box *b, uint32_t id)
{
    tlm_buffer_sink buffer;
    const tlm_sink sink = tlm_buffer_sink_init(&buffer, b->model, b->logits, b->model->spec->vocab);
    CHECK(tlm_eval(&b->s, &id, 1, NULL, &sink) == TLM_OK);
    return b->logits;
}

/* Fills most of the context in random steps with rewinds; a sanitizer watches. A hash of all logits. */
static inline uint32_t run_random(tlm_session *s, const tlm_model *m, uint32_t context, uint64_t seed)
{
    uint32_t ids[48], hash = 2166136261u;
    float *out = guarded(sizeof(float) * m->spec->vocab);
    tlm_buffer_sink buffer;
    seed = seed * 2654435761u + 1u;
    for (uint32_t round = 0; round < 6u; round++) {
        const uint32_t left = context - tlm_position(s);
        const uint32_t n = left < 48u ? left : 1u + rnd(&seed) % 48u;
        if (n == 0 || rnd(&seed) % 4u == 0) {
            CHECK(tlm_rewind(s, rnd(&seed) % (tlm_position(s) + 1u)) == TLM_OK);
            continue;
        }
        for (uint32_t i = 0; i < n; i++) {
            ids[i] = rnd(&seed) % m->spec->vocab;
        }
        const tlm_sink sink = tlm_buffer_sink_init(&buffer, m, out, m->spec->vocab);
        CHECK(tlm_eval(s, ids, n, NULL, &sink) == TLM_OK);
        for (uint32_t i = 0; i < m->spec->vocab; i++) {
            uint32_t bits;
            memcpy(&bits, &out[i], sizeof bits);
            hash = (hash ^ bits) * 16777619u;
        }
    }
    free(out);
    return hash;
}

static tlm_err stop_rows(void *ctx, uint32_t index, uint32_t row0, uint32_t rows, const float *logits)
{
    (void)row0;
    (void)rows;
    (void)logits;
    return index == *(const uint32_t *)ctx ? TLM_ERR_STOPPED : TLM_OK;
}

#endif
