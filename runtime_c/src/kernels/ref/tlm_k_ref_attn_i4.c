/* Rule 17 over an i4 cache: K and V as [kvh][(kd+1)/2][16], even dimensions in the low nibble as value + 8. */
#include "tlm_k_ref.h"
#include "tlm_k_ref_attn.h"
#include "tlm_math.h"

static int32_t value_of(int8_t byte, uint32_t d)
{
    return (d & 1u) != 0 ? byte >> 4 : (byte & 15) - 8;
}

static int32_t score(const int8_t *q, const void *k, uint32_t kv, uint32_t head_dim, uint32_t slot)
{
    const int8_t *key = (const int8_t *)k + (size_t)kv * ((head_dim + 1u) / 2u) * TLM_PAGE + slot;
    int32_t sum = 0;
    for (uint32_t d = 0; d < head_dim; d++) {
        sum += q[d] * value_of(key[d / 2u * TLM_PAGE], d);
    }
    return sum;
}

static int32_t mix(const int8_t *w, const void *v, uint32_t kv, uint32_t head_dim, uint32_t d, uint32_t slot0,
                   uint32_t slot1)
{
    const int8_t *value = (const int8_t *)v + ((size_t)kv * ((head_dim + 1u) / 2u) + d / 2u) * TLM_PAGE;
    int32_t sum = 0;
    for (uint32_t s = slot0; s < slot1; s++) {
        sum += w[s - slot0] * value_of(value[s], d);
    }
    return sum;
}

bool tlm_k_ref_attn_i4(const tlm_attn *a)
{
    return tlm_k_ref_attn_coded(a, score, mix);
}
