/* Linear layers on AVX-512 VNNI: q4_0, q8_0, t2, t1, from a copy repacked for 16 rows a vector.
 *
 * The form is that of repack.h with 16 rows a group: a vector holds 16 rows x 4 columns, as vpdpbusd reads them. The offset
 * of the unsigned codes is paid once a block: it comes off as offset * sum(x). Lane = row, so blocks add up in the
 * order of rule 7 without a horizontal sum; they start from -0.0, to which adding any first term gives that term. */
#include "avx512.h"

#include "../repack.h"

enum { ROWS = 16, VEC = 64, SCALES = 32, BIAS8 = 128 };

/* Four codes. Broadcast from memory, they cost no port of the multipliers; by way of a general register they would. */
typedef int32_t __attribute__((may_alias)) four;

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

/* Exact dot products of 16 rows with the codes that `n` vectors meet, in one chain of sums or two. */
static inline __attribute__((always_inline)) __m512i dot(const __m512i w[8], const int8_t *x, int n, int chains)
{
    const four *x4 = (const four *)(const void *)x;
    __m512i s[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    TLM_UNROLL for (int v = 0; v < n; v++) { s[v % chains] = _mm512_dpbusd_epi32(s[v % chains], w[v], _mm512_set1_epi32(x4[v])); }
    return chains == 1 ? s[0] : _mm512_add_epi32(s[0], s[1]);
}

/* One block of a group times `nb` vectors. vectors: 8 for codes of a byte, 4 for nibbles; n: 8, or 4 in a last half block. */
static inline __attribute__((always_inline)) void scaled_block(const uint8_t *at, const tlm_input *in, size_t k, uint32_t b0,
                                                              uint32_t nb, uint32_t vectors, int n, __m512 acc[])
{
    __m512i w[8];
    load_codes(at + SCALES, vectors, w);
    const __m512 ws = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at));
    TLM_UNROLL for (uint32_t b = 0; b < nb; b++) {
        const size_t i = (size_t)(b0 + b) * in->block_stride + k;
        const __m512i over = _mm512_slli_epi32(_mm512_set1_epi32(in->sums[i]), vectors == 8u ? 7 : 3);
        const __m512i s = dot(w, in->codes + (size_t)(b0 + b) * in->code_stride + 32u * k, n, nb == 1u ? 2 : 1);
        const __m512 p = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(s, over)),
                                       _mm512_mul_ps(ws, _mm512_set1_ps(in->scales[i])));
        acc[b] = _mm512_add_ps(acc[b], p);
    }
}

/* 16 rows by `nb` vectors (a compile-time constant) for block-scaled types. */
static inline __attribute__((always_inline)) void scaled_group(const uint8_t *at, const tlm_input *in, uint32_t b0, uint32_t nb,
                                                              uint32_t vectors, float *y, uint32_t stride, __mmask16 rows)
{
    const uint32_t np = tlm_padded(in->n), whole = np / 32u;
    __m512 acc[TLM_MAX_BATCH];
    TLM_UNROLL for (uint32_t b = 0; b < nb; b++) { acc[b] = _mm512_set1_ps(-0.0f); }
    for (uint32_t k = 0; k < whole; k++, at += SCALES + vectors * VEC) {
        scaled_block(at, in, k, b0, nb, vectors, 8, acc);
    }
    if (np % 32u != 0) {
        scaled_block(at, in, whole, b0, nb, vectors, 4, acc);
    }
    TLM_UNROLL for (uint32_t b = 0; b < nb; b++) { _mm512_mask_storeu_ps(y + (size_t)(b0 + b) * stride, rows, acc[b]); }
}

static inline __attribute__((always_inline)) void scaled_linear(const tlm_weight *w, const tlm_input *in, uint32_t tile0,
                                                               uint32_t tile1, float *y, uint32_t stride, uint32_t vectors)
{
    const tlm_repack_shape s = tlm_repack_shape_of(w, ROWS);
    const uint32_t g1 = tlm_repack_group(w, ROWS, tile1);
    for (uint32_t g = tlm_repack_group(w, ROWS, tile0); g < g1; g++) {
        const uint8_t *at = (const uint8_t *)w->data + (size_t)g * s.blocks * s.block_bytes;
        const __mmask16 rows = tlm_tail16(w->rows - g * ROWS);
        float *out = y + g * ROWS;
        uint32_t b = 0;
        for (; b + 8u <= in->batch; b += 8u) {
            scaled_group(at, in, b, 8, vectors, out, stride, rows);
        }
        for (; b + 4u <= in->batch; b += 4u) {
            scaled_group(at, in, b, 4, vectors, out, stride, rows);
        }
        for (; b < in->batch; b++) {
            scaled_group(at, in, b, 1, vectors, out, stride, rows);
        }
    }
}

void tlm_avx512_linear_q4_0(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                            uint32_t stride)
{
    scaled_linear(w, in, tile0, tile1, y, stride, 4);
}

void tlm_avx512_linear_q8_0(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                            uint32_t stride)
{
    scaled_linear(w, in, tile0, tile1, y, stride, 8);
}

/* Rule 8: one exact sum over the whole row. */
static inline __attribute__((always_inline)) void ternary_group(const uint8_t *at, const tlm_weight *w, const tlm_input *in,
                                                               uint32_t b0, uint32_t nb, float *y, uint32_t stride,
                                                               __mmask16 rows)
{
    const uint32_t np = tlm_padded(in->n), blocks = (np + 31u) / 32u;
    __m512i acc[TLM_MAX_BATCH];
    TLM_UNROLL for (uint32_t b = 0; b < nb; b++) { acc[b] = _mm512_setzero_si512(); }
    for (uint32_t k = 0; k < blocks; k++, at += 4 * VEC) {
        const bool half = 32u * k + 16u == np;
        __m512i c[8];
        load_codes(at, 4, c);
        TLM_UNROLL for (uint32_t b = 0; b < nb; b++) {
            const int8_t *x = in->codes + (size_t)(b0 + b) * in->code_stride + 32u * k;
            const __m512i over = _mm512_set1_epi32(in->sums[(size_t)(b0 + b) * in->block_stride + k]);
            acc[b] = _mm512_add_epi32(acc[b], _mm512_sub_epi32(half ? dot(c, x, 4, 1) : dot(c, x, 8, nb == 1u ? 2 : 1), over));
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
