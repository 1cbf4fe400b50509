/* The forward pass: embed; in each layer norm, attention, add, norm, feed-forward, add.
 *
 * Buffers (tlm_scratch): x is the residual stream; h holds a normed input, the attention's output or the second
 * half of a block; f holds q, k and v, or gate and up, or what wo gives.
 */
#include "tlm_forward.h"

#include <string.h>

#include "tlm_math.h"
#include "tlm_model.h"

static void embed(const tlm_batch *batch, const uint32_t *ids)
{
    const tlm_model *model = batch->s->model;
    const tlm_weight table = tlm_model_weight(model, batch->spec->tok_embed);
    const float *positions = tlm_model_vector(model, batch->spec->pos_embed);
    const uint32_t stride = batch->s->widths.dim;
    for (uint32_t b = 0; b < batch->n; b++) {
        float *x = batch->at.x + (size_t)b * stride;
        batch->k->row[table.type](&table, ids[b], x);
        if (positions != NULL) {
            batch->k->add(x, positions + (size_t)(batch->position + b) * stride, batch->spec->dim);
        }
    }
}

/* Cosines and sines of each token's position, once for all layers. */
static void prepare_rope(const tlm_batch *batch)
{
    const uint32_t half = batch->spec->rope_dims / 2u;
    if (half == 0) {
        return;
    }
    const uint32_t *turns = (const void *)tlm_session_vector(batch->s, batch->spec->rope_turns);
    for (uint32_t b = 0; b < batch->n; b++) {
        float *cs = batch->at.rope + (size_t)b * batch->s->widths.rope;
        for (uint32_t i = 0; i < half; i++) {
            tlm_sincos((batch->position + b) * turns[i], &cs[half + i], &cs[i]);
        }
    }
}

/* All vectors of the batch, normed from `from` to `to`. */
static float *norm(const tlm_batch *batch, uint8_t kind, float *from, float *to, uint32_t cols, uint32_t stride,
                   const float *gain, const float *bias)
{
    for (uint32_t b = 0; b < batch->n; b++) {
        batch->k->norm[kind](from + (size_t)b * stride, cols, batch->spec->norm_eps, gain, bias,
                             to + (size_t)b * stride);
    }
    return to;
}

/* What the linear layers of a block read: normed by the block's own norm, where there is one, and by the norm that
 * belongs to the quantisation (rule 6, NORM_CLAMP). */
static tlm_rows block_input(const tlm_batch *batch, float *from, float *to, uint32_t cols, uint32_t gain, uint32_t bias)
{
    const uint32_t stride = tlm_padded(cols);
    float *x = from;
    if (gain != TLM_NO_TENSOR) {
        x = norm(batch, batch->spec->norm_kind, x, to, cols, stride, tlm_session_vector(batch->s, gain),
                 tlm_session_vector(batch->s, bias));
    }
    if (batch->spec->input_quant == TLM_INPUT_QUANT_NORM_CLAMP) {
        x = norm(batch, TLM_NORM_KIND_RMS, x, to, cols, stride, NULL, NULL);
    }
    const tlm_rows rows = {x, cols, stride, batch->n};
    return rows;
}

/* x = x + y, the residual. */
static void add_to_stream(const tlm_batch *batch, const float *y)
{
    const size_t stride = batch->s->widths.dim;
    for (uint32_t b = 0; b < batch->n; b++) {
        batch->k->add(batch->at.x + b * stride, y + b * stride, batch->spec->dim);
    }
}

/* ---- attention ---- */

typedef struct attn_job {
    const tlm_batch *batch;
    const float *q;
    float *out;
    uint32_t n_kv_heads, window, stride;
    tlm_kv_layout kv;
    bool bad[TLM_MAX_PARTS]; /* something was not finite there */
} attn_job;

/* Where the scales of a group of heads begin. */
static size_t scales_at(uint32_t group)
{
    return (size_t)group * TLM_PAGE * sizeof(uint16_t);
}

/* Tokens b..b+n-1, some heads of a group; several tokens only where the kernels take them together. */
static bool attend(const attn_job *job, uint32_t b, uint32_t n, uint32_t head0, uint32_t head1, uint32_t part)
{
    const tlm_batch *batch = job->batch;
    const tlm_session *s = batch->s;
    const size_t scales = scales_at(head0 / (batch->spec->n_heads / s->kv_groups));
    tlm_attn a;
    a.q = job->q + (size_t)b * job->stride;
    a.out = job->out + (size_t)b * job->stride;
    a.pages = batch->pages;
    a.k = job->kv.k;
    a.v = job->kv.v;
    a.ks = job->kv.ks + scales;
    a.vs = job->kv.vs + scales;
    a.head_dim = batch->spec->head_dim;
    a.n_heads = batch->spec->n_heads;
    a.n_kv_heads = job->n_kv_heads;
    a.last = batch->position + b;
    a.first = tlm_window_first(a.last, job->window);
    a.head0 = head0;
    a.head1 = head1;
    a.scale = batch->spec->attn_scale;
    a.scratch = s->attn + part * s->attn_bytes;
    return n == 1u ? batch->k->attn[s->kv_type](&a)
                   : batch->k->attn_batch[s->kv_type](&a, n, job->window, job->stride);
}

/* All (token, head) pairs of the batch in a row, cut into equal parts: the heads of a token side by side, a group that
 * shares its scales at a time, or the tokens of a head where the kernels take them together. */
static void run_attention(void *arg, uint32_t part, uint32_t parts)
{
    attn_job *job = arg;
    const tlm_batch *batch = job->batch;
    const bool together = batch->n > 1u && batch->k->attn_batch[batch->s->kv_type] != NULL;
    const uint32_t groups = batch->s->kv_groups, heads = batch->spec->n_heads, all = heads * batch->n;
    const uint32_t row = together ? batch->n : heads / groups;
    const uint32_t end = all * (part + 1u) / parts;
    for (uint32_t at = all * part / parts; at < end && !job->bad[part];) {
        const uint32_t i = at / row, from = at % row, to = tlm_min_u32(end - i * row, row);
        const uint32_t b = together ? from : i / groups, n = together ? to - from : 1u;
        const uint32_t head0 = together ? i : i % groups * row + from;
        const uint32_t head1 = together ? i + 1u : head0 + (to - from);
        job->bad[part] = !attend(job, b, n, head0, head1, part); /* one call: inlined, less stack */
        at = i * row + to;
    }
}

/* Rule 12: keys about the middle of their range and in their own scale, queries in its inverse. */
static void centre_keys(const tlm_batch *batch, const tlm_layer_rec *layer, float *q, float *k)
{
    const float *centre = tlm_session_vector(batch->s, layer->k_range);
    if (centre == NULL) {
        return;
    }
    const uint32_t head_dim = batch->spec->head_dim, q_dim = batch->spec->n_heads * head_dim;
    const uint32_t kv_dim = layer->n_kv_heads * head_dim, stride = tlm_padded(kv_dim), share = q_dim / kv_dim;
    const uint32_t run = share == 1u ? kv_dim : head_dim; /* queries whose scales lie in a row */
    const float *scale = centre + stride;
    batch->k->centre(k, batch->n, kv_dim, stride, centre, scale);
    for (uint32_t b = 0; b < batch->n; b++, q += tlm_padded(q_dim)) {
        for (uint32_t i = 0; i < q_dim; i += run) {
            batch->k->mul(q + i, scale + i / (run * share) * run, run);
        }
    }
}

/* Keys or values of the batch: those of a group of heads, with a scale of their own. */
static tlm_err store_group(const tlm_batch *batch, const attn_job *job, const tlm_weight *feedback, float *x,
                           uint32_t stride, bool is_v, uint32_t group)
{
    const uint32_t head_dim = batch->spec->head_dim, heads = job->n_kv_heads / batch->s->kv_groups;
    const size_t codes = (is_v ? job->kv.v : job->kv.k) + group * job->kv.group;
    const size_t scales = (is_v ? job->kv.vs : job->kv.ks) + scales_at(group);
    x += group * heads * head_dim;
    if (feedback != NULL) {
        const tlm_fed_keys keys = {x, batch->n, stride, batch->position, heads, head_dim, feedback, batch->pages, codes,
                                   scales, group * heads};
        TLM_CHECK(TLM_ERR_NUMERIC, batch->k->kv_feed(&keys));
        return TLM_OK;
    }
    for (uint32_t t = batch->position; t < batch->position + batch->n; t++, x += stride) {
        uint8_t *page = batch->pages[t / TLM_PAGE];
        TLM_CHECK(TLM_ERR_NUMERIC,
                  batch->k->kv_store[batch->s->kv_type](x, heads, head_dim, is_v, page + codes,
                                                        (uint16_t *)(void *)(page + scales), t % TLM_PAGE));
    }
    return TLM_OK;
}

static tlm_err store_kv(const tlm_batch *batch, const attn_job *job, const tlm_weight *feedback, float *k, float *v,
                        uint32_t stride)
{
    for (uint32_t g = 0; g < batch->s->kv_groups; g++) {
        TLM_TRY(store_group(batch, job, feedback, k, stride, false, g));
        TLM_TRY(store_group(batch, job, NULL, v, stride, true, g));
    }
    return TLM_OK;
}

static tlm_err attention_over_cache(attn_job *job)
{
    const tlm_batch *batch = job->batch;
    const uint32_t q_dim = batch->spec->n_heads * batch->spec->head_dim;
    for (uint32_t p = 0; p < TLM_MAX_PARTS; p++) {
        job->bad[p] = false;
    }
    for (uint32_t b = 0; b < batch->n; b++) {
        for (uint32_t i = q_dim; i < job->stride; i++) {
            job->out[(size_t)b * job->stride + i] = 0.0f;
        }
    }
    tlm_session_run(batch->s, run_attention, job);
    for (uint32_t p = 0; p < TLM_MAX_PARTS; p++) {
        TLM_CHECK(TLM_ERR_NUMERIC, !job->bad[p]);
    }
    return TLM_OK;
}

static tlm_err attention(tlm_batch *batch, const tlm_layer_rec *layer)
{
    const tlm_spec_rec *spec = batch->spec;
    const uint32_t q_dim = spec->n_heads * spec->head_dim, q_stride = tlm_padded(q_dim);
    const uint32_t kv_stride = tlm_padded(layer->n_kv_heads * spec->head_dim);
    float *q = batch->at.f, *k = q + (size_t)batch->n * q_stride, *v = k + (size_t)batch->n * kv_stride;

    const tlm_rows in =
        block_input(batch, batch->at.x, batch->at.h, spec->dim, layer->attn_norm, layer->attn_norm_bias);
    const tlm_matrix qkv[] = {{layer->wq, layer->bq, q, q_stride},
                              {layer->wk, layer->bk, k, kv_stride},
                              {layer->wv, layer->bv, v, kv_stride}};
    TLM_TRY(tlm_linears(batch, &in, qkv, 3));
    for (uint32_t b = 0; b < batch->n && spec->rope_dims != 0; b++) {
        const float *cs = batch->at.rope + (size_t)b * batch->s->widths.rope;
        batch->k->rope(q + (size_t)b * q_stride, spec->n_heads, spec->head_dim, spec->rope_dims, cs);
        batch->k->rope(k + (size_t)b * kv_stride, layer->n_kv_heads, spec->head_dim, spec->rope_dims, cs);
    }
    centre_keys(batch, layer, q, k);

    attn_job job;
    job.batch = batch;
    job.q = q;
    job.out = batch->at.h;
    job.n_kv_heads = layer->n_kv_heads;
    job.window = layer->window;
    job.stride = q_stride;
    tlm_kv_layout_of(batch->s->kv_type, batch->s->kv_groups, layer->n_kv_heads, spec->head_dim, &job.kv);
    tlm_weight feedback;
    const bool fed = layer->k_feedback != TLM_NO_TENSOR && batch->s->kv_type == TLM_KV_I4;
    if (fed) {
        uint32_t end; /* it lies in one place */
        feedback = tlm_session_weight(batch->s, layer->k_feedback, 0, &end);
    }
    TLM_TRY(store_kv(batch, &job, fed ? &feedback : NULL, k, v, kv_stride));
    TLM_TRY(attention_over_cache(&job));

    const tlm_rows mixed = block_input(batch, batch->at.h, batch->at.h, q_dim, layer->attn_sub_norm, TLM_NO_TENSOR);
    const tlm_matrix out = {layer->wo, layer->bo, batch->at.f, batch->s->widths.dim};
    TLM_TRY(tlm_linears(batch, &mixed, &out, 1));
    add_to_stream(batch, batch->at.f);
    return TLM_OK;
}

/* ---- feed-forward ---- */

static tlm_err feed_forward(const tlm_batch *batch, const tlm_layer_rec *layer)
{
    const tlm_spec_rec *spec = batch->spec;
    const bool gated = layer->ffn_kind == TLM_FFN_KIND_GATED;
    const uint32_t stride = tlm_padded(layer->ffn_dim);
    float *hidden = batch->at.f, *up = gated ? hidden + (size_t)batch->n * stride : hidden;

    const tlm_rows in = block_input(batch, batch->at.x, batch->at.h, spec->dim, layer->ffn_norm, layer->ffn_norm_bias);
    const tlm_matrix wide[] = {{layer->w_gate, layer->b_gate, hidden, stride}, {layer->w_up, layer->b_up, up, stride}};
    TLM_TRY(tlm_linears(batch, &in, gated ? wide : wide + 1, gated ? 2 : 1));
    for (uint32_t b = 0; b < batch->n; b++) {
        const size_t at = (size_t)b * stride;
        batch->k->act[spec->act](hidden + at, gated ? up + at : NULL, layer->ffn_dim);
    }

    const tlm_rows narrow = block_input(batch, hidden, hidden, layer->ffn_dim, layer->ffn_sub_norm, TLM_NO_TENSOR);
    const tlm_matrix down = {layer->w_down, layer->b_down, batch->at.h, batch->s->widths.dim};
    TLM_TRY(tlm_linears(batch, &narrow, &down, 1));
    add_to_stream(batch, batch->at.h);
    return TLM_OK;
}

tlm_err tlm_forward(tlm_batch *batch, const uint32_t *ids)
{
    embed(batch, ids);
    prepare_rope(batch);
    for (uint32_t i = 0; i < batch->spec->n_layers; i++) {
        const tlm_layer_rec *layer = &batch->s->model->layers[i];
        batch->pages = batch->s->pages + (size_t)i * batch->s->n_pages;
        TLM_TRY(attention(batch, layer));
        TLM_TRY(feed_forward(batch, layer));
    }
    return TLM_OK;
}
