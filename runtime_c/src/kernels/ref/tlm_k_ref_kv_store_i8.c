/* Rule 15, M = 127: K and V as [kvh][kd][16]. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

bool tlm_k_ref_kv_store_i8(const float *x, uint32_t n_kv_heads, uint32_t head_dim, bool is_v, void *region,
                           uint16_t *scales, uint32_t slot)
{
    const uint32_t n = n_kv_heads * head_dim;
    int8_t *out = (int8_t *)region + slot;
    float inv;
    (void)is_v;
    if (!tlm_kv_scale(x, n, TLM_KV_INV_127, &scales[slot], &inv)) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        out[i * TLM_PAGE] = (int8_t)tlm_rint(x[i] * inv);
    }
    return true;
}
