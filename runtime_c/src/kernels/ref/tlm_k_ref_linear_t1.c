/* Rule 8: five rows a byte. Multiplying the fraction b/256 by 3 carries out one digit, value + 1, a row. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

enum { ROWS = 5 };

static void tile_sums(const uint8_t *codes, const int8_t *x, uint32_t np, int32_t sum[ROWS])
{
    int32_t all = 0;
    for (uint32_t r = 0; r < ROWS; r++) {
        sum[r] = 0;
    }
    for (uint32_t i = 0; i < np; i++) {
        uint32_t rest = codes[i];
        for (uint32_t r = 0; r < ROWS; r++) {
            rest *= 3u;
            sum[r] += (int32_t)(rest >> 8) * x[i];
            rest &= 255u;
        }
        all += x[i];
    }
    for (uint32_t r = 0; r < ROWS; r++) {
        sum[r] -= all;
    }
}

void tlm_k_ref_linear_t1(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                         uint32_t y_stride)
{
    const uint32_t np = tlm_padded(w->cols);
    for (uint32_t tile = tile0; tile < tile1; tile++) {
        const uint8_t *codes = (const uint8_t *)w->data + (size_t)tile * np;
        for (uint32_t b = 0; b < in->batch; b++) {
            const float scale = w->scale * in->scales[(size_t)b * in->block_stride];
            int32_t sum[ROWS];
            tile_sums(codes, in->codes + (size_t)b * in->code_stride, np, sum);
            for (uint32_t r = 0; r < ROWS && tile * ROWS + r < w->rows; r++) {
                y[(size_t)b * y_stride + tile * ROWS + r] = (float)sum[r] * scale;
            }
        }
    }
}
