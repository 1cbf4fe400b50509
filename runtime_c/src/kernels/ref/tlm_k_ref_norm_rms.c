/* Rule 11, RMS norm; also the unit-gain norm of rule 6. */
#include <string.h>

#include "tlm_k_ref.h"
#include "tlm_math.h"

void tlm_k_ref_norm_rms(const float *x, uint32_t n, float eps, const float *g, const float *b, float *y)
{
    const float inv_n = 1.0f / (float)n;
    const float v = tlm_dot8(x, x, n) * inv_n;
    const float r = 1.0f / tlm_sqrt(v + eps);
    for (uint32_t i = 0; i < n; i++) {
        const float d = x[i] * r;
        const float scaled = g != NULL ? d * g[i] : d;
        y[i] = b != NULL ? scaled + b[i] : scaled;
    }
    memset(y + n, 0, (tlm_padded(n) - n) * sizeof *y);
}
