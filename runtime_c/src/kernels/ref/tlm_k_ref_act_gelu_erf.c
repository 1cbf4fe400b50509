/* Rule 14. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

/* Abramowitz and Stegun 7.1.26. */
static float error_function(float v)
{
    const float w = tlm_float(tlm_bits(v) & TLM_ABS_MASK);
    const float t = 1.0f / (1.0f + TLM_ERF_P * w);
    const float p = ((((TLM_A5 * t + TLM_A4) * t + TLM_A3) * t + TLM_A2) * t + TLM_A1) * t;
    const float e = 1.0f - p * tlm_exp(-(w * w));
    return v < 0.0f ? -e : e;
}

static float act(float x)
{
    return (x * 0.5f) * (1.0f + error_function(x * TLM_RSQRT2));
}

void tlm_k_ref_act_gelu_erf(float *g, const float *up, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const float a = act(g[i]);
        g[i] = up != NULL ? a * up[i] : a;
    }
}
