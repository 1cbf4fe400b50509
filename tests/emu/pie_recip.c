/* The quotients of tlm_k_s3_recip.h over all significands: prints how many of the 2^23 differ from 1/d, and from 127/d
 * as tlm_k_s3_quant.S takes it. */
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

static uint32_t bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float recip(float d)
{
    float y = from_bits(0x7EF31315u - bits(d));
    float e = fmaf(-d, y, 1.0f);
    y = fmaf(y, e, y);
    e = e * e;
    e = fmaf(e, e, e);
    y = fmaf(y, e, y);
    return fmaf(y, fmaf(-d, y, 1.0f), y);
}

int main(void)
{
    uint32_t wrong = 0, wrong_127 = 0;
    for (uint32_t m = 0; m < (1u << 23); m++) {
        const float d = from_bits(0x3F800000u | m), y = recip(d);
        const float q = 127.0f * y;
        wrong += bits(y) != bits(1.0f / d);
        wrong_127 += bits(fmaf(fmaf(-q, d, 127.0f), y, q)) != bits(127.0f / d);
    }
    printf("%u %u\n", wrong, wrong_127);
    return 0;
}
