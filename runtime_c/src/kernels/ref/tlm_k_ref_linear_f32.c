/* y = sum8(w*x), rule 9. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

void tlm_k_ref_linear_f32(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                          uint32_t y_stride)
{
    const uint32_t stride = tlm_padded(w->cols);
    for (uint32_t row = tile0; row < tile1; row++) {
        const float *weights = (const float *)w->data + (size_t)row * stride;
        for (uint32_t b = 0; b < in->batch; b++) {
            y[(size_t)b * y_stride + row] = tlm_dot8(weights, in->x + (size_t)b * in->x_stride, w->cols);
        }
    }
}
