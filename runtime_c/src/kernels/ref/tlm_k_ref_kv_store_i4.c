/* Rule 15, M = 7: K and V as [kvh][(kd+1)/2][16], two dimensions a byte. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

bool tlm_k_ref_kv_store_i4(const float *x, uint32_t n_kv_heads, uint32_t head_dim, bool is_v, void *region,
                           uint16_t *scales, uint32_t slot)
{
    uint8_t *out = (uint8_t *)region + slot;
    float inv;
    (void)is_v;
    if (!tlm_kv_scale(x, n_kv_heads * head_dim, TLM_KV_INV_7, &scales[slot], &inv)) {
        return false;
    }
    for (uint32_t h = 0; h < n_kv_heads; h++, x += head_dim) {
        for (uint32_t d = 0; d < head_dim; d += 2u, out += TLM_PAGE) {
            const int32_t low = tlm_rint(x[d] * inv);
            const int32_t high = d + 1u < head_dim ? tlm_rint(x[d + 1u] * inv) : 0;
            *out = (uint8_t)((uint32_t)(low + 8) | ((uint32_t)high & 15u) << 4);
        }
    }
    return true;
}
