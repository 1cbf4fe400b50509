/* Stands in for the assembly kernels on the desk: checks what their contracts ask for and computes the same plainly.
 *
 * With it the C around the kernels (tlm_k_s3_*.c) runs under the host's compiler and against the reference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/esp32s3/tlm_k_s3.h"
#include "kernels/ref/tlm_k_ref.h"
#include "tlm_math.h"

#ifndef CALLED /* pie_glue.c lists the calls */
#define CALLED(name, a, b, c) ((void)0)
#define POISON(p, bytes) memset(p, 0xA5, bytes)
#endif

static void need(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "contract: %s\n", what);
        abort();
    }
}

static int at(const void *p, uintptr_t to)
{
    return (uintptr_t)p % to == 0;
}

static void linear(const tlm_k_s3_linear *a, tlm_linear_fn *ref)
{
    const tlm_weight w = {a->tiles, a->n_tiles * 8u, a->np, a->scale, 0, false};
    const tlm_input in = {NULL,  a->codes, a->scales,      a->sums,
                          a->np, a->batch, 0, a->code_stride, a->block_stride / 4u};
    need(at(a->tiles, 16) && at(a->codes, 16) && a->n_tiles >= 1, "tiles and codes");
    ref(&w, &in, 0, a->n_tiles, a->y, a->y_stride / 4u);
}

static void blocks(const tlm_k_s3_linear *a, size_t scratch)
{
    const uint32_t nb = (a->np + 31u) / 32u;
    for (uint32_t b = 0; b < a->batch; b++) {
        for (uint32_t k = 0; k < nb; k++) {
            need(a->scales[b * a->block_stride / 4u + k] < 32768.0f, "input scales");
        }
    }
    POISON(a->scratch, scratch);
}

static void single(const tlm_k_s3_linear *a, size_t scratch)
{
    need(a->batch == 1 && at(a->y, 16), "one vector");
    blocks(a, scratch);
}

static void several(const tlm_k_s3_linear *a, size_t scratch)
{
    need(a->np >= 48, "columns");
    need(at(a->y, 16) && a->y_stride % 16u == 0 && a->code_stride % 16u == 0 && at(a->scratch, 16), "strides");
    blocks(a, scratch);
}

static void batch(const tlm_k_s3_linear *a, size_t more)
{
    need(a->batch % 2u == 0 && a->batch >= 4 && a->batch <= 16, "batch");
    several(a, ((a->np + 31u) / 32u) * (4u * a->batch + 32u) + more);
}

void tlm_k_s3_linear_q4_0(const tlm_k_s3_linear *a)
{
    CALLED("linear_q4_0", a->n_tiles, a->np, a->batch);
    single(a, 8u * ((a->np + 31u) / 32u));
    linear(a, tlm_k_ref_linear_q4_0);
}

void tlm_k_s3_linear_q8_0(const tlm_k_s3_linear *a)
{
    CALLED("linear_q8_0", a->n_tiles, a->np, a->batch);
    single(a, 4u * ((a->np + 31u) / 32u));
    linear(a, tlm_k_ref_linear_q8_0);
}

void tlm_k_s3_four_q4_0(const tlm_k_s3_linear *a)
{
    CALLED("four_q4_0", a->n_tiles, a->np, a->batch);
    need(a->batch == 4, "four");
    several(a, 80u * ((a->np + 31u) / 32u));
    linear(a, tlm_k_ref_linear_q4_0);
}

void tlm_k_s3_batch_q4_0(const tlm_k_s3_linear *a)
{
    CALLED("batch_q4_0", a->n_tiles, a->np, a->batch);
    batch(a, 128u * ((a->np + 31u) / 32u) + 96u);
    linear(a, tlm_k_ref_linear_q4_0);
}

void tlm_k_s3_batch_q8_0(const tlm_k_s3_linear *a)
{
    CALLED("batch_q8_0", a->n_tiles, a->np, a->batch);
    batch(a, 0);
    linear(a, tlm_k_ref_linear_q8_0);
}

void tlm_k_s3_linear_t2(const tlm_k_s3_linear *a)
{
    CALLED("linear_t2", a->n_tiles, a->np, a->batch);
    need(at(a->y, 16) && (a->batch == 1 || a->y_stride % 16u == 0), "results of t2");
    POISON(a->scratch, 8u * a->batch);
    linear(a, tlm_k_ref_linear_t2);
}

void tlm_k_s3_absmax(const float *x, uint32_t np, void *peaks)
{
    CALLED("absmax", np, 0, 0);
    need(at(x, 16) && np % 16u == 0, "values");
    for (uint32_t c = 0, k = 0; c < np; c += 32, k++) {
        ((uint32_t *)peaks)[k] = tlm_absmax_bits(x + c, tlm_min_u32(np - c, 32));
    }
}

void tlm_k_s3_codes(const float *x, int8_t *codes, const void *inv, uint32_t inv_step, int32_t *sums, uint32_t np)
{
    CALLED("codes", np, inv_step, 0);
    need(at(x, 16) && at(codes, 16) && np % 16u == 0, "codes");
    for (uint32_t c = 0, k = 0; c < np; c += 32, k++) {
        float by;
        memcpy(&by, (const char *)inv + (size_t)k * inv_step, sizeof by);
        sums[k] = 0;
        for (uint32_t i = c; i < tlm_min_u32(np, c + 32); i++) {
            codes[i] = (int8_t)tlm_rint(x[i] * by);
            sums[k] += codes[i];
        }
    }
}

uint32_t tlm_k_s3_quant(const float *x, int8_t *codes, float *scales, int32_t *sums, uint32_t units, uint32_t floor)
{
    CALLED("quant", units, 0, 0);
    need(at(x, 16) && at(codes, 16) && units >= 1, "quant");
    return tlm_k_ref_quant_block(x, 16u * units, tlm_float(floor), codes, scales, sums);
}

uint32_t tlm_k_s3_query(const float *x, int8_t *codes, float *scale, uint32_t quads)
{
    CALLED("query", quads, 0, 0);
    need(at(x, 16) && quads >= 1, "query");
    return tlm_quantise(x, 4u * quads, 0.0f, codes, scale);
}

float tlm_k_s3_centre(float *y, const float *x, const float *m, uint32_t groups)
{
    CALLED("centre", groups, 0, 0);
    need(at(x, 16) && at(y, 16) && groups >= 1, "centre");
    for (uint32_t i = 0; i < 8u * groups; i++) {
        y[i] = x[i] - *m;
    }
    return tlm_dot8(y, y, 8u * groups);
}

void tlm_k_s3_gain(float *y, const float *r, const float *g, const float *b, uint32_t quads)
{
    CALLED("gain", quads, b != NULL, 0);
    need(at(y, 16) && at(g, 16) && at(b, 16), "gain");
    for (uint32_t i = 0; i < 4u * quads; i++) {
        const float v = (y[i] * *r) * g[i];
        y[i] = b != NULL ? v + b[i] : v;
    }
}

void tlm_k_s3_store_i8(const float *x, int8_t *out, const float *inv, uint32_t n)
{
    CALLED("store_i8", n, 0, 0);
    need(at(x, 16) && n % 4u == 0, "store");
    for (uint32_t i = 0; i < n; i++) {
        out[16u * i] = (int8_t)tlm_rint(x[i] * *inv);
    }
}

void tlm_k_s3_store_i4(const float *x, int8_t *out, const float *inv, uint32_t n)
{
    CALLED("store_i4", n, 0, 0);
    need(at(x, 16) && n % 4u == 0, "store");
    for (uint32_t i = 0; i < n; i += 2u) {
        const int32_t low = tlm_rint(x[i] * *inv), high = tlm_rint(x[i + 1u] * *inv);
        out[8u * i] = (int8_t)((uint32_t)(low + 8) | ((uint32_t)high & 15u) << 4);
    }
}

void tlm_k_s3_feed(const float *k, int8_t *out, const float *f, float *e, const float *inv, uint32_t dims)
{
    CALLED("feed", dims, 0, 0);
    need(at(f, 16) && at(e, 16) && dims % 2u == 0, "fed keys");
    POISON(e, 16u * dims);
    for (uint32_t h = 0; h < 4u; h++) {
        const float *g = f + h;
        need(*g == 0.0f && e[4u * dims + h] == 0.0f, "zeros");
        for (uint32_t d = dims, high = 0; d-- > 0;) {
            const float y = k[h * dims + d] * *inv;
            float t = y;
            for (uint32_t i = d + 1u; i < dims; i++) {
                t = t + *(g += 4) * e[4u * i + h];
            }
            const int32_t code = tlm_rint(t > 7.0f ? 7.0f : t < -7.0f ? -7.0f : t);
            e[4u * d + h] = y - (float)code;
            if (d % 2u != 0) {
                high = (uint32_t)code << 4;
            } else {
                out[8u * (h * dims + d)] = (int8_t)((uint32_t)(code + 8) + high);
            }
        }
    }
}

static int value_of(const int8_t *rows, uint32_t d, uint32_t slot, int four)
{
    const int8_t byte = rows[16u * (four ? d / 2u : d) + slot];
    return !four ? byte : d % 2u ? byte >> 4 : (byte & 15) - 8;
}

static void score(const tlm_k_s3_score *a, int four)
{
    need(a->dims >= 1 && at(a->ks, 16) && at(a->scores, 16) && a->n_pages >= 1, "scores");
    need(a->dims <= (four ? 512 : 32), "dims");
    for (uint32_t t = 0; t < 16u * a->n_pages; t++) {
        const int8_t *k = (const int8_t *)a->pages[t / 16u] + a->offset;
        int32_t sum = 0;
        for (uint32_t d = 0; d < a->dims; d++) {
            sum += a->q[d] * value_of(k, d, t % 16u, four);
        }
        a->scores[t] = (float)sum * (a->qa * a->ks[t]);
    }
}

static void mix(const int8_t *w, const int8_t *const v[2], uint32_t dims, const float *scale, float *out, int four)
{
    need(at(w, 16) && at(v[0], 16) && at(v[1], 16), "mix");
    for (uint32_t d = 0; d < dims; d++) {
        int32_t sum = 0;
        for (uint32_t s = 0; s < 32; s++) {
            sum += w[s] * value_of(v[s / 16u], d, s % 16u, four);
        }
        out[d] = out[d] + (float)sum * *scale;
    }
}

void tlm_k_s3_score_i8(const tlm_k_s3_score *a)
{
    CALLED("score_i8", a->n_pages, a->dims, 0);
    score(a, 0);
}

void tlm_k_s3_score_i4(const tlm_k_s3_score *a)
{
    CALLED("score_i4", a->n_pages, a->dims, 0);
    score(a, 1);
}

void tlm_k_s3_mix_i8(const int8_t *w, const int8_t *v0, const int8_t *v1, uint32_t dims, const float *scale, float *out)
{
    CALLED("mix_i8", dims, 0, 0);
    const int8_t *const v[2] = {v0, v1};
    mix(w, v, dims, scale, out, 0);
}

void tlm_k_s3_mix_i4(const int8_t *w, const int8_t *v0, const int8_t *v1, uint32_t dims, const float *scale, float *out)
{
    CALLED("mix_i4", dims, 0, 0);
    const int8_t *const v[2] = {v0, v1};
    mix(w, v, dims, scale, out, 1);
}

void tlm_k_s3_scales(void *const *pages, size_t offset, float *out, uint32_t n_pages)
{
    CALLED("scales", n_pages, 0, 0);
    need(at(out, 16), "scales");
    for (uint32_t p = 0; p < n_pages; p++) {
        const uint16_t *from = (const uint16_t *)(const void *)((const char *)pages[p] + offset);
        need(at(from, 16), "scales of a page");
        for (uint32_t i = 0; i < 16u; i++) {
            out[16u * p + i] = tlm_from_bf16(from[i]);
        }
    }
}

uint32_t tlm_k_s3_range(const float *x, uint32_t quads, float *top)
{
    float bottom = x[0];
    CALLED("range", quads, 0, 0);
    need(at(x, 16) && quads >= 1, "range");
    if (tlm_absmax_bits(x, 4u * quads) >= TLM_INF_BITS) {
        return 0;
    }
    *top = x[0];
    for (uint32_t i = 1; i < 4u * quads; i++) {
        *top = x[i] > *top ? x[i] : *top;
        bottom = x[i] < bottom ? x[i] : bottom;
    }
    return *top - bottom <= 60.0f ? 1 : 2;
}

void tlm_k_s3_exp_near(float *x, uint32_t quads, const float *top)
{
    CALLED("exp_near", quads, 0, 0);
    need(at(x, 16) && quads >= 1, "scores");
    for (uint32_t i = 0; i < 4u * quads; i++) {
        need(x[i] <= *top && x[i] - *top >= -60.0f, "scores near the largest");
        x[i] = tlm_exp(x[i] - *top);
    }
}

void tlm_k_s3_exp(float *x, uint32_t n, const float *top)
{
    CALLED("exp", n, 0, 0);
    for (uint32_t i = 0; i < n; i++) {
        need(x[i] <= *top, "no score above the largest");
        x[i] = tlm_exp(x[i] - *top);
    }
}

float tlm_k_s3_sum8(const float *x, uint32_t groups)
{
    CALLED("sum8", groups, 0, 0);
    need(at(x, 16) && groups >= 1, "groups");
    return tlm_sum8(x, 8u * groups);
}

void tlm_k_s3_divide(float *x, uint32_t quads, const float *z)
{
    CALLED("divide", quads, 0, 0);
    need(at(x, 16) && *z >= 1.0f && *z < 0x1p100f, "quotients");
    const float inv = 1.0f / *z;
    for (uint32_t i = 0; i < 4u * quads; i++) {
        x[i] = x[i] * inv;
    }
}

void tlm_k_s3_mul(float *out, const float *x, const float *y, uint32_t n)
{
    CALLED("mul", n, 0, 0);
    need(at(out, 16) && at(x, 16) && at(y, 16) && n % 4u == 0, "products");
    for (uint32_t i = 0; i < n; i++) {
        out[i] = x[i] * y[i];
    }
}

void tlm_k_s3_keys(float *k, uint32_t n, uint32_t stride, const float *centre, const float *scale)
{
    CALLED("keys", n, 0, 0);
    need(at(k, 16) && at(centre, 16) && at(scale, 16) && stride % 16u == 0, "columns of keys");
    for (uint32_t i = 0; i < 4u; i++) {
        const uint32_t size = tlm_bits(centre[i]) & TLM_ABS_MASK;
        need(size >= tlm_bits(0x1p-70f) && size < tlm_bits(0x1p70f), "centres");
        need(scale[i] >= 0x1p-20f && scale[i] <= 0x1p20f, "scales of keys");
    }
    for (uint32_t b = 0; b < n; b++) {
        for (uint32_t i = 0; i < 4u; i++) {
            float *at_k = k + b * (stride / 4u) + i;
            *at_k = (*at_k - centre[i]) / scale[i];
        }
    }
}

void tlm_k_s3_add(float *y, const float *x, uint32_t n)
{
    CALLED("add", n, 0, 0);
    need(at(y, 16) && at(x, 16), "sums");
    tlm_k_ref_add(y, x, n);
}

void tlm_k_s3_act_gelu_tanh(float *g, const float *up, uint32_t n)
{
    CALLED("act_gelu_tanh", n, up != NULL, 0);
    need(at(g, 16) && at(up, 16) && n % 4u == 0 && n != 0, "activations");
    tlm_k_ref_act_gelu_tanh(g, up, n);
}

void tlm_k_s3_act_silu(float *g, const float *up, uint32_t n)
{
    CALLED("act_silu", n, up != NULL, 0);
    need(at(g, 16) && at(up, 16) && n % 4u == 0 && n != 0, "activations");
    tlm_k_ref_act_silu(g, up, n);
}
