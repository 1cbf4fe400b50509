/* Rule 11, LayerNorm. */
#include <string.h>

#include "tlm_k_ref.h"
#include "tlm_math.h"

void tlm_k_ref_norm_layer(const float *x, uint32_t n, float eps, const float *g, const float *b, float *y)
{
    const float inv_n = 1.0f / (float)n;
    const float m = tlm_sum8(x, n) * inv_n;
    for (uint32_t i = 0; i < n; i++) {
        y[i] = x[i] - m;
    }
    const float v = tlm_dot8(y, y, n) * inv_n;
    const float r = 1.0f / tlm_sqrt(v + eps);
    for (uint32_t i = 0; i < n; i++) {
        const float d = y[i] * r;
        const float scaled = g != NULL ? d * g[i] : d;
        y[i] = b != NULL ? scaled + b[i] : scaled;
    }
    memset(y + n, 0, (tlm_padded(n) - n) * sizeof *y);
}
