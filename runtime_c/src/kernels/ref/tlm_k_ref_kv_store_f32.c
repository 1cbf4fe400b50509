/* K as [kvh][kd][16], V as [16][kvh*kd]. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

bool tlm_k_ref_kv_store_f32(const float *x, uint32_t n_kv_heads, uint32_t head_dim, bool is_v, void *region,
                            uint16_t *scales, uint32_t slot)
{
    const uint32_t n = n_kv_heads * head_dim;
    float *out = (float *)region + (is_v ? slot * n : slot);
    const uint32_t step = is_v ? 1u : TLM_PAGE;
    (void)scales;
    if (tlm_absmax_bits(x, n) >= TLM_INF_BITS) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        out[i * step] = x[i];
    }
    return true;
}
