/* The functions of tlm_math.h against what they claim: exact ones exactly, approximations within their error. */
#include <math.h>

#include "check.h"
#include "tlm_kernels.h"
#include "tlm_math.h"

static uint64_t state = 0x853c49e6748fea9bu;

static float any_float(void)
{
    return tlm_float(rnd(&state));
}

static void square_roots(void)
{
    static const uint32_t edges[] = {0, 1, 2, 3, 0x7fffffu, 0x800000u, 0x800001u, 0x3f7fffffu, 0x3f800000u,
                                     0x3f800001u, 0x40000000u, 0x40800000u, 0x7f7fffffu, 0x7f000000u};
    for (uint32_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        CHECK(tlm_bits(tlm_sqrt(tlm_float(edges[i]))) == tlm_bits(sqrtf(tlm_float(edges[i]))));
    }
    for (uint32_t i = 0; i < 2000000u; i++) {
        const float x = tlm_float(rnd(&state) % TLM_INF_BITS);
        CHECK(tlm_bits(tlm_sqrt(x)) == tlm_bits(sqrtf(x)));
    }
    for (uint32_t m = 0; m < 0x1000000u; m += 37u) { /* both parities of the exponent, all over the mantissa */
        const float x = tlm_float(0x3f800000u + m);
        CHECK(tlm_bits(tlm_sqrt(x)) == tlm_bits(sqrtf(x)));
    }
}

/* Every half and every midpoint between two of them. */
static void halves(void)
{
    uint16_t h;
    for (uint32_t u = 0; u < 0x7c00u; u++) {
        const float x = tlm_from_f16((uint16_t)u), next = u == 0x7bffu ? 65536.0f : tlm_from_f16((uint16_t)(u + 1u));
        CHECK((double)x == ldexp(u < 0x400u ? u : (u & 0x3ffu) + 0x400u, (u < 0x400u ? 1 : (int)(u >> 10)) - 25));
        CHECK(tlm_bits(tlm_from_f16((uint16_t)(u | 0x8000u))) == (tlm_bits(x) | 0x80000000u));
        CHECK(tlm_to_f16(x, &h) && h == u);
        CHECK(tlm_to_f16(-x, &h) && h == (u | 0x8000u));
        const float middle = (x + next) * 0.5f; /* exact */
        const float below = tlm_float(tlm_bits(middle) - 1u), above = tlm_float(tlm_bits(middle) + 1u);
        const bool last = u == 0x7bffu;
        CHECK(tlm_to_f16(below, &h) && h == u);
        CHECK(tlm_to_f16(above, &h) == !last && (last || h == u + 1u));
        CHECK(tlm_to_f16(middle, &h) == !last && (last || h == u + (u & 1u)));
    }
    CHECK(!tlm_to_f16(tlm_float(TLM_INF_BITS), &h) && !tlm_to_f16(-tlm_float(TLM_INF_BITS), &h));
    CHECK(!tlm_to_f16(tlm_float(0x7fc00000u), &h));
}

static void rounding(void)
{
    for (uint32_t i = 0; i < 200000u; i++) {
        const float t = (float)(int32_t)rnd(&state) * 0x1p-24f;
        CHECK(tlm_rint(t) == (int32_t)lrintf(t));
        CHECK(tlm_rint((float)(int32_t)(rnd(&state) % 255u) - 127.5f) % 2 == 0); /* ties to even */
    }
}

static void approximations(void)
{
    double worst_exp = 0, worst_log = 0, worst_sin = 0;
    for (uint32_t i = 0; i < 400000u; i++) {
        const float x = (float)(int32_t)rnd(&state) * 0x1p-31f * 59.9f;
        const double e = exp((double)x);
        worst_exp = fmax(worst_exp, fabs((double)tlm_exp(x) - e) / e);
        const float v = 1.0f + (float)(rnd(&state) >> 8) * 0x1p-8f;
        worst_log = fmax(worst_log, fabs((double)tlm_log(v) - log((double)v)));
        const uint32_t turns = rnd(&state);
        float s, c;
        tlm_sincos(turns, &s, &c);
        const double angle = (double)turns * 0x1p-32 * 6.283185307179586;
        worst_sin = fmax(worst_sin, fmax(fabs((double)s - sin(angle)), fabs((double)c - cos(angle))));
    }
    printf("exp %.2g (relative), log %.2g, sin and cos %.2g\n", worst_exp, worst_log, worst_sin);
    CHECK(worst_exp < 1.3e-7 && worst_log < 1.2e-6 && worst_sin < 1.5e-7);
    CHECK(tlm_bits(tlm_exp(0.0f)) == tlm_bits(1.0f) && tlm_bits(tlm_exp(-0.0f)) == tlm_bits(1.0f));
    CHECK(tlm_exp(-61.0f) == 0.0f && tlm_exp(1e30f) == tlm_exp(60.0f) && tlm_log(1.0f) == 0.0f);
}

/* Codes stay within the range that products rely on, and decode to the value within half a step. */
static void quantising(void)
{
    for (uint32_t i = 0; i < 20000u; i++) {
        float x[40], scale;
        int8_t codes[40];
        const uint32_t n = 1u + rnd(&state) % 40u;
        float amax = 0.0f;
        for (uint32_t k = 0; k < n; k++) {
            do {
                x[k] = any_float();
            } while (!isfinite(x[k]));
            amax = fmaxf(amax, fabsf(x[k]));
        }
        CHECK(tlm_quantise(x, n, 0.0f, codes, &scale));
        for (uint32_t k = 0; k < n; k++) {
            CHECK(codes[k] >= -127);
            const double error = fabs((double)codes[k] * (double)scale - (double)x[k]);
            CHECK(error <= fmax((double)amax / 253.9, (double)TLM_TINY));
        }
        x[rnd(&state) % n] = tlm_float(TLM_INF_BITS | (rnd(&state) & 0x807fffffu));
        CHECK(!tlm_quantise(x, n, 0.0f, codes, &scale));
    }
}

/* Rule 15: the stored scale never lets a code leave -M..M. */
static void cache_scales(void)
{
    for (uint32_t i = 0; i < 200000u; i++) {
        const float x = tlm_float(rnd(&state) % TLM_INF_BITS), minus = -x;
        uint16_t scale;
        float inv;
        CHECK(tlm_kv_scale(&x, 1, TLM_KV_INV_127, &scale, &inv) && tlm_rint(x * inv) <= 127);
        CHECK(x < TLM_TINY || tlm_rint(x * inv) >= 126);
        CHECK(tlm_kv_scale(&minus, 1, TLM_KV_INV_7, &scale, &inv) && tlm_rint(minus * inv) >= -7);
    }
}

int main(void)
{
    square_roots();
    halves();
    rounding();
    approximations();
    quantising();
    cache_scales();
    printf("ok\n");
    return 0;
}
