/* tlm_eval: cuts the tokens into batches, computes the head where logits are wanted. */
#include <string.h>

#include "tlm_forward.h"
#include "tlm_head.h"
#include "tlm_math.h"
#include "tlm_model.h"

/* ---- head ---- */

/* Normed hidden states of the picked tokens, side by side in h. */
static tlm_rows head_input(const tlm_batch *batch, const uint32_t *picked, uint32_t n)
{
    const tlm_spec_rec *spec = batch->spec;
    const uint32_t stride = batch->s->widths.dim;
    const float *gain = tlm_session_vector(batch->s, spec->final_norm);
    const float *bias = tlm_session_vector(batch->s, spec->final_norm_bias);
    for (uint32_t i = 0; i < n; i++) {
        const float *x = batch->at.x + (size_t)picked[i] * stride;
        float *h = batch->at.h + (size_t)i * stride;
        if (gain != NULL) {
            batch->k->norm[spec->norm_kind](x, spec->dim, spec->norm_eps, gain, bias, h);
        } else {
            memcpy(h, x, stride * sizeof *h);
        }
    }
    const tlm_rows rows = {batch->at.h, spec->dim, stride, n};
    return rows;
}

/* The chunk row0..row0+rows-1 of the logits of n tokens, `stride` apart in the session's buffer. */
static void head_chunk(const tlm_batch *batch, const tlm_input *in, uint32_t row0, uint32_t rows, uint32_t stride)
{
    const tlm_session *s = batch->s;
    const uint32_t id = batch->spec->head, tile = tlm_tile_rows(s->model->tensors[id].type);
    const float *bias = tlm_session_vector(s, batch->spec->head_bias);
    /* Kernels count rows from the matrix's first one: y starts row0 floats before the buffer. By integers, since
     * a pointer outside its object may not be formed. */
    float *y = (float *)((uintptr_t)s->logits - row0 * sizeof(float));
    tlm_linear_tiles(s, id, in, row0 / tile, (row0 + rows + tile - 1u) / tile, y, stride);
    for (uint32_t i = 0; i < in->batch && bias != NULL; i++) {
        batch->k->add(s->logits + (size_t)i * stride, bias + row0, rows);
    }
}

/* One group of tokens whose chunks fit the logits buffer together. */
static tlm_err head_group(const tlm_batch *batch, const uint32_t *picked, uint32_t n, const tlm_sink *sink,
                          uint32_t index0, tlm_err *heard)
{
    const tlm_session *s = batch->s;
    const tlm_tensor_rec *w = &s->model->tensors[batch->spec->head];
    const uint32_t granule = tlm_head_granule(s->model), stride = s->head_rows / n / granule * granule;
    const tlm_rows rows = head_input(batch, picked, n);
    tlm_input in;
    TLM_CHECK(TLM_ERR_NUMERIC, tlm_linear_input(batch, w->type, 0.0f, &rows, &in));
    for (uint32_t row0 = 0; row0 < w->rows; row0 += stride) {
        const uint32_t count = tlm_min_u32(stride, w->rows - row0);
        head_chunk(batch, &in, row0, count, stride);
        for (uint32_t i = 0; i < n; i++) {
            *heard = sink->rows(sink->ctx, index0 + picked[i], row0, count, s->logits + (size_t)i * stride);
            if (*heard != TLM_OK) {
                return TLM_OK;
            }
        }
    }
    return TLM_OK;
}

/* A certified head reads what the token asks for: one token after the other. */
static tlm_err certified(const tlm_batch *batch, const uint32_t *picked, uint32_t n, const tlm_sink *sink,
                         uint32_t index0, tlm_err *heard)
{
    for (uint32_t i = 0; i < n && *heard == TLM_OK; i++) {
        const tlm_rows hidden = head_input(batch, picked + i, 1);
        TLM_TRY(tlm_certified(batch, &hidden, sink, index0 + picked[i], heard));
    }
    return TLM_OK;
}

tlm_err tlm_head(const tlm_batch *batch, const uint32_t *picked, uint32_t n_picked, const tlm_sink *sink,
                 uint32_t index0, tlm_err *heard)
{
    if (batch->s->model->head != NULL) {
        return certified(batch, picked, n_picked, sink, index0, heard);
    }
    const uint32_t most = batch->s->head_rows / tlm_head_granule(batch->s->model);
    for (uint32_t at = 0; at < n_picked && *heard == TLM_OK;) {
        const uint32_t n = tlm_min_u32(most, n_picked - at);
        TLM_TRY(head_group(batch, picked + at, n, sink, index0, heard));
        at += n;
    }
    return TLM_OK;
}

/* ---- eval ---- */

/* Tokens of the batch at `index0` whose logits are wanted. */
static uint32_t pick(uint32_t *picked, uint32_t index0, uint32_t n, uint32_t all, const uint8_t *want)
{
    uint32_t count = 0;
    for (uint32_t b = 0; b < n; b++) {
        if (want != NULL ? want[index0 + b] != 0 : index0 + b + 1u == all) {
            picked[count++] = b;
        }
    }
    return count;
}

static tlm_err check_tokens(const tlm_session *s, const uint32_t *ids, uint32_t n)
{
    TLM_CHECK(TLM_ERR_ARG, s != NULL && ids != NULL && n >= 1u);
    TLM_CHECK(TLM_ERR_CONTEXT, n <= s->context - s->position);
    for (uint32_t i = 0; i < n; i++) {
        TLM_CHECK(TLM_ERR_TOKEN, ids[i] < s->model->spec->vocab);
    }
    return TLM_OK;
}

tlm_err tlm_eval(tlm_session *s, const uint32_t *ids, uint32_t n, const uint8_t *want, const tlm_sink *sink)
{
    tlm_err heard = TLM_OK;
    TLM_TRY(check_tokens(s, ids, n));
    for (uint32_t done = 0; done < n;) {
        uint32_t picked[TLM_MAX_BATCH];
        uint8_t *scratch;
        tlm_batch batch;
        batch.s = s;
        batch.spec = s->model->spec;
        batch.k = s->kernels;
        batch.position = s->position + done;
        batch.n = tlm_session_batch(s, batch.position, n - done, &scratch);
        tlm_scratch_place(&s->widths, batch.n, scratch, &batch.at);
        TLM_TRY(tlm_forward(&batch, ids + done));
        if (sink != NULL && heard == TLM_OK) {
            const uint32_t count = pick(picked, done, batch.n, n, want);
            TLM_TRY(tlm_head(&batch, picked, count, sink, done, &heard));
        }
        done += batch.n;
    }
    s->position += n;
    return heard;
}

/* ---- a sink that keeps everything ---- */

/* Chunks of several tokens interleave: token by token within a chunk of rows. A group of tokens starts at row 0
 * when all tokens before it are complete. */
static tlm_err buffer_rows(void *ctx, uint32_t index, uint32_t row0, uint32_t rows, const float *logits)
{
    tlm_buffer_sink *b = ctx;
    (void)index;
    if (row0 == 0) {
        if (b->complete == b->wanted) {
            b->group = b->wanted;
        }
        b->at = b->wanted++;
    } else if (row0 != b->row0) {
        b->at = b->group;
    } else {
        b->at++;
    }
    b->row0 = row0;
    b->complete += row0 + rows == b->vocab ? 1u : 0u;
    memcpy(b->out + (size_t)b->at * b->stride + row0, logits, rows * sizeof *logits);
    return TLM_OK;
}

tlm_sink tlm_buffer_sink_init(tlm_buffer_sink *b, const tlm_model *model, float *out, size_t stride)
{
    const tlm_sink sink = {buffer_rows, b, NULL};
    memset(b, 0, sizeof *b);
    b->out = out;
    b->stride = stride;
    b->vocab = model->spec->vocab;
    return sink;
}
