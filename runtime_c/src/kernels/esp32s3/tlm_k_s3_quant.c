/* Rules 5 and 6 in assembly; one scale a vector has its division here. */
#include "tlm_k_s3.h"
#include "tlm_math.h"

static uint32_t blocks_of(uint32_t np)
{
    return (np + TLM_BLOCK - 1u) / TLM_BLOCK;
}

/* Scale and inverse for a peak; 0 and 0 give codes of 0. */
static float inverse(uint32_t peak, float floor, float *scale)
{
    float amax = tlm_float(peak);
    if (amax < floor) {
        amax = floor;
    }
    if (amax < TLM_TINY) {
        *scale = 0.0f;
        return 0.0f;
    }
    *scale = amax * TLM_INV_127;
    return 127.0f / amax;
}

bool tlm_k_s3_quant_block(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums)
{
    return tlm_k_s3_quant(x, codes, scales, sums, tlm_padded(n) / 16u, tlm_bits(floor)) != 0;
}

bool tlm_k_s3_quant_vector(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums)
{
    const uint32_t np = tlm_padded(n), blocks = blocks_of(np);
    uint32_t peak = 0;
    tlm_k_s3_absmax(x, np, sums);
    for (uint32_t k = 0; k < blocks; k++) {
        peak = tlm_max_u32(peak, (uint32_t)sums[k]);
    }
    if (peak >= TLM_INF_BITS) {
        return false;
    }
    const float inv = inverse(peak, floor, scales);
    tlm_k_s3_codes(x, codes, &inv, 0, sums, np);
    return true;
}
