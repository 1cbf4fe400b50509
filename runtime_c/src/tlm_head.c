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
#include "tlm_session.h"

enum {
    ROWS = 8,           /* a tile of q4_0 or q8_0 */
    UNDER_ONE_BAR = 256, /* rows between two looks at the bar: at most 32 tiles */
    RUN = 16,            /* tiles in one call of a kernel */
    PAIR = 2,            /* tiles that a repacked copy may hold in one group: a call begins and ends at pairs */
    CHEAP = 8,           /* tiles of a repacked copy that cost less to read than to leave out */
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
    out->stride = tlm_round_up(n, TLM_BLOB_ALIGN);
    out->bias = (const void *)at;
    at += out->stride;
    out->norms = at;
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
        uint32_t all;
        g->w = tlm_session_weight(batch->s, stage_tensor(m, k), 0, &all); /* repacked as a whole, or as the blob has it */
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

/* ---- some tiles ---- */

/* Up to 32 tiles from an even one on: bit t of `live` is set while tile tile0 + t is read on. */
typedef struct span {
    uint32_t tile0, tiles, live;
    float *v; /* sums of the rows of all its tiles, from tile0 on */
} span;

static uint32_t rows_of(const search *f, uint32_t tile0, uint32_t tile1)
{
    return tlm_min_u32(tile1 * ROWS, f->vocab) - tile0 * ROWS;
}

static uint32_t first_tiles(uint32_t n)
{
    return 0xffffffffu >> (32u - n);
}

/* First of the `tiles` tiles that part `part` has: an even one. */
static uint32_t share(uint32_t tiles, uint32_t part, uint32_t parts)
{
    return tlm_min_u32(tiles, (tiles + 1u) / PAIR * part / parts * PAIR);
}

static void run_stage(const search *f, uint32_t k, uint32_t tile0, uint32_t tile1, float *out)
{
    /* By integers: a pointer outside its object may not be formed. */
    float *y = (float *)((uintptr_t)out - tile0 * ROWS * sizeof(float));
    const tlm_weight *w = &f->stages[k].w;
    (w->repacked ? f->s->kernels->linear_repacked : f->s->kernels->linear)[w->type](w, &f->stages[k].in, tile0, tile1, y, 0);
}

/* The tiles to read for the live ones. */
static uint32_t tiles_read(const span *s, bool repacked)
{
    uint32_t read = repacked ? 0 : s->live;
    for (uint32_t t = 0; repacked && t < 32u; t += CHEAP) {
        read |= (s->live >> t & first_tiles(CHEAP)) != 0 ? first_tiles(CHEAP) << t : 0;
    }
    return read & first_tiles(s->tiles);
}

/* v + stage k in the live tiles, neighbours in one call of the kernel; then those stay live that may reach the bar. What
 * a dead one has is of no use to anyone. */
static void add_stage(const search *f, uint32_t k, span *s)
{
    const uint32_t read = tiles_read(s, f->stages[k].w.repacked);
    const bool last = k + 1u == f->n_stages; /* nothing is added later: what stands for its norms is of no account */
    const float later = last ? 0.0f : f->stages[k].later * f->s->model->head->norm_scale[k];
    const uint8_t *norms = last ? (const uint8_t *)f->rows.bias : f->rows.norms + k * f->rows.stride;
    const tlm_bound b = {later, f->centre, tlm_float(tlm_bits(f->centre) & TLM_ABS_MASK), f->loose, f->bar};
    uint32_t live = 0;
    for (uint32_t t = 0, n; t < 32u && read >> t != 0; t += n) {
        n = 0;
        while (t + n < 32u && n < RUN && (read >> (t + n) & 1u) != 0) {
            n++;
        }
        if (n == 0) {
            n = 1;
            continue;
        }
        float more[RUN * ROWS];
        const uint32_t tile = s->tile0 + t, rows = rows_of(f, tile, tile + n);
        run_stage(f, k, tile, tile + n, more);
        live |= f->s->kernels->bound(&b, more, norms + tile * ROWS, rows, s->v + t * ROWS) << t;
    }
    s->live &= live;
}

/* Logits of the live tiles; the others fall out where none of their rows reaches the bar, and then hold nothing. */
static void search_span(const search *f, span *s)
{
    const float scale = f->s->model->head->bias_scale;
    const uint32_t rows = rows_of(f, s->tile0, s->tile0 + s->tiles);
    const int8_t *bias = f->rows.bias + s->tile0 * ROWS;
    for (uint32_t i = 0; i < rows; i++) {
        s->v[i] = (float)bias[i] * scale;
    }
    for (uint32_t k = 0; k < f->n_stages; k++) {
        add_stage(f, k, s);
    }
    for (uint32_t t = 0; t < s->tiles; t++) {
        const uint32_t end = (s->live >> t & 1u) != 0 ? tlm_min_u32(rows, (t + 1u) * ROWS) : 0;
        for (uint32_t i = t * ROWS; i < end; i++) {
            s->v[i] = s->v[i] + f->centre;
        }
    }
}

/* ---- all logits, in id order ---- */

/* Ids first..end-1: every tile that holds one of them. */
static void run_all(void *arg, uint32_t part, uint32_t parts)
{
    const search *f = arg;
    const uint32_t tiles = (f->vocab + ROWS - 1u) / ROWS, end = share(tiles, part + 1u, parts);
    for (uint32_t tile = share(tiles, part, parts); tile < end; tile += RUN) {
        const uint32_t rows = tlm_min_u32(RUN, end - tile) * ROWS, *ids = f->rows.ids + tile * ROWS;
        float v[RUN * ROWS];
        span s = {tile, rows / ROWS, 0, v};
        for (uint32_t i = 0; i < rows; i++) { /* pads: no id */
            s.live |= (uint32_t)(ids[i] - f->first < f->end - f->first) << i / ROWS;
        }
        search_span(f, &s);
        for (uint32_t i = 0; i < rows; i++) {
            if (ids[i] - f->first < f->end - f->first) {
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
    const uint32_t from = tile0 + share(tiles, part, parts), to = tile0 + share(tiles, part + 1u, parts);
    if (from == to) {
        return;
    }
    span s = {from, to - from, first_tiles(to - from), f->out + (from * ROWS - f->first)};
    search_span(f, &s);
    for (uint32_t t = 0; t < to - from; t++) {
        if ((s.live >> t & 1u) == 0) {
            s.v[t * ROWS] = tlm_float(DROPPED);
        }
    }
}

/* Hands what the chunk holds above the bar to the sink; few ids are looked up. */
static tlm_err offer_chunk(search *f, const tlm_sink *sink, uint32_t index)
{
    uint32_t ids[OFFERED], n = 0;
    float logits[OFFERED];
    for (uint32_t row0 = f->first; row0 < f->end; row0 += ROWS) {
        const float *l = f->out + (row0 - f->first);
        if (tlm_bits(l[0]) == DROPPED) {
            continue;
        }
        for (uint32_t i = 0, rows = tlm_min_u32(ROWS, f->end - row0); i < rows; i++) {
            if (!(l[i] < f->bar)) {
                ids[n] = f->rows.ids[row0 + i];
                logits[n++] = l[i];
            }
        }
        if (n > OFFERED - ROWS) {
            TLM_TRY(sink->best(sink->ctx, index, ids, logits, n, &f->bar));
            n = 0;
        }
    }
    return n == 0 ? TLM_OK : sink->best(sink->ctx, index, ids, logits, n, &f->bar);
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
