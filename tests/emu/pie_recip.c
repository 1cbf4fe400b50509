/* The quotient of tlm_k_s3_act.S over all significands: prints how many of the 2^23 differ from 1/d. */
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

int main(void)
{
    uint32_t wrong = 0;
    for (uint32_t m = 0; m < (1u << 23); m++) {
        const float d = from_bits(0x3F800000u | m);
        float y = from_bits(0x7EF311C7u - bits(d));
        for (int i = 0; i < 4; i++) {
            y = fmaf(y, fmaf(-d, y, 1.0f), y);
        }
        if (m == 0x7FFFFFu) {
            y = y * 0x1.000002p+0f;
        }
        wrong += bits(y) != bits(1.0f / d);
    }
    printf("%u\n", wrong);
    return 0;
}
