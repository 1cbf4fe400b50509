/* The quotients of tlm_k_s3_recip.h over all significands: prints how many of the 2^23 differ from 1/d, from 127/d
 * as tlm_k_s3_quant.S takes it, and, of those hardest to round, from a/d as tlm_k_s3_keys.S takes it. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static float from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float recip(float d)
{
    float y = from_bits(0x7EF31315u - bits_of(d));
    float e = fmaf(-d, y, 1.0f);
    y = fmaf(y, e, y);
    e = e * e;
    e = fmaf(e, e, e);
    y = fmaf(y, e, y);
    return fmaf(y, fmaf(-d, y, 1.0f), y);
}

static float quotient(float a, float d, float y)
{
    const float q = a * y;
    return fmaf(fmaf(-q, d, a), y, q);
}

/* Of the quotients a/d nearest to a half of a last place, those that differ; a and d are whole numbers of 24 bits, y = 1/d.
 * Such a half is m/2^24 or m/2^25, m odd, and a*2^bits - m*d is a small odd number `left` times the power of two in d. */
static uint32_t hard_quotients(uint32_t d, float y)
{
    uint32_t even = 0, odd = d, inverse, wrong = 0;
    for (; odd % 2u == 0; even++) {
        odd /= 2u;
    }
    inverse = odd;
    for (int step = 0; step < 4; step++) { /* modulo 2^3, 2^6, 2^12, 2^24, 2^48 */
        inverse *= 2u - odd * inverse;
    }
    for (uint32_t bits = 24; bits <= 25; bits++) {
        for (int32_t left = -7; left <= 7; left += 2) {
            const uint32_t by = bits - even, low = (0u - (uint32_t)left) * inverse & ((1u << by) - 1u);
            for (uint32_t top = 0x1000000; top < 0x2000000; top += 0x155555 * (even == 0 ? 16u : 1u)) {
                const uint32_t m = low | top >> by << by;
                const uint32_t a = (uint32_t)(((uint64_t)m * odd + (uint64_t)(int64_t)left) >> by);
                if (m >> 24 == 1u && a >> 23 == 1u) {
                    const float q = (float)a * y, right = (float)a / (float)d;
                    wrong += bits_of(fmaf(fmaf(-q, (float)d, (float)a), y, q)) != bits_of(right);
                }
            }
        }
    }
    return wrong;
}

int main(void)
{
    uint32_t wrong = 0, wrong_127 = 0, wrong_hard = 0;
    for (uint32_t m = 0; m < (1u << 23); m++) {
        const float d = from_bits(0x3F800000u | m), y = recip(d);
        const float q = 127.0f * y;
        wrong += bits_of(y) != bits_of(1.0f / d);
        wrong_127 += bits_of(fmaf(fmaf(-q, d, 127.0f), y, q)) != bits_of(127.0f / d);
        wrong_hard += hard_quotients(m | 1u << 23, y * 0x1p-23f);
    }
    printf("%u %u %u\n", wrong, wrong_127, wrong_hard);
    return 0;
}
