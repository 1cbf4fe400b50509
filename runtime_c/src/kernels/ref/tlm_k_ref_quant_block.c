/* Rule 5 for each 32 columns. */
#include <string.h>

#include "tlm_k_ref.h"
#include "tlm_math.h"

bool tlm_k_ref_quant_block(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums)
{
    for (uint32_t c = 0, k = 0; c < n; c += TLM_BLOCK, k++) {
        const uint32_t len = tlm_min_u32(n - c, TLM_BLOCK);
        if (!tlm_quantise(x + c, len, floor, codes + c, &scales[k])) {
            return false;
        }
        sums[k] = 0;
        for (uint32_t i = 0; i < len; i++) {
            sums[k] += codes[c + i];
        }
    }
    memset(codes + n, 0, tlm_padded(n) - n);
    return true;
}
