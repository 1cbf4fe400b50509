/* Linear layers on AVX-512 VNNI: q4_0, q8_0, t2, t1, from a copy repacked for 16 rows a vector.
 *
 * Repacked layout, for each 16 rows: [blocks of 32 columns] each
 *   q4_0: 16 f16 scales, then 4 vectors of 64 bytes; t2, t1: the 4 vectors alone;
 *   q8_0: 16 f16 scales, then 8 vectors of 64 bytes.
 * A vector holds 16 rows x 4 columns, row-major in 32-bit lanes, as vpdpbusd reads them. Nibble vector v has
 * columns 4v.. in its low and columns 16+4v.. in its high nibbles. Codes are stored unsigned, value + offset; the
 * offset is paid once a block by starting the sum at -offset * sum(x). Lane = row, so blocks add up in the order
 * of rule 7 without a horizontal sum; they start from -0.0, to which adding any first term gives that term. Tail columns hold the code of value 0 and meet codes x = 0. */
#include "avx512.h"

#include <string.h>

enum { ROWS = 16, VEC = 64, SCALES = 32 };

typedef struct shape {
    uint32_t blocks, vectors, scales, offset;
    size_t block_bytes;
} shape;

static shape shape_of(const tlm_weight *w)
{
    const uint32_t np = (w->cols + 15u) & ~15u;
    const bool wide = w->type == TLM_TENSOR_TYPE_Q8_0;
    const bool ternary = w->type == TLM_TENSOR_TYPE_T2 || w->type == TLM_TENSOR_TYPE_T1;
    shape s;
    s.blocks = (np + 31u) / 32u;
    s.vectors = wide ? 8u : 4u;
    s.scales = ternary ? 0u : (uint32_t)SCALES;
    s.offset = wide ? 128u : ternary ? 1u : 8u;
    s.block_bytes = s.scales + (size_t)s.vectors * VEC;
    return s;
}

static bool packable(const tlm_weight *w)
{
    return w->type == TLM_TENSOR_TYPE_Q4_0 || w->type == TLM_TENSOR_TYPE_Q8_0 || w->type == TLM_TENSOR_TYPE_T2 ||
           w->type == TLM_TENSOR_TYPE_T1;
}

size_t tlm_avx512_repack_bytes(const tlm_weight *w)
{
    if (!packable(w)) {
        return 0;
    }
    const shape s = shape_of(w);
    return (size_t)((w->rows + ROWS - 1u) / ROWS) * s.blocks * s.block_bytes;
}

/* Value of element (row, col) in the blob's own layout (BLOB.md, "Weight layout"). */
static int32_t code_at(const tlm_weight *w, uint32_t row, uint32_t col)
{
    const uint8_t *base = w->data;
    const size_t np = (w->cols + 15u) & ~(size_t)15u, scales = ((np + 31u) / 32u) * 16u;
    switch (w->type) {
    case TLM_TENSOR_TYPE_Q8_0:
        return ((const int8_t *)base)[(size_t)(row / 8u) * (scales + 8u * np) + scales + (row % 8u) * np + col];
    case TLM_TENSOR_TYPE_Q4_0: {
        const uint8_t b = base[(size_t)(row / 8u) * (scales + 4u * np) + scales + (row % 8u / 2u) * np + col];
        return row % 2u ? ((b >> 4) ^ 8) - 8 : (b & 15) - 8;
    }
    case TLM_TENSOR_TYPE_T2:
        return ((base[(size_t)(row / 8u) * 2u * np + (row % 8u / 4u) * np + col] >> (2u * (row % 4u))) & 3) - 1;
    default: {
        uint32_t b = base[(size_t)(row / 5u) * np + col], digit = 0;
        for (uint32_t i = 0; i <= row % 5u; i++) {
            digit = (b * 3u) >> 8;
            b = (b * 3u) & 255u;
        }
        return (int32_t)digit - 1;
    }
    }
}

static void repack_block(const tlm_weight *w, const shape *s, uint32_t row0, uint32_t block, uint8_t *out)
{
    const size_t np = (w->cols + 15u) & ~(size_t)15u;
    for (uint32_t r = 0; r < ROWS; r++) {
        const uint32_t row = row0 + r;
        const bool real = row < w->rows;
        if (s->scales) {
            const size_t tile = 16u * s->blocks + (w->type == TLM_TENSOR_TYPE_Q8_0 ? 8u : 4u) * np;
            uint16_t scale = 0;
            if (real) {
                memcpy(&scale, (const uint8_t *)w->data + (row / 8u) * tile + 16u * block + 2u * (row % 8u), 2);
            }
            memcpy(out + 2u * r, &scale, 2);
        }
        for (uint32_t c = 0; c < 32u; c++) {
            const uint32_t col = 32u * block + c;
            const int32_t value = real && col < w->cols ? code_at(w, row, col) : 0;
            const uint8_t code = (uint8_t)(value + (int32_t)s->offset);
            uint8_t *vec = out + s->scales;
            if (s->vectors == 8u) {
                vec[(c / 4u) * VEC + 4u * r + c % 4u] = code;
            } else if (c < 16u) {
                vec[(c / 4u) * VEC + 4u * r + c % 4u] = code;
            } else {
                vec[(c / 4u - 4u) * VEC + 4u * r + c % 4u] |= (uint8_t)(code << 4);
            }
        }
    }
}

void tlm_avx512_repack(const tlm_weight *w, void *out)
{
    const shape s = shape_of(w);
    uint8_t *at = out;
    for (uint32_t row = 0; row < w->rows; row += ROWS) {
        for (uint32_t b = 0; b < s.blocks; b++, at += s.block_bytes) {
            repack_block(w, &s, row, b, at);
        }
    }
}

/* Rows are split at tiles of 8 (or 5): the 16-row groups that begin inside [tile0, tile1) belong to the call. */
static uint32_t group_from(const tlm_weight *w, uint32_t tile)
{
    const uint32_t rows = tile * (w->type == TLM_TENSOR_TYPE_T1 ? 5u : 8u);
    const uint32_t groups = (w->rows + ROWS - 1u) / ROWS, g = (rows + ROWS - 1u) / ROWS;
    return rows >= w->rows || g > groups ? groups : g;
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
    const shape s = shape_of(w);
    const uint32_t g1 = group_from(w, tile1);
    for (uint32_t g = group_from(w, tile0); g < g1; g++) {
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
    scaled_linear(w, in, tile0, tile1, y, stride, 8, 128);
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
    const shape s = shape_of(w);
    const uint32_t g1 = group_from(w, tile1);
    for (uint32_t g = group_from(w, tile0); g < g1; g++) {
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
