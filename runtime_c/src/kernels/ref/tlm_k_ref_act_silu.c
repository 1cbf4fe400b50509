/* Rule 14. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

static float act(float x)
{
    return x * tlm_sigmoid(x);
}

void tlm_k_ref_act_silu(float *g, const float *up, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const float a = act(g[i]);
        g[i] = up != NULL ? a * up[i] : a;
    }
}
