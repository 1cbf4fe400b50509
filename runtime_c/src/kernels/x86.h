/* What the x86 backends share: forms of NUMERICS rules on eight lanes, which every one of them has. */
#ifndef TLM_X86_H
#define TLM_X86_H

#include <immintrin.h>

#include "tlm_kernels.h"
#include "tlm_math.h"

/* Full unrolling keeps arrays of vectors in registers. A sanitised build would take minutes over it. */
#if defined(__clang__)
#if __has_feature(address_sanitizer)
#define TLM_UNROLL
#else
#define TLM_UNROLL _Pragma("clang loop unroll(full)")
#endif
#else
#define TLM_UNROLL _Pragma("GCC unroll 32")
#endif

/* The tree of rule 4 over its eight lanes. */
static inline float tlm_sum8_lanes(__m256 a)
{
    const __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)); /* a0+a4 .. a3+a7 */
    const __m128 t = _mm_add_ps(s, _mm_movehl_ps(s, s)); /* (a0+a4)+(a2+a6), (a1+a5)+(a3+a7) */
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_shuffle_ps(t, t, 1)));
}

/* Rule 2: the instruction rounds correctly, as tlm_sqrt does. */
static inline float tlm_x86_sqrt(float x)
{
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

/* Rules 5 and 6 after the maximum, whose bits are `top`: what values are multiplied by, and the scale. false: not finite. */
static inline bool tlm_x86_inverse(uint32_t top, float floor, float *inv, float *scale)
{
    if (top >= TLM_INF_BITS) {
        return false;
    }
    float amax = tlm_float(top);
    amax = amax < floor ? floor : amax;
    const bool tiny = amax < TLM_TINY;
    *inv = tiny ? 0.0f : 127.0f / amax;
    *scale = tiny ? 0.0f : amax * TLM_INV_127;
    return true;
}

#endif
