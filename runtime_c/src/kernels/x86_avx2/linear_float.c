/* Linear layers with f32 and f16 weights on AVX2, in place: y = sum8(w*x), rule 9. A vector holds the eight lanes of rule 4. */
#include "avx2.h"

static inline __m256 load_weights(const char *w, size_t i, bool half)
{
    return half ? _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(w + 2u * i)))
                : _mm256_loadu_ps((const float *)(const void *)(w + 4u * i));
}

/* `rows` rows (a compile-time constant) side by side: each is a chain of adds. Pads of weights and input are zero. */
static inline __attribute__((always_inline)) void float_rows(const char *w, size_t row_bytes, const float *x, uint32_t n,
                                                            uint32_t rows, bool half, float *y)
{
    __m256 acc[4];
    TLM_UNROLL for (uint32_t r = 0; r < rows; r++) { acc[r] = _mm256_set1_ps(-0.0f); /* -0.0 + x is x */ }
    for (uint32_t i = 0; i < n; i += 8u) {
        const __m256 v = _mm256_loadu_ps(x + i);
        TLM_UNROLL for (uint32_t r = 0; r < rows; r++) {
            acc[r] = _mm256_add_ps(acc[r], _mm256_mul_ps(load_weights(w + r * row_bytes, i, half), v));
        }
    }
    TLM_UNROLL for (uint32_t r = 0; r < rows; r++) { y[r] = tlm_sum8_lanes(acc[r]); }
}

static inline __attribute__((always_inline)) void float_linear(const tlm_weight *w, const tlm_input *in, uint32_t row0,
                                                              uint32_t row1, float *y, uint32_t stride, bool half)
{
    const size_t row_bytes = (size_t)tlm_padded(w->cols) * (half ? 2u : 4u);
    for (uint32_t row = row0; row < row1;) {
        const uint32_t rows = row1 - row >= 4u ? 4u : 1u;
        const char *at = (const char *)w->data + row * row_bytes;
        for (uint32_t b = 0; b < in->batch; b++) {
            const float *x = in->x + (size_t)b * in->x_stride;
            float *out = y + (size_t)b * stride + row;
            if (rows == 4u) {
                float_rows(at, row_bytes, x, w->cols, 4, half, out);
            } else {
                float_rows(at, row_bytes, x, w->cols, 1, half, out);
            }
        }
        row += rows;
    }
}

void tlm_avx2_linear_f32(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y, uint32_t stride)
{
    float_linear(w, in, tile0, tile1, y, stride, false);
}

void tlm_avx2_linear_f16(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y, uint32_t stride)
{
    float_linear(w, in, tile0, tile1, y, stride, true);
}
