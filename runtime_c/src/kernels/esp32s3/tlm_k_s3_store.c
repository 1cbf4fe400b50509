/* Rule 15: a position's K or V; peak and codes in assembly. Odd shapes and fed keys go to the reference. */
#include "tlm_k_s3.h"
#include "tlm_math.h"

enum { QUAD = 4, CHUNK = TLM_BLOCK * 16 };

typedef void codes_fn(const float *x, int8_t *out, const float *inv, uint32_t n);

static bool store(const float *x, uint32_t n, float inv_m, int8_t *out, uint16_t *scale, codes_fn *codes)
{
    uint32_t peaks[CHUNK / TLM_BLOCK], top = 0;
    float inv;
    for (uint32_t i = 0; i < n; i += CHUNK) {
        const uint32_t part = tlm_min_u32(n - i, CHUNK);
        tlm_k_s3_absmax(x + i, part, peaks);
        for (uint32_t k = 0; k * TLM_BLOCK < part; k++) {
            top = tlm_max_u32(top, peaks[k]);
        }
    }
    const float peak = tlm_float(top);
    if (!tlm_kv_scale(&peak, 1, inv_m, scale, &inv)) {
        return false;
    }
    codes(x, out, &inv, n);
    return true;
}

static bool taken(const float *x, uint32_t n_kv_heads, uint32_t head_dim)
{
    return head_dim % QUAD == 0 && n_kv_heads * head_dim % 16u == 0 && (uintptr_t)x % 16u == 0;
}

bool tlm_k_s3_kv_store_i8(float *x, uint32_t n_kv_heads, uint32_t head_dim, bool is_v, const tlm_weight *feedback,
                          void *region, uint16_t *scales, uint32_t slot)
{
    if (!taken(x, n_kv_heads, head_dim)) {
        return tlm_k_ref_kv_store_i8(x, n_kv_heads, head_dim, is_v, feedback, region, scales, slot);
    }
    return store(x, n_kv_heads * head_dim, TLM_KV_INV_127, (int8_t *)region + slot, &scales[slot], tlm_k_s3_store_i8);
}

bool tlm_k_s3_kv_store_i4(float *x, uint32_t n_kv_heads, uint32_t head_dim, bool is_v, const tlm_weight *feedback,
                          void *region, uint16_t *scales, uint32_t slot)
{
    if (feedback != NULL || !taken(x, n_kv_heads, head_dim)) {
        return tlm_k_ref_kv_store_i4(x, n_kv_heads, head_dim, is_v, feedback, region, scales, slot);
    }
    return store(x, n_kv_heads * head_dim, TLM_KV_INV_7, (int8_t *)region + slot, &scales[slot], tlm_k_s3_store_i4);
}
