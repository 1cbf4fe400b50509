/* Rule 12: queries in the keys' scale. */
#include "tlm_k_ref.h"

void tlm_k_ref_mul(float *y, const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        y[i] = y[i] * x[i];
    }
}
