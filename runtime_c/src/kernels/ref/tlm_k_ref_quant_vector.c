/* Rule 5 for the whole vector; the sums stay one for each 32 columns. */
#include <string.h>

#include "tlm_k_ref.h"
#include "tlm_math.h"

bool tlm_k_ref_quant_vector(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums)
{
    if (!tlm_quantise(x, n, floor, codes, scales)) {
        return false;
    }
    memset(codes + n, 0, tlm_padded(n) - n);
    for (uint32_t c = 0, k = 0; c < n; c += TLM_BLOCK, k++) {
        const uint32_t end = tlm_min_u32(n, c + TLM_BLOCK);
        sums[k] = 0;
        for (uint32_t i = c; i < end; i++) {
            sums[k] += codes[i];
        }
    }
    return true;
}
