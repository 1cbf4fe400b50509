/* Rule 12: pairs (i, i + rope_dims/2) of each head. */
#include "tlm_k_ref.h"

void tlm_k_ref_rope(float *x, uint32_t heads, uint32_t head_dim, uint32_t rope_dims, const float *cs)
{
    const uint32_t half = rope_dims / 2u;
    const float *cosines = cs, *sines = cs + half;
    for (uint32_t h = 0; h < heads; h++, x += head_dim) {
        for (uint32_t i = 0; i < half; i++) {
            const float a = x[i], b = x[i + half];
            x[i] = a * cosines[i] - b * sines[i];
            x[i + half] = b * cosines[i] + a * sines[i];
        }
    }
}
