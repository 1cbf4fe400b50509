/* Rule 17 over an i8 cache: K and V as [kvh][kd][16]. */
#include "tlm_k_ref.h"
#include "tlm_k_ref_attn.h"
#include "tlm_math.h"

static int32_t score(const int8_t *q, const void *k, uint32_t kv, uint32_t head_dim, uint32_t slot)
{
    const int8_t *key = (const int8_t *)k + (size_t)kv * head_dim * TLM_PAGE + slot;
    int32_t sum = 0;
    for (uint32_t d = 0; d < head_dim; d++) {
        sum += q[d] * key[d * TLM_PAGE];
    }
    return sum;
}

static int32_t mix(const int8_t *w, const void *v, uint32_t kv, uint32_t head_dim, uint32_t d, uint32_t slot0,
                   uint32_t slot1)
{
    const int8_t *value = (const int8_t *)v + ((size_t)kv * head_dim + d) * TLM_PAGE;
    int32_t sum = 0;
    for (uint32_t s = slot0; s < slot1; s++) {
        sum += w[s - slot0] * value[s];
    }
    return sum;
}

bool tlm_k_ref_attn_i8(const tlm_attn *a)
{
    return tlm_k_ref_attn_coded(a, score, mix);
}
