/* Linear layers on AVX2: q4_0, q8_0, t2, t1, from a copy repacked for 8 rows a vector.
 *
 * Repacked layout, for each 8 rows: [blocks of 32 columns] each
 *   q4_0: 8 f16 scales, then 4 vectors of 32 bytes; t2, t1: the 4 vectors alone;
 *   q8_0: 8 f16 scales, then 8 vectors of 32 bytes.
 * A vector holds 8 rows x 4 columns, row-major in 32-bit lanes. Nibble vector v has columns 4v.. in its low and
 * columns 16+4v.. in its high nibbles, unsigned: value + offset, the offset taken off again as offset * sum(x).
 * maddubs does not saturate: 15*127*2 for nibbles, 8 of which still fit int16; bytes give their sign to x first. */
#include "avx2.h"

#include "../repack.h"

enum { ROWS = 8, VEC = 32, SCALES = 16 };

size_t tlm_avx2_repack_bytes(const tlm_weight *w)
{
    return tlm_repack_bytes(w, ROWS);
}

void tlm_avx2_repack(const tlm_weight *w, void *out)
{
    tlm_repack(w, ROWS, 0, out);
}

/* Low and high nibbles of four vectors: columns 0..15, 16..31. */
static inline __attribute__((always_inline)) void load_nibbles(const uint8_t *vec, __m256i w[8])
{
    const __m256i low = _mm256_set1_epi8(15);
    TLM_UNROLL for (int v = 0; v < 4; v++) {
        const __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)(vec + v * VEC));
        w[v] = _mm256_and_si256(both, low);
        w[v + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    }
}

static inline __m256i four(const int8_t *x)
{
    int32_t v;
    memcpy(&v, x, 4);
    return _mm256_set1_epi32(v);
}

/* Exact dot products of 8 rows of nibbles with 32 codes (16 when `half`). */
static inline __attribute__((always_inline)) __m256i dot_nibbles(const __m256i w[8], const int8_t *x, bool half)
{
    __m256i s = _mm256_maddubs_epi16(w[0], four(x));
    TLM_UNROLL for (int v = 1; v < 4; v++) { s = _mm256_add_epi16(s, _mm256_maddubs_epi16(w[v], four(x + 4 * v))); }
    if (!half) {
        TLM_UNROLL for (int v = 4; v < 8; v++) { s = _mm256_add_epi16(s, _mm256_maddubs_epi16(w[v], four(x + 4 * v))); }
    }
    return _mm256_madd_epi16(s, _mm256_set1_epi16(1));
}

static inline __m256i dot_bytes(const uint8_t *vec, const int8_t *x, bool half)
{
    __m256i s = _mm256_setzero_si256();
    for (int v = 0; v < (half ? 4 : 8); v++) {
        const __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)(vec + v * VEC));
        const __m256i p = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(four(x + 4 * v), w));
        s = _mm256_add_epi32(s, _mm256_madd_epi16(p, _mm256_set1_epi16(1)));
    }
    return s;
}

/* acc + (float)S * (ws * as), rule 7. */
static inline __m256 scaled(__m256 acc, __m256i s, const uint8_t *scales, float as)
{
    const __m256 ws = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)scales));
    return _mm256_add_ps(acc, _mm256_mul_ps(_mm256_cvtepi32_ps(s), _mm256_mul_ps(ws, _mm256_set1_ps(as))));
}

/* 8 rows by `nb` vectors (a compile-time constant). */
static inline __attribute__((always_inline)) void q4_group(const uint8_t *at, const tlm_input *in, uint32_t b0, uint32_t nb,
                                                          float *y, uint32_t stride, uint32_t rows)
{
    const uint32_t np = tlm_padded(in->n), blocks = (np + 31u) / 32u;
    __m256 acc[4];
    TLM_UNROLL for (uint32_t b = 0; b < nb; b++) { acc[b] = _mm256_set1_ps(-0.0f); }
    for (uint32_t k = 0; k < blocks; k++, at += SCALES + 4 * VEC) {
        const bool half = 32u * k + 16u == np;
        __m256i w[8];
        load_nibbles(at + SCALES, w);
        TLM_UNROLL for (uint32_t b = 0; b < nb; b++) {
            const size_t i = (size_t)(b0 + b) * in->block_stride + k;
            const __m256i s = dot_nibbles(w, in->codes + (size_t)(b0 + b) * in->code_stride + 32u * k, half);
            acc[b] = scaled(acc[b], _mm256_sub_epi32(s, _mm256_set1_epi32(8 * in->sums[i])), at, in->scales[i]);
        }
    }
    TLM_UNROLL for (uint32_t b = 0; b < nb; b++) { tlm_store8(y + (size_t)(b0 + b) * stride, rows, acc[b]); }
}

void tlm_avx2_linear_q4_0(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y, uint32_t stride)
{
    const tlm_repack_shape s = tlm_repack_shape_of(w, ROWS);
    const uint32_t g1 = tlm_repack_group(w, ROWS, tile1);
    for (uint32_t g = tlm_repack_group(w, ROWS, tile0); g < g1; g++) {
        const uint8_t *at = (const uint8_t *)w->data + (size_t)g * s.blocks * s.block_bytes;
        uint32_t b = 0;
        for (; b + 4u <= in->batch; b += 4u) {
            q4_group(at, in, b, 4, y + g * ROWS, stride, w->rows - g * ROWS);
        }
        for (; b < in->batch; b++) {
            q4_group(at, in, b, 1, y + g * ROWS, stride, w->rows - g * ROWS);
        }
    }
}

void tlm_avx2_linear_q8_0(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y, uint32_t stride)
{
    const tlm_repack_shape s = tlm_repack_shape_of(w, ROWS);
    const uint32_t np = tlm_padded(in->n), g1 = tlm_repack_group(w, ROWS, tile1);
    for (uint32_t g = tlm_repack_group(w, ROWS, tile0); g < g1; g++) {
        const uint8_t *group = (const uint8_t *)w->data + (size_t)g * s.blocks * s.block_bytes;
        for (uint32_t b = 0; b < in->batch; b++) {
            __m256 acc = _mm256_set1_ps(-0.0f);
            for (uint32_t k = 0; k < s.blocks; k++) {
                const uint8_t *at = group + k * s.block_bytes;
                const int8_t *x = in->codes + (size_t)b * in->code_stride + 32u * k;
                acc = scaled(acc, dot_bytes(at + SCALES, x, 32u * k + 16u == np), at, in->scales[(size_t)b * in->block_stride + k]);
            }
            tlm_store8(y + g * ROWS + (size_t)b * stride, w->rows - g * ROWS, acc);
        }
    }
}

/* Rule 8: one exact sum over the whole row. */
void tlm_avx2_linear_ternary(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y, uint32_t stride)
{
    const tlm_repack_shape s = tlm_repack_shape_of(w, ROWS);
    const uint32_t np = tlm_padded(in->n), g1 = tlm_repack_group(w, ROWS, tile1);
    for (uint32_t g = tlm_repack_group(w, ROWS, tile0); g < g1; g++) {
        const uint8_t *group = (const uint8_t *)w->data + (size_t)g * s.blocks * s.block_bytes;
        for (uint32_t b = 0; b < in->batch; b++) {
            __m256i sum = _mm256_setzero_si256();
            for (uint32_t k = 0; k < s.blocks; k++) {
                __m256i c[8];
                load_nibbles(group + k * s.block_bytes, c);
                const __m256i part = dot_nibbles(c, in->codes + (size_t)b * in->code_stride + 32u * k, 32u * k + 16u == np);
                sum = _mm256_add_epi32(sum, _mm256_sub_epi32(part, _mm256_set1_epi32(in->sums[(size_t)b * in->block_stride + k])));
            }
            const float scale = w->scale * in->scales[(size_t)b * in->block_stride];
            tlm_store8(y + g * ROWS + (size_t)b * stride, w->rows - g * ROWS,
                       _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(scale)));
        }
    }
}
