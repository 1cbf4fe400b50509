/* y = sum8(w*x), w exact in float, rule 9. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

static float dot(const uint16_t *w, const float *x, uint32_t n)
{
    float lanes[8];
    for (uint32_t i = 0; i < n; i++) {
        tlm_lane(lanes, i, tlm_from_f16(w[i]) * x[i]);
    }
    return tlm_lanes_sum(lanes, n);
}

void tlm_k_ref_linear_f16(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                          uint32_t y_stride)
{
    const uint32_t stride = tlm_padded(w->cols);
    for (uint32_t row = tile0; row < tile1; row++) {
        const uint16_t *weights = (const uint16_t *)w->data + (size_t)row * stride;
        for (uint32_t b = 0; b < in->batch; b++) {
            y[(size_t)b * y_stride + row] = dot(weights, in->x + (size_t)b * in->x_stride, w->cols);
        }
    }
}
