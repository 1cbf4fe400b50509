/* The functions of NUMERICS.md, one expression a step. Core and kernels use these and no others.
 *
 * Everything is `static inline`: no calls into libm, no tables. Whoever writes a vector form of one of
 * these keeps every rounding; tests compare bits.
 */
#ifndef TLM_MATH_H
#define TLM_MATH_H

#include <float.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tlm_blob_gen.h"

#if !defined(FLT_EVAL_METHOD) || FLT_EVAL_METHOD != 0
#error "NUMERICS.md rule 1: float expressions must be evaluated in float (FLT_EVAL_METHOD == 0)"
#endif
#if defined(__FAST_MATH__)
#error "NUMERICS.md rule 1: -ffast-math changes the results"
#endif

/* Constants of NUMERICS.md section 8; tests/house compares the two tables. */
#define TLM_LOG2E 0x1.715476p+0f
#define TLM_LN2_HI 0x1.63p-1f
#define TLM_LN2_LO -0x1.bd0106p-13f
#define TLM_C_2PI_32 0x1.921fb6p-30f
#define TLM_E0 0x1p-1f
#define TLM_E1 0x1.555554p-3f
#define TLM_E2 0x1.55548ep-5f
#define TLM_E3 0x1.111272p-7f
#define TLM_E4 0x1.6d8db2p-10f
#define TLM_E5 0x1.9f0816p-13f
#define TLM_S1 -0x1.555546p-3f
#define TLM_S2 0x1.11076p-7f
#define TLM_S3 -0x1.994e5cp-13f
#define TLM_C1 0x1.55554ap-5f
#define TLM_C2 -0x1.6c0c8ap-10f
#define TLM_C3 0x1.9a020ap-16f
#define TLM_GELU_K 0x1.988454p-1f
#define TLM_GELU_C 0x1.6e4e26p-5f
#define TLM_RSQRT2 0x1.6a09e6p-1f
#define TLM_ERF_P 0x1.4f740ap-2f
#define TLM_A1 0x1.04f20cp-2f
#define TLM_A2 -0x1.23531cp-2f
#define TLM_A3 0x1.6be1c6p+0f
#define TLM_A4 -0x1.7401c6p+0f
#define TLM_A5 0x1.0fb844p+0f
#define TLM_L0 0x1.555554p-1f
#define TLM_L1 0x1.999a7ap-2f
#define TLM_L2 0x1.2438d8p-2f
#define TLM_L3 0x1.e2f65ep-3f

/* Adding it to |t| < 2^22 leaves rint(t) in the low mantissa bits (rule 5). */
#define TLM_ROUNDER 12582912.0f
#define TLM_ROUNDER_BITS 0x4B400000u

#define TLM_ABS_MASK 0x7fffffffu
#define TLM_INF_BITS 0x7f800000u
#define TLM_MINUS_INF_BITS 0xff800000u
#define TLM_TINY 0x1p-100f          /* below: all codes 0, scale 0 */
#define TLM_CLAMP_FLOOR 1e-5f       /* rule 6, CLAMP */
#define TLM_INV_127 0x1.020408p-7f  /* rule 5 */
#define TLM_KV_INV_127 0x1.02040ap-7f /* rule 15: 1/127 and 1/7 rounded up */
#define TLM_KV_INV_7 0x1.24924ap-3f

static inline uint32_t tlm_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float tlm_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline uint32_t tlm_min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t tlm_max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* The least multiple of `to`, a power of two, that is at least n. */
static inline uint32_t tlm_round_up(uint32_t n, uint32_t to)
{
    return (n + (to - 1u)) & ~(to - 1u);
}

/* Columns of a weight, elements of an activation vector: pads included. */
static inline uint32_t tlm_padded(uint32_t n)
{
    return tlm_round_up(n, TLM_COL_PAD);
}

/* max of bits(|x|): not finite when it reaches TLM_INF_BITS. */
static inline uint32_t tlm_absmax_bits(const float *x, uint32_t n)
{
    uint32_t top = 0;
    for (uint32_t i = 0; i < n; i++) {
        top = tlm_max_u32(top, tlm_bits(x[i]) & TLM_ABS_MASK);
    }
    return top;
}

/* Nearest integer, ties to even, for |t| < 2^22. */
static inline int32_t tlm_rint(float t)
{
    return (int32_t)(tlm_bits(t + TLM_ROUNDER) - TLM_ROUNDER_BITS);
}

/* Rule 5: codes[0..n) and *scale; `floor` as in rule 6, or 0. false: a value is not finite. */
static inline bool tlm_quantise(const float *x, uint32_t n, float floor, int8_t *codes, float *scale)
{
    const uint32_t top = tlm_absmax_bits(x, n);
    if (top >= TLM_INF_BITS) {
        return false;
    }
    float amax = tlm_float(top);
    if (amax < floor) {
        amax = floor;
    }
    if (amax < TLM_TINY) {
        memset(codes, 0, n);
        *scale = 0.0f;
        return true;
    }
    const float inv = 127.0f / amax;
    for (uint32_t i = 0; i < n; i++) {
        codes[i] = (int8_t)tlm_rint(x[i] * inv);
    }
    *scale = amax * TLM_INV_127;
    return true;
}

/* Rule 4. Lane i of eight takes v[i], then adds v[i + 8], v[i + 16]... */
static inline void tlm_lane(float lanes[8], uint32_t i, float v)
{
    lanes[i & 7u] = i < 8u ? v : lanes[i & 7u] + v;
}

/* The lanes of n >= 1 elements into one; what is missing of the last eight counts as +0. */
static inline float tlm_lanes_sum(float a[8], uint32_t n)
{
    for (uint32_t i = n; (i & 7u) != 0; i++) {
        tlm_lane(a, i, 0.0f);
    }
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

static inline float tlm_sum8(const float *v, uint32_t n)
{
    float lanes[8];
    for (uint32_t i = 0; i < n; i++) {
        tlm_lane(lanes, i, v[i]);
    }
    return tlm_lanes_sum(lanes, n);
}

static inline float tlm_dot8(const float *a, const float *b, uint32_t n)
{
    float lanes[8];
    for (uint32_t i = 0; i < n; i++) {
        tlm_lane(lanes, i, a[i] * b[i]);
    }
    return tlm_lanes_sum(lanes, n);
}

/* Rule 2. Correctly rounded square root of x >= 0, by integers: the same everywhere, and rare enough (one a norm). */
static inline float tlm_sqrt(float x)
{
    uint32_t m = tlm_bits(x);
    int32_t e = (int32_t)(m >> 23);
    if (m == 0 || m >= TLM_INF_BITS) {
        return x; /* +0, +inf; negative values do not occur */
    }
    m &= 0x7fffffu;
    if (e == 0) { /* subnormal */
        e = 1;
        while ((m & 0x800000u) == 0) {
            m <<= 1;
            e--;
        }
    }
    m |= 0x800000u;
    e -= 127;
    if (e & 1) { /* x = m * 2^(e-23) with e even */
        m <<= 1;
        e--;
    }
    /* 25 bits of root of m*2^25, digit by digit; the last one decides the rounding. */
    uint32_t root = 0, part = 0;
    m <<= 1;
    for (uint32_t bit = 0x1000000u; bit != 0; bit >>= 1) {
        const uint32_t trial = part + bit;
        if (trial <= m) {
            m -= trial;
            part = trial + bit;
            root += bit;
        }
        m <<= 1;
    }
    root = (root + 1u) >> 1; /* never a tie: an odd 25-bit root has no exact square here */
    return tlm_float(root + ((uint32_t)((e >> 1) + 126) << 23));
}

/* Rule 13. */
static inline float tlm_exp(float x)
{
    if (x < -60.0f) {
        return 0.0f;
    }
    if (x > 60.0f) {
        x = 60.0f;
    }
    const float t = x * TLM_LOG2E + TLM_ROUNDER;
    const uint32_t n = tlm_bits(t) - TLM_ROUNDER_BITS;
    const float nf = t - TLM_ROUNDER;
    float r = x - nf * TLM_LN2_HI;
    r = r - nf * TLM_LN2_LO;
    const float p = ((((TLM_E5 * r + TLM_E4) * r + TLM_E3) * r + TLM_E2) * r + TLM_E1) * r + TLM_E0;
    const float y = ((p * r) * r + r) + 1.0f;
    return tlm_float(tlm_bits(y) + (n << 23));
}

/* Rule 24, x >= 1. */
static inline float tlm_log(float x)
{
    const uint32_t u = tlm_bits(x);
    const uint32_t n = (u - 0x3F3504F3u) >> 23; /* not negative for x >= 1 */
    const float m = tlm_float(u - (n << 23));
    const float f = m - 1.0f;
    const float s = f / (2.0f + f);
    const float z = s * s;
    const float p = ((TLM_L3 * z + TLM_L2) * z + TLM_L1) * z + TLM_L0;
    const float y = (s + s) + (s * z) * p;
    const float nf = (float)n;
    return nf * TLM_LN2_HI + (nf * TLM_LN2_LO + y);
}

static inline float tlm_sigmoid(float x)
{
    return 1.0f / (1.0f + tlm_exp(-x));
}

/* Rule 12: sine and cosine of `turns` * 2^-32 turns. */
static inline void tlm_sincos(uint32_t turns, float *sine, float *cosine)
{
    const uint32_t q = (turns + 0x20000000u) >> 30;
    const float a = (float)(int32_t)(turns - (q << 30)) * TLM_C_2PI_32;
    const float z = a * a;
    const float s = a + (a * z) * ((TLM_S3 * z + TLM_S2) * z + TLM_S1);
    const float c = ((1.0f - 0.5f * z)) + (z * z) * ((TLM_C3 * z + TLM_C2) * z + TLM_C1);
    *sine = q == 0 ? s : q == 1 ? c : q == 2 ? -s : -c;
    *cosine = q == 0 ? c : q == 1 ? -s : q == 2 ? -c : s;
}

/* binary16 to float, exact; the blob and the KV cache hold no NaN and no infinity. */
static inline float tlm_from_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t rest = h & 0x7fffu;
    if (rest < 0x400u) { /* zero and subnormals: an integer times 2^-24 */
        const float v = (float)rest * 0x1p-24f;
        return tlm_float(tlm_bits(v) | sign);
    }
    return tlm_float(sign | ((rest << 13) + 0x38000000u));
}

/* Float to binary16, nearest even. false: not finite, or it rounds to infinity. */
static inline bool tlm_to_f16(float x, uint16_t *out)
{
    const uint32_t u = tlm_bits(x);
    const uint32_t a = u & TLM_ABS_MASK;
    const uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    if (a >= 0x477ff000u) { /* 65520, halfway to 2^16 */
        return false;
    }
    if (a < 0x38800000u) { /* below 2^-14: adding 0.5 aligns the mantissa to 2^-24 and rounds */
        *out = (uint16_t)(sign | (tlm_bits(tlm_float(a) + 0.5f) - 0x3f000000u));
        return true;
    }
    *out = (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13));
    return true;
}

/* Rule 15, i8 and i4: the bf16 scale of a group and its inverse, 0 and 0 when the group is too small. inv_m is
 * TLM_KV_INV_127 or TLM_KV_INV_7; a code is tlm_rint(x*inv). false: a value is not finite. */
static inline bool tlm_kv_scale(const float *x, uint32_t n, float inv_m, uint16_t *scale, float *inv)
{
    const uint32_t top = tlm_absmax_bits(x, n);
    if (top >= TLM_INF_BITS) {
        return false;
    }
    *scale = 0;
    *inv = 0.0f;
    if (tlm_float(top) >= TLM_TINY) {
        const uint32_t up = (tlm_bits(tlm_float(top) * inv_m) + 0xffffu) & 0xffff0000u;
        *scale = (uint16_t)(up >> 16);
        *inv = 1.0f / tlm_float(up);
    }
    return true;
}

static inline float tlm_from_bf16(uint16_t b)
{
    return tlm_float((uint32_t)b << 16);
}

#endif
