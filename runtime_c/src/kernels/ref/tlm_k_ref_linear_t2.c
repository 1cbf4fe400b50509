/* Rule 8: four rows a byte, two bits each, value + 1. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

enum { GROUP = 4, ROWS = 8 };

static void group_sums(const uint8_t *codes, const int8_t *x, uint32_t np, int32_t sum[GROUP])
{
    int32_t all = 0;
    sum[0] = sum[1] = sum[2] = sum[3] = 0;
    for (uint32_t i = 0; i < np; i++) {
        const int32_t v = x[i];
        const uint32_t byte = codes[i];
        sum[0] += (int32_t)(byte & 3u) * v;
        sum[1] += (int32_t)(byte >> 2 & 3u) * v;
        sum[2] += (int32_t)(byte >> 4 & 3u) * v;
        sum[3] += (int32_t)(byte >> 6) * v;
        all += v;
    }
    for (uint32_t r = 0; r < GROUP; r++) {
        sum[r] -= all;
    }
}

void tlm_k_ref_linear_t2(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                         uint32_t y_stride)
{
    const uint32_t np = tlm_padded(w->cols);
    const uint32_t end = tlm_min_u32(tile1 * ROWS, w->rows);
    for (uint32_t row = tile0 * ROWS; row < end; row += GROUP) {
        const uint8_t *codes = (const uint8_t *)w->data + (size_t)(row / GROUP) * np;
        for (uint32_t b = 0; b < in->batch; b++) {
            const float scale = w->scale * in->scales[(size_t)b * in->block_stride];
            int32_t sum[GROUP];
            group_sums(codes, in->codes + (size_t)b * in->code_stride, np, sum);
            for (uint32_t r = 0; r < GROUP && row + r < end; r++) {
                y[(size_t)b * y_stride + row + r] = (float)sum[r] * scale;
            }
        }
    }
}
