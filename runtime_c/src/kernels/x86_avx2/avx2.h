/* What the AVX2 kernels share: vector forms of NUMERICS rules, slot declarations. Multiply and add stay apart. */
#ifndef TLM_AVX2_H
#define TLM_AVX2_H

#include "../x86.h"

size_t tlm_avx2_repack_bytes(const tlm_weight *w);
void tlm_avx2_repack(const tlm_weight *w, void *out);
tlm_linear_fn tlm_avx2_linear_f32, tlm_avx2_linear_f16;
tlm_linear_fn tlm_avx2_linear_q4_0, tlm_avx2_linear_q8_0, tlm_avx2_linear_ternary;
tlm_quant_fn tlm_avx2_quant_block, tlm_avx2_quant_vector;
tlm_norm_fn tlm_avx2_norm_layer, tlm_avx2_norm_rms;
tlm_act_fn tlm_avx2_silu, tlm_avx2_gelu_tanh;
tlm_add_fn tlm_avx2_add;
tlm_mul_fn tlm_avx2_mul;
tlm_centre_fn tlm_avx2_centre;
tlm_bound_fn tlm_avx2_bound;
tlm_attn_fn tlm_avx2_attn_f32, tlm_avx2_attn_i8;

/* Lanes below `left` (at most 8) are all ones. */
static inline __m256i tlm_tail8(uint32_t left)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left > 8u ? 8 : (int32_t)left), lane);
}

static inline __m256 tlm_load8(const float *x, uint32_t left)
{
    return left >= 8u ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, tlm_tail8(left));
}

static inline void tlm_store8(float *y, uint32_t left, __m256 v)
{
    if (left >= 8u) {
        _mm256_storeu_ps(y, v);
    } else {
        _mm256_maskstore_ps(y, tlm_tail8(left), v);
    }
}

static inline __m256i tlm_magnitude8(__m256 x)
{
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32((int32_t)TLM_ABS_MASK));
}

static inline uint32_t tlm_max8(__m256i v)
{
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

static inline int32_t tlm_add8(__m256i v)
{
    __m128i m = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return _mm_cvtsi128_si32(m);
}

/* Rule 4 over n >= 1 elements; -0.0 + x is x. */
static inline float tlm_avx2_sum8(const float *x, uint32_t n)
{
    __m256 acc = _mm256_set1_ps(-0.0f);
    for (uint32_t i = 0; i < n; i += 8u) {
        acc = _mm256_add_ps(acc, tlm_load8(x + i, n - i));
    }
    return tlm_sum8_lanes(acc);
}

/* Rule 13 on 8 lanes. */
static inline __m256 tlm_exp8(__m256 x)
{
    const __m256 magic = _mm256_set1_ps(TLM_ROUNDER);
    const __m256 zero = _mm256_cmp_ps(x, _mm256_set1_ps(-60.0f), _CMP_LT_OQ);
    x = _mm256_min_ps(x, _mm256_set1_ps(60.0f));
    const __m256 t = _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(TLM_LOG2E)), magic);
    const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32((int32_t)TLM_ROUNDER_BITS));
    const __m256 nf = _mm256_sub_ps(t, magic);
    __m256 r = _mm256_sub_ps(x, _mm256_mul_ps(nf, _mm256_set1_ps(TLM_LN2_HI)));
    r = _mm256_sub_ps(r, _mm256_mul_ps(nf, _mm256_set1_ps(TLM_LN2_LO)));
    __m256 p = _mm256_set1_ps(TLM_E5);
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(TLM_E4));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(TLM_E3));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(TLM_E2));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(TLM_E1));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(TLM_E0));
    const __m256 y = _mm256_add_ps(_mm256_add_ps(_mm256_mul_ps(_mm256_mul_ps(p, r), r), r), _mm256_set1_ps(1.0f));
    const __m256i bits = _mm256_add_epi32(_mm256_castps_si256(y), _mm256_slli_epi32(n, 23));
    return _mm256_andnot_ps(zero, _mm256_castsi256_ps(bits));
}

static inline __m256 tlm_sigmoid8(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    return _mm256_div_ps(one, _mm256_add_ps(one, tlm_exp8(_mm256_xor_ps(x, _mm256_set1_ps(-0.0f)))));
}

#endif
