/* Linear layers: the input in the form that the weights want, rows split over cores at tiles, bias. */
#include <string.h>

#include "tlm_forward.h"
#include "tlm_math.h"
#include "tlm_model.h"

/* The forms an input can take (rule 6). */
typedef enum form { FORM_FLOAT, FORM_BLOCK, FORM_VECTOR, FORMS } form;

static form form_of(uint8_t type)
{
    switch (type) {
    case TLM_TENSOR_TYPE_Q8_0:
    case TLM_TENSOR_TYPE_Q4_0:
        return FORM_BLOCK;
    case TLM_TENSOR_TYPE_T2:
    case TLM_TENSOR_TYPE_T1:
        return FORM_VECTOR;
    default:
        return FORM_FLOAT;
    }
}

static bool all_finite(const tlm_rows *rows)
{
    for (uint32_t b = 0; b < rows->n; b++) {
        if (tlm_absmax_bits(rows->x + (size_t)b * rows->stride, rows->cols) >= TLM_INF_BITS) {
            return false;
        }
    }
    return true;
}

bool tlm_linear_input(const tlm_batch *batch, uint8_t type, float floor, const tlm_rows *rows, tlm_input *in)
{
    const form want = form_of(type);
    tlm_quant_fn *quant = want == FORM_BLOCK ? batch->k->quant_block : batch->k->quant_vector;
    in->x = rows->x;
    in->codes = batch->at.codes;
    in->scales = batch->at.scales;
    in->sums = batch->at.sums;
    in->n = rows->cols;
    in->batch = rows->n;
    in->x_stride = rows->stride;
    in->code_stride = tlm_padded(rows->cols);
    in->block_stride = batch->s->widths.blocks;
    if (want == FORM_FLOAT) {
        return all_finite(rows);
    }
    for (uint32_t b = 0; b < rows->n; b++) {
        const size_t block = (size_t)b * in->block_stride;
        if (!quant(rows->x + (size_t)b * rows->stride, rows->cols, want == FORM_BLOCK ? 0.0f : floor,
                   batch->at.codes + (size_t)b * in->code_stride, batch->at.scales + block, batch->at.sums + block)) {
            return false;
        }
    }
    return true;
}

/* ---- matrices with one input, split over the parts ---- */

typedef struct linear_job {
    const tlm_session *s;
    const tlm_input *in;
    uint32_t count;
    struct {
        float *y;
        uint32_t weight, stride, tile0, tile1;
    } m[TLM_MAX_SHARED];
} linear_job;

static void run_linear(void *arg, uint32_t part, uint32_t parts)
{
    const linear_job *job = arg;
    for (uint32_t i = 0; i < job->count; i++) {
        const uint32_t tile0 = job->m[i].tile0, tiles = job->m[i].tile1 - tile0;
        const uint32_t to = tile0 + tiles * (part + 1u) / parts;
        for (uint32_t at = tile0 + tiles * part / parts, end; at < to; at = end) {
            const tlm_weight w = tlm_session_weight(job->s, job->m[i].weight, at, &end);
            tlm_linear_fn *const *linear = w.repacked ? job->s->kernels->linear_repacked : job->s->kernels->linear;
            end = tlm_min_u32(end, to);
            linear[w.type](&w, job->in, at, end, job->m[i].y, job->m[i].stride);
        }
    }
}

void tlm_linear_tiles(const tlm_session *s, uint32_t weight, const tlm_input *in, uint32_t tile0, uint32_t tile1,
                      float *y, uint32_t y_stride)
{
    linear_job job;
    job.s = s;
    job.in = in;
    job.count = 1;
    job.m[0].weight = weight;
    job.m[0].y = y;
    job.m[0].stride = y_stride;
    job.m[0].tile0 = tile0;
    job.m[0].tile1 = tile1;
    tlm_session_run(s, run_linear, &job);
}

static void add_matrix(linear_job *job, const tlm_batch *batch, const tlm_matrix *m)
{
    const tlm_tensor_rec *w = &batch->s->model->tensors[m->weight];
    const uint32_t tile = tlm_tile_rows(w->type);
    job->m[job->count].weight = m->weight;
    job->m[job->count].y = m->y;
    job->m[job->count].stride = m->stride;
    job->m[job->count].tile0 = 0;
    job->m[job->count].tile1 = (w->rows + tile - 1u) / tile;
    job->count++;
}

/* Bias, and zeros up to the padded length: kernels read their inputs in whole vectors. */
static void finish(const tlm_batch *batch, const tlm_matrix *m, uint32_t n)
{
    const uint32_t rows = batch->s->model->tensors[m->weight].rows;
    const float *bias = tlm_session_vector(batch->s, m->bias);
    for (uint32_t b = 0; b < n; b++) {
        float *y = m->y + (size_t)b * m->stride;
        if (bias != NULL) {
            batch->k->add(y, bias, rows);
        }
        for (uint32_t i = rows; i < tlm_padded(rows); i++) {
            y[i] = 0.0f;
        }
    }
}

tlm_err tlm_linears(const tlm_batch *batch, const tlm_rows *rows, const tlm_matrix *matrices, uint32_t count)
{
    const tlm_model *model = batch->s->model;
    const float floor = batch->spec->input_quant == TLM_INPUT_QUANT_PLAIN ? 0.0f : TLM_CLAMP_FLOOR;
    for (uint32_t want = 0; want < FORMS; want++) {
        linear_job job;
        tlm_input in;
        uint8_t type = 0;
        job.s = batch->s;
        job.in = &in;
        job.count = 0;
        for (uint32_t i = 0; i < count; i++) {
            if ((uint32_t)form_of(model->tensors[matrices[i].weight].type) == want) {
                type = model->tensors[matrices[i].weight].type;
                add_matrix(&job, batch, &matrices[i]);
            }
        }
        if (job.count == 0) {
            continue;
        }
        TLM_CHECK(TLM_ERR_NUMERIC, tlm_linear_input(batch, type, floor, rows, &in));
        tlm_session_run(batch->s, run_linear, &job);
    }
    for (uint32_t i = 0; i < count; i++) {
        finish(batch, &matrices[i], rows->n);
    }
    return TLM_OK;
}
