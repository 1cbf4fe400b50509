/* The f32 cache on AVX-512, rule 15: V is a row, K a column of its page. */
#include "avx512.h"

bool tlm_avx512_kv_store_f32(const float *x, uint32_t n_kv_heads, uint32_t head_dim, bool is_v, void *region,
                             uint16_t *scales, uint32_t slot)
{
    const uint32_t n = n_kv_heads * head_dim;
    __m512i size = _mm512_setzero_si512();
    (void)scales;
    for (uint32_t i = 0; i < n; i += 16u) {
        size = _mm512_max_epu32(size, tlm_magnitude16(_mm512_maskz_loadu_ps(tlm_tail16(n - i), x + i)));
    }
    if (_mm512_reduce_max_epu32(size) >= TLM_INF_BITS) {
        return false;
    }
    if (is_v) {
        memcpy((float *)region + (size_t)slot * n, x, n * sizeof *x);
        return true;
    }
    float *out = (float *)region + slot;
    for (uint32_t i = 0; i < n; i++) {
        out[(size_t)i * TLM_PAGE] = x[i];
    }
    return true;
}
