/* Rules 5 and 6: peaks and codes in assembly, one division a scale here. */
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

/* The peaks, then the inverses, stand where the sums will. */
bool tlm_k_s3_quant_block(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums)
{
    const uint32_t np = tlm_padded(n), blocks = blocks_of(np);
    tlm_k_s3_absmax(x, np, sums);
    for (uint32_t k = 0; k < blocks; k++) {
        if ((uint32_t)sums[k] >= TLM_INF_BITS) {
            return false;
        }
        sums[k] = (int32_t)tlm_bits(inverse((uint32_t)sums[k], floor, &scales[k]));
    }
    tlm_k_s3_codes(x, codes, sums, sizeof(float), sums, np);
    return true;
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
