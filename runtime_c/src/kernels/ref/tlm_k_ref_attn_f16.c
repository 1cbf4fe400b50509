/* Rule 16 over an f16 cache. */
#include "tlm_k_ref.h"
#include "tlm_k_ref_attn.h"
#include "tlm_math.h"

static float score(const float *q, const void *k, uint32_t kv, uint32_t head_dim, uint32_t slot)
{
    const uint16_t *key = (const uint16_t *)k + (size_t)kv * head_dim * TLM_PAGE + slot;
    float lanes[8];
    for (uint32_t d = 0; d < head_dim; d++) {
        tlm_lane(lanes, d, q[d] * tlm_from_f16(key[d * TLM_PAGE]));
    }
    return tlm_lanes_sum(lanes, head_dim);
}

static void mix(float *out, float e, const void *v, uint32_t kv, const tlm_attn *a, uint32_t slot, bool first)
{
    const uint16_t *value = (const uint16_t *)v + (size_t)(slot * a->n_kv_heads + kv) * a->head_dim;
    for (uint32_t d = 0; d < a->head_dim; d++) {
        const float part = e * tlm_from_f16(value[d]);
        out[d] = first ? part : out[d] + part;
    }
}

bool tlm_k_ref_attn_f16(const tlm_attn *a)
{
    return tlm_k_ref_attn_exact(a, score, mix);
}
