/* Rule 12: keys about a centre, in a scale of their own. */
#include "tlm_k_ref.h"

void tlm_k_ref_centre(float *k, uint32_t n, uint32_t dims, uint32_t stride, const float *centre, const float *scale)
{
    for (uint32_t b = 0; b < n; b++, k += stride) {
        for (uint32_t i = 0; i < dims; i++) {
            k[i] = (k[i] - centre[i]) / scale[i];
        }
    }
}
