/* Linear layers on AVX-512 VNNI: q4_0, q8_0, t2, t1, from a copy repacked for 16 rows a vector.
 *
 * The form is that of repack.h with 16 rows a group: a vector holds 16 rows x 4 columns, as vpdpbusd reads them. The offset
 * of the unsigned codes is paid once a block by starting the sum at -offset * sum(x). Lane = row, so blocks add up in the
 * order of rule 7 without a horizontal sum; they start from -0.0, to which adding any first term gives that term. */
#include "avx512.h"

#include "../repack.h"

enum { ROWS = 16, VEC = 64, SCALES = 32, BIAS8 = 128 };

size_t tlm_avx512_repack_bytes(const tlm_weight *w)
{
    return tlm_repack_bytes(w, ROWS);
}

void tlm_avx512_repack(const tlm_weight *w, void *out)
{
    tlm_repack(w, ROWS, BIAS8, out);
}

static inline __attribute__((always_inline)) void load_codes(const uint8_t *vec, uint32_t vectors, __m512i w[8])
{
    const __m512i low = _mm512_set1_epi8(15);
    if (vectors == 8u) {
        TLM_UNROLL for (int v = 0; v < 8; v++) { w[v] = _mm512_loadu_si512(vec + v * VEC); }
        return;
    }
    TLM_UNROLL for (int v = 0; v < 4; v++) {
        const __m512i both = _mm512_loadu_si512(vec + v * VEC);
        w[v] = _mm512_and_si512(both, low);
        w[v + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
}

/* Exact dot products of 16 rows with 32 codes, from `start`. */
static inline __attribute__((always_inline)) __m512i dot32(const __m512i w[8], const int8_t *x, int32_t start, bool half)
{
    int32_t x4[8];
    memcpy(x4, x, half ? 16 : 32);
    __m512i a = _mm512_set1_epi32(start);
    TLM_UNROLL for (int v = 0; v < 4; v++) { a = _mm512_dpbusd_epi32(a, w[v], _mm512_set1_epi32(x4[v])); }
    if (!half) {
        __m512i b = _mm512_setzero_si512();
        TLM_UNROLL for (int v = 4; v < 8; v++) { b = _mm512_dpbusd_epi32(b, w[v], _mm512_set1_epi32(x4[v])); }
        a = _mm512_add_epi32(a, b);
    }
    return a;
}

/* 16 rows by `nb` vectors (a compile-time constant) for block-scaled types. */
static inline __attribute__((always_inline)) void scaled_group(const uint8_t *at, const tlm_input *in, uint32_t b0, uint32_t nb,
                                                              const uint32_t vectors, const int32_t offset, float *y,
                                                              uint32_t stride, __mmask16 rows)
{
    const uint32_t np = (in->n + 15u) & ~15u, blocks = (np + 31u) / 32u;
    __m512 acc[TLM_MAX_BATCH];
    TLM_UNROLL for (uint32_t b = 0; b < nb; b++) { acc[b] = _mm512_set1_ps(-0.0f); }
    for (uint32_t k = 0; k < blocks; k++, at += SCALES + vectors * VEC) {
        const bool half = 32u * k + 16u == np;
        __m512i w[8];
        load_codes(at + SCALES, vectors, w);
        const __m512 ws = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at));
        TLM_UNROLL for (uint32_t b = 0; b < nb; b++) {
            const size_t i = (size_t)(b0 + b) * in->block_stride + k;
            const int8_t *x = in->codes + (size_t)(b0 + b) * in->code_stride + 32u * k;
            const __m512i s = dot32(w, x, -offset * in->sums[i], half);
            const __m512 p = _mm512_mul_ps(_mm512_cvtepi32_ps(s), _mm512_mul_ps(ws, _mm512_set1_ps(in->scales[i])));
            acc[b] = _mm512_add_ps(acc[b], p);
        }
    }
    TLM_UNROLL for (uint32_t b = 0; b < nb; b++) { _mm512_mask_storeu_ps(y + (size_t)(b0 + b) * stride, rows, acc[b]); }
}

static inline __attribute__((always_inline)) void scaled_linear(const tlm_weight *w, const tlm_input *in, uint32_t tile0,
                                                               uint32_t tile1, float *y, uint32_t stride,
                                                               const uint32_t vectors, const int32_t offset)
{
    const tlm_repack_shape s = tlm_repack_shape_of(w, ROWS);
    const uint32_t g1 = tlm_repack_group(w, ROWS, tile1);
    for (uint32_t g = tlm_repack_group(w, ROWS, tile0); g < g1; g++) {
        const uint8_t *at = (const uint8_t *)w->data + (size_t)g * s.blocks * s.block_bytes;
        const __mmask16 rows = tlm_tail16(w->rows - g * ROWS);
        float *out = y + g * ROWS;
        uint32_t b = 0;
        for (; b + 8u <= in->batch; b += 8u) {
            scaled_group(at, in, b, 8, vectors, offset, out, stride, rows);
        }
        for (; b + 4u <= in->batch; b += 4u) {
            scaled_group(at, in, b, 4, vectors, offset, out, stride, rows);
        }
        for (; b < in->batch; b++) {
            scaled_group(at, in, b, 1, vectors, offset, out, stride, rows);
        }
    }
}

void tlm_avx512_linear_q4_0(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                            uint32_t stride)
{
    scaled_linear(w, in, tile0, tile1, y, stride, 4, 8);
}

void tlm_avx512_linear_q8_0(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                            uint32_t stride)
{
    scaled_linear(w, in, tile0, tile1, y, stride, 8, BIAS8);
}

/* Rule 8: one exact sum over the whole row. */
static inline __attribute__((always_inline)) void ternary_group(const uint8_t *at, const tlm_weight *w, const tlm_input *in,
                                                               uint32_t b0, uint32_t nb, float *y, uint32_t stride,
                                                               __mmask16 rows)
{
    const uint32_t np = (in->n + 15u) & ~15u, blocks = (np + 31u) / 32u;
    __m512i acc[TLM_MAX_BATCH];
    TLM_UNROLL for (uint32_t b = 0; b < nb; b++) { acc[b] = _mm512_setzero_si512(); }
    for (uint32_t k = 0; k < blocks; k++, at += 4 * VEC) {
        const bool half = 32u * k + 16u == np;
        __m512i c[8];
        load_codes(at, 4, c);
        TLM_UNROLL for (uint32_t b = 0; b < nb; b++) {
            const int8_t *x = in->codes + (size_t)(b0 + b) * in->code_stride + 32u * k;
            const int32_t sum = in->sums[(size_t)(b0 + b) * in->block_stride + k];
            acc[b] = _mm512_add_epi32(acc[b], dot32(c, x, -sum, half));
        }
    }
    TLM_UNROLL for (uint32_t b = 0; b < nb; b++) {
        const float scale = w->scale * in->scales[(size_t)(b0 + b) * in->block_stride];
        const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[b]), _mm512_set1_ps(scale));
        _mm512_mask_storeu_ps(y + (size_t)(b0 + b) * stride, rows, v);
    }
}

void tlm_avx512_linear_ternary(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                               uint32_t stride)
{
    const tlm_repack_shape s = tlm_repack_shape_of(w, ROWS);
    const uint32_t g1 = tlm_repack_group(w, ROWS, tile1);
    for (uint32_t g = tlm_repack_group(w, ROWS, tile0); g < g1; g++) {
        const uint8_t *at = (const uint8_t *)w->data + (size_t)g * s.blocks * s.block_bytes;
        const __mmask16 rows = tlm_tail16(w->rows - g * ROWS);
        uint32_t b = 0;
        for (; b + 8u <= in->batch; b += 8u) {
            ternary_group(at, w, in, b, 8, y + g * ROWS, stride, rows);
        }
        for (; b < in->batch; b++) {
            ternary_group(at, w, in, b, 1, y + g * ROWS, stride, rows);
        }
    }
}
