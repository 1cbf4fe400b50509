/* What the AVX-512 VNNI kernels share: vector forms of NUMERICS rules, slot declarations.
 *
 * Multiply and add stay apart everywhere: -ffp-contract=off keeps the compiler from fusing the intrinsics. */
#ifndef TLM_AVX512_H
#define TLM_AVX512_H

#include "../x86.h"

size_t tlm_avx512_repack_bytes(const tlm_weight *w);
void tlm_avx512_repack(const tlm_weight *w, void *out);
tlm_linear_fn tlm_avx512_linear_q4_0, tlm_avx512_linear_q8_0, tlm_avx512_linear_ternary;
tlm_quant_fn tlm_avx512_quant_block, tlm_avx512_quant_vector;
tlm_norm_fn tlm_avx512_norm_layer, tlm_avx512_norm_rms;
tlm_act_fn tlm_avx512_silu, tlm_avx512_gelu_tanh, tlm_avx512_relu, tlm_avx512_relu2;
tlm_add_fn tlm_avx512_add;
tlm_mul_fn tlm_avx512_mul;
tlm_centre_fn tlm_avx512_centre;
tlm_rope_fn tlm_avx512_rope;
tlm_kv_store_fn tlm_avx512_kv_store_f32;
tlm_attn_fn tlm_avx512_attn_f32, tlm_avx512_attn_i8;
tlm_attn_batch_fn tlm_avx512_attn_batch_f32;

static inline __mmask16 tlm_tail16(uint32_t left)
{
    return (__mmask16)(left >= 16u ? 0xffffu : (1u << left) - 1u);
}

static inline __mmask8 tlm_tail8(uint32_t left)
{
    return (__mmask8)(left >= 8u ? 0xffu : (1u << left) - 1u);
}

static inline __m512i tlm_magnitude16(__m512 x)
{
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int32_t)TLM_ABS_MASK));
}

/* Rule 13 on 16 lanes. */
static inline __m512 tlm_exp16(__m512 x)
{
    const __m512 magic = _mm512_set1_ps(TLM_ROUNDER);
    const __mmask16 zero = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-60.0f), _CMP_LT_OQ);
    x = _mm512_min_ps(x, _mm512_set1_ps(60.0f));
    const __m512 t = _mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(TLM_LOG2E)), magic);
    const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(t), _mm512_set1_epi32((int32_t)TLM_ROUNDER_BITS));
    const __m512 nf = _mm512_sub_ps(t, magic);
    __m512 r = _mm512_sub_ps(x, _mm512_mul_ps(nf, _mm512_set1_ps(TLM_LN2_HI)));
    r = _mm512_sub_ps(r, _mm512_mul_ps(nf, _mm512_set1_ps(TLM_LN2_LO)));
    __m512 p = _mm512_set1_ps(TLM_E5);
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(TLM_E4));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(TLM_E3));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(TLM_E2));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(TLM_E1));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(TLM_E0));
    const __m512 y = _mm512_add_ps(_mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(p, r), r), r), _mm512_set1_ps(1.0f));
    const __m512i bits = _mm512_add_epi32(_mm512_castps_si512(y), _mm512_slli_epi32(n, 23));
    return _mm512_maskz_mov_ps((__mmask16)~zero, _mm512_castsi512_ps(bits));
}

static inline __m512 tlm_sigmoid16(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 negated = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN)));
    return _mm512_div_ps(one, _mm512_add_ps(one, tlm_exp16(negated)));
}

/* Rule 4 over any n >= 1 elements: eight running lanes, what is missing of the last eight is +0.0. */
static inline float tlm_avx512_sum8(const float *x, uint32_t n)
{
    __m256 acc = _mm256_set1_ps(-0.0f); /* -0.0 + x is x */
    for (uint32_t i = 0; i < n; i += 8u) {
        const __mmask8 k = tlm_tail8(n - i);
        const __m256 v = _mm256_maskz_loadu_ps(k, x + i);
        acc = _mm256_add_ps(acc, v);
    }
    return tlm_sum8_lanes(acc);
}

#endif
