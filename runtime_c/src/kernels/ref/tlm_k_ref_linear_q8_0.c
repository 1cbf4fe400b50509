/* Rule 7 over tiles of 8 rows: f16 scales, block-major, then 8 rows of codes. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

enum { ROWS = 8 };

static float row_value(const uint16_t *scales, const int8_t *codes, const int8_t *x, const float *x_scales, uint32_t np)
{
    float acc = 0.0f;
    for (uint32_t c = 0, k = 0; c < np; c += TLM_BLOCK, k++) {
        const uint32_t end = tlm_min_u32(c + TLM_BLOCK, np);
        int32_t sum = 0;
        for (uint32_t i = c; i < end; i++) {
            sum += codes[i] * x[i];
        }
        const float p = (float)sum * (tlm_from_f16(scales[k * ROWS]) * x_scales[k]);
        acc = k == 0 ? p : acc + p;
    }
    return acc;
}

void tlm_k_ref_linear_q8_0(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                           uint32_t y_stride)
{
    const uint32_t np = tlm_padded(w->cols);
    const uint32_t scale_bytes = (np + TLM_BLOCK - 1u) / TLM_BLOCK * 16u;
    const size_t tile_bytes = (size_t)scale_bytes + (size_t)ROWS * np;
    for (uint32_t tile = tile0; tile < tile1; tile++) {
        const uint8_t *at = (const uint8_t *)w->data + tile * tile_bytes;
        const uint16_t *scales = (const uint16_t *)(const void *)at;
        const int8_t *codes = (const int8_t *)at + scale_bytes;
        for (uint32_t r = 0; r < ROWS && tile * ROWS + r < w->rows; r++) {
            for (uint32_t b = 0; b < in->batch; b++) {
                y[(size_t)b * y_stride + tile * ROWS + r] =
                    row_value(scales + r, codes + (size_t)r * np, in->codes + (size_t)b * in->code_stride,
                              in->scales + (size_t)b * in->block_stride, np);
            }
        }
    }
}
