/* Rule 7 over tiles of 8 rows: f16 scales, block-major, then 4 groups of two rows that share their bytes. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

enum { ROWS = 8 };

/* Two rows at once; the low nibble's offset of 8 comes off through the sum of the inputs. */
static void group_values(const uint16_t *scales, const int8_t *codes, const tlm_input *in, uint32_t b, uint32_t np,
                         float out[2])
{
    const int8_t *x = in->codes + (size_t)b * in->code_stride;
    const float *x_scales = in->scales + (size_t)b * in->block_stride;
    const int32_t *x_sums = in->sums + (size_t)b * in->block_stride;
    for (uint32_t c = 0, k = 0; c < np; c += TLM_BLOCK, k++) {
        const uint32_t end = tlm_min_u32(c + TLM_BLOCK, np);
        int32_t low = 0, high = 0;
        for (uint32_t i = c; i < end; i++) {
            low += (codes[i] & 15) * x[i];
            high += (codes[i] >> 4) * x[i];
        }
        low -= 8 * x_sums[k];
        const float p0 = (float)low * (tlm_from_f16(scales[k * ROWS]) * x_scales[k]);
        const float p1 = (float)high * (tlm_from_f16(scales[k * ROWS + 1u]) * x_scales[k]);
        out[0] = k == 0 ? p0 : out[0] + p0;
        out[1] = k == 0 ? p1 : out[1] + p1;
    }
}

void tlm_k_ref_linear_q4_0(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                           uint32_t y_stride)
{
    const uint32_t np = tlm_padded(w->cols);
    const uint32_t scale_bytes = (np + TLM_BLOCK - 1u) / TLM_BLOCK * 16u;
    const size_t tile_bytes = (size_t)scale_bytes + (size_t)(ROWS / 2) * np;
    for (uint32_t tile = tile0; tile < tile1; tile++) {
        const uint8_t *at = (const uint8_t *)w->data + tile * tile_bytes;
        const uint16_t *scales = (const uint16_t *)(const void *)at;
        const int8_t *codes = (const int8_t *)at + scale_bytes;
        for (uint32_t r = 0; r < ROWS && tile * ROWS + r < w->rows; r += 2) {
            const uint32_t row = tile * ROWS + r;
            for (uint32_t b = 0; b < in->batch; b++) {
                float two[2] = {0.0f, 0.0f};
                group_values(scales + r, codes + (size_t)(r / 2u) * np, in, b, np, two);
                y[(size_t)b * y_stride + row] = two[0];
                if (row + 1u < w->rows) {
                    y[(size_t)b * y_stride + row + 1u] = two[1];
                }
            }
        }
    }
}
