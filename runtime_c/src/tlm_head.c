/* The certified head (NUMERICS rule 20): most rows are left out before all of their columns were read.
 *
 * The exporter turned the hidden state into dimensions of falling weight, and cut the rows into stages of columns.
 * After each stage a row's logit is known but for what later stages add: at most |later part of the row| times |later
 * part of the vector|, by Cauchy and Schwarz. The first factor is stored, rounded up; tlm_model_open has compared it
 * with the row. A tile of 8 rows is read on while one of them may still reach the bar of the sink.
 *
 * Why nothing is ever lost. Let a be the partial sum, L the stored norm times the vector's, c the constant of all rows.
 * The logit is the float sum a + s2 + s3 + ... + c. Each stage is itself a float sum of products that Cauchy and Schwarz
 * bound together with the later ones by L in exact arithmetic; N roundings of terms that add up to T at most in
 * magnitude shift a float sum by less than N * 2^-23 * T. Here T = |a| + L + |c|, and N, the roundings of blocks, stages,
 * the vector's norm and the bound itself, is below dim + 64. `loose` allows four times that. What is so small that its
 * square underflows adds less than TINY_NORM to the vector's norm. A bound that is NaN keeps its row.
 */
#include "tlm_head.h"

#include "tlm_math.h"
#include "tlm_model.h"

enum {
    ROWS = 8,           /* a tile of q4_0 or q8_0 */
    UNDER_ONE_BAR = 256, /* rows between two looks at the bar */
    OFFERED = 16,       /* tokens handed to a sink at once */
    DROPPED = 0x7fc0dead /* marks a logit that was left out: a NaN that no operation makes */
};
#define TINY_NORM 0x1p-56f

typedef struct stage {
    tlm_weight w;
    tlm_input in;
    float later; /* norm of the vector's columns in the stages after this one */
} stage;

typedef struct search {
    const tlm_session *s;
    stage stages[TLM_MAX_HEAD_STAGES];
    uint32_t n_stages, vocab;
    tlm_head_arrays rows;
    float centre, loose, bar;
    float *out;          /* logits of rows first..end-1 in stored order, or of ids first..end-1 */
    uint32_t first, end;
} search;

/* ---- the section ---- */

void tlm_head_arrays_of(const tlm_model *m, tlm_head_arrays *out)
{
    const uint32_t n = tlm_round_up(m->spec->vocab, ROWS);
    const uint8_t *at = m->section[TLM_SECTION_HEAD] + tlm_round_up(sizeof(tlm_head_rec), TLM_BLOB_ALIGN);
    out->ids = (const void *)at;
    at += tlm_round_up(n * (uint32_t)sizeof(uint32_t), TLM_BLOB_ALIGN);
    out->bias = (const void *)at;
    at += tlm_round_up(n * (uint32_t)sizeof(uint16_t), TLM_BLOB_ALIGN);
    out->norms = at;
    out->stride = tlm_round_up(n, TLM_BLOB_ALIGN);
    at += (m->head->n_stages - 1u) * out->stride;
    out->bytes = (size_t)(at - m->section[TLM_SECTION_HEAD]);
}

/* Scales and sums of a stage start on 64 bytes. */
static uint32_t scale_slots(uint32_t cols)
{
    return tlm_padded((cols + TLM_BLOCK - 1u) / TLM_BLOCK);
}

static uint32_t stage_tensor(const tlm_model *m, uint32_t k)
{
    return m->head_tensor + TLM_HEAD_FIXED_TENSORS + k;
}

uint32_t tlm_certified_floats(const tlm_model *m)
{
    if (m->head == NULL) {
        return 0;
    }
    uint32_t floats = tlm_padded(m->spec->dim) * 2u; /* the vector, and its codes: they start on 64 bytes too */
    for (uint32_t k = 0; k < m->head->n_stages; k++) {
        floats += scale_slots(m->tensors[stage_tensor(m, k)].cols) * 2u;
    }
    return floats;
}

/* ---- the vector ---- */

/* y = rotation * hidden + offset, and the constant that all rows share. */
static bool turn(const tlm_batch *batch, const tlm_rows *hidden, search *f, float *y)
{
    const tlm_model *m = batch->s->model;
    const tlm_weight rotation = tlm_model_weight(m, m->head_tensor), centre = tlm_model_weight(m, m->head_tensor + 2u);
    const uint32_t dim = batch->spec->dim, tile = tlm_tile_rows(rotation.type);
    tlm_input in;
    if (!tlm_linear_input(batch, rotation.type, 0.0f, hidden, &in)) {
        return false;
    }
    tlm_linear_tiles(batch->s, m->head_tensor, &in, 0, (dim + tile - 1u) / tile, y, tlm_padded(dim));
    batch->k->add(y, tlm_model_vector(m, m->head_tensor + 1u), dim);
    for (uint32_t i = dim; i < tlm_padded(dim); i++) {
        y[i] = 0.0f;
    }
    batch->k->linear[TLM_TENSOR_TYPE_F32](&centre, &in, 0, 1, &f->centre, 1);
    return true;
}

static float sum_of_squares(const tlm_input *in)
{
    float sum = 0.0f;
    for (uint32_t i = 0; i < in->n; i++) {
        const float v = (float)in->codes[i] * in->scales[i / TLM_BLOCK];
        sum += v * v;
    }
    return sum;
}

/* Each stage's columns, quantised; and the norms of what follows them. */
static bool cut(const tlm_batch *batch, search *f, const float *y)
{
    const tlm_model *m = batch->s->model;
    const uint32_t np = tlm_padded(batch->spec->dim);
    int8_t *codes = (int8_t *)(batch->at.f + np);
    float *scales = (float *)(void *)(codes + np * 4u);
    for (uint32_t k = 0, col = 0; k < f->n_stages; k++) {
        stage *g = &f->stages[k];
        g->w = tlm_model_weight(m, stage_tensor(m, k));
        const uint32_t slots = scale_slots(g->w.cols);
        int32_t *sums = (int32_t *)(void *)(scales + slots);
        if (!batch->k->quant_block(y + col, g->w.cols, 0.0f, codes + col, scales, sums)) {
            return false;
        }
        const tlm_input in = {y + col, codes + col, scales, sums, g->w.cols, 1, np, np, slots};
        g->in = in;
        col += g->w.cols;
        scales += 2u * slots;
    }
    float sum = 0.0f;
    for (uint32_t k = f->n_stages; k-- != 0;) {
        f->stages[k].later = tlm_sqrt(sum) + TINY_NORM;
        sum += sum_of_squares(&f->stages[k].in);
    }
    return true;
}

static tlm_err prepare(const tlm_batch *batch, const tlm_rows *hidden, search *f)
{
    float *y = batch->at.f;
    f->s = batch->s;
    f->n_stages = batch->s->model->head->n_stages;
    f->vocab = batch->spec->vocab;
    f->loose = (float)(batch->spec->dim + 64u) * 0x1p-21f;
    f->bar = tlm_float(TLM_MINUS_INF_BITS);
    f->out = batch->s->logits;
    tlm_head_arrays_of(batch->s->model, &f->rows);
    TLM_CHECK(TLM_ERR_NUMERIC, turn(batch, hidden, f, y) && cut(batch, f, y));
    return TLM_OK;
}

/* ---- one tile ---- */

static void run_stage(const search *f, uint32_t k, uint32_t tile0, uint32_t tile1, float *out, uint32_t row0)
{
    /* By integers: a pointer outside its object may not be formed. */
    float *y = (float *)((uintptr_t)out - row0 * sizeof(float));
    f->s->kernels->linear[f->stages[k].w.type](&f->stages[k].w, &f->stages[k].in, tile0, tile1, y, 0);
}

/* Could a row of the tile still reach the bar after stage k? */
static bool may_reach(const search *f, uint32_t k, const float *v, uint32_t row0, uint32_t n)
{
    const uint8_t *norms = f->rows.norms + k * f->rows.stride + row0;
    const float later = f->stages[k].later * f->s->model->head->norm_scale[k];
    const float room = tlm_float(tlm_bits(f->centre) & TLM_ABS_MASK);
    for (uint32_t i = 0; i < n; i++) {
        const float most = (float)norms[i] * later;
        const float size = tlm_float(tlm_bits(v[i]) & TLM_ABS_MASK) + most + room;
        if (!(((v[i] + most) + f->centre) + size * f->loose < f->bar)) {
            return true;
        }
    }
    return false;
}

/* Logits of a tile whose first stage is in v. false: none of them reaches the bar, and v holds nothing. */
static bool finish(const search *f, uint32_t tile, float *v)
{
    const uint32_t row0 = tile * ROWS, n = tlm_min_u32(ROWS, f->vocab - row0);
    for (uint32_t i = 0; i < n; i++) {
        v[i] = tlm_from_f16(f->rows.bias[row0 + i]) + v[i];
    }
    for (uint32_t k = 1; k < f->n_stages; k++) {
        float more[ROWS];
        if (!may_reach(f, k - 1u, v, row0, n)) {
            return false;
        }
        run_stage(f, k, tile, tile + 1u, more, row0);
        for (uint32_t i = 0; i < n; i++) {
            v[i] = v[i] + more[i];
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        v[i] = v[i] + f->centre;
    }
    return true;
}

/* ---- all logits, in id order ---- */

/* Ids first..end-1: every tile that holds one of them. */
static void run_all(void *arg, uint32_t part, uint32_t parts)
{
    const search *f = arg;
    const uint32_t tiles = (f->vocab + ROWS - 1u) / ROWS, end = tiles * (part + 1u) / parts;
    for (uint32_t tile = tiles * part / parts; tile < end; tile++) {
        const uint32_t *ids = f->rows.ids + tile * ROWS;
        float v[ROWS];
        uint32_t wanted = 0;
        for (uint32_t i = 0; i < ROWS; i++) { /* pads: no id */
            wanted |= (uint32_t)(ids[i] - f->first < f->end - f->first) << i;
        }
        if (wanted == 0) {
            continue;
        }
        run_stage(f, 0, tile, tile + 1u, v, tile * ROWS);
        finish(f, tile, v);
        for (uint32_t i = 0; i < ROWS; i++) {
            if ((wanted >> i & 1u) != 0) {
                f->out[ids[i] - f->first] = v[i];
            }
        }
    }
}

static void all_rows(search *f, const tlm_sink *sink, uint32_t index, tlm_err *heard)
{
    for (f->first = 0; f->first < f->vocab && *heard == TLM_OK; f->first = f->end) {
        f->end = tlm_min_u32(f->vocab, f->first + f->s->head_rows);
        tlm_session_run(f->s, run_all, f);
        *heard = sink->rows(sink->ctx, index, f->first, f->end - f->first, f->out);
    }
}

/* ---- the best ones ---- */

/* Stored rows first..end-1, under the bar that stood when their chunk began: the parts share no result. */
static void run_best(void *arg, uint32_t part, uint32_t parts)
{
    const search *f = arg;
    const uint32_t tile0 = f->first / ROWS, tiles = (f->end + ROWS - 1u) / ROWS - tile0;
    const uint32_t from = tile0 + tiles * part / parts, to = tile0 + tiles * (part + 1u) / parts;
    if (from == to) {
        return;
    }
    run_stage(f, 0, from, to, f->out, f->first);
    for (uint32_t tile = from; tile < to; tile++) {
        float *v = f->out + (tile * ROWS - f->first);
        if (!finish(f, tile, v)) {
            for (uint32_t i = 0; i < tlm_min_u32(ROWS, f->vocab - tile * ROWS); i++) {
                v[i] = tlm_float(DROPPED);
            }
        }
    }
}

/* Hands what the chunk holds above the bar to the sink; few ids are looked up. */
static tlm_err offer_chunk(search *f, const tlm_sink *sink, uint32_t index)
{
    uint32_t ids[OFFERED], n = 0;
    float logits[OFFERED];
    for (uint32_t row = f->first; row < f->end; row++) {
        const float l = f->out[row - f->first];
        if (tlm_bits(l) != DROPPED && !(l < f->bar)) {
            ids[n] = f->rows.ids[row];
            logits[n++] = l;
        }
        if (n == OFFERED || (n != 0 && row + 1u == f->end)) {
            TLM_TRY(sink->best(sink->ctx, index, ids, logits, n, &f->bar));
            n = 0;
        }
    }
    return TLM_OK;
}

static void best_rows(search *f, const tlm_sink *sink, uint32_t index, tlm_err *heard)
{
    *heard = sink->best(sink->ctx, index, NULL, NULL, 0, &f->bar);
    for (f->first = 0; f->first < f->vocab && *heard == TLM_OK; f->first = f->end) {
        f->end = tlm_min_u32(f->vocab, f->first + tlm_min_u32(f->s->head_rows, UNDER_ONE_BAR));
        tlm_session_run(f->s, run_best, f);
        *heard = offer_chunk(f, sink, index);
    }
}

tlm_err tlm_certified(const tlm_batch *batch, const tlm_rows *hidden, const tlm_sink *sink, uint32_t index,
                      tlm_err *heard)
{
    search f;
    TLM_TRY(prepare(batch, hidden, &f));
    if (sink->best == NULL) {
        all_rows(&f, sink, index, heard);
    } else {
        best_rows(&f, sink, index, heard);
    }
    return TLM_OK;
}
