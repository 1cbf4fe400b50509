/* K as [kvh][kd][16], V as [16][kvh*kd]; what rounds to infinity is an error. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

bool tlm_k_ref_kv_store_f16(const float *x, uint32_t n_kv_heads, uint32_t head_dim, bool is_v, void *region,
                            uint16_t *scales, uint32_t slot)
{
    const uint32_t n = n_kv_heads * head_dim;
    uint16_t *out = (uint16_t *)region + (is_v ? slot * n : slot);
    const uint32_t step = is_v ? 1u : TLM_PAGE;
    (void)scales;
    for (uint32_t i = 0; i < n; i++) {
        if (!tlm_to_f16(x[i], &out[i * step])) {
            return false;
        }
    }
    return true;
}
