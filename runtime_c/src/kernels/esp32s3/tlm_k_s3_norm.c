/* Rule 11: the passes over a vector in assembly, its mean and its root here. What they do not take goes to the reference. */
#include <string.h>

#include "tlm_k_s3.h"
#include "tlm_math.h"

enum { LANES = 8, QUAD = 4 };

static bool aligned(const float *p)
{
    return (uintptr_t)p % 16u == 0;
}

static bool taken(const float *x, uint32_t n, const float *g, const float *b, const float *y)
{
    return n % LANES == 0 && n != 0 && g != NULL && aligned(x) && aligned(y) && aligned(g) && aligned(b);
}

/* y = ((x - m)*r)*g + b. */
static void norm(const float *x, float m, uint32_t n, float eps, const float *g, const float *b, float *y)
{
    const float v = tlm_k_s3_centre(y, x, &m, n / LANES) * (1.0f / (float)n);
    const float r = 1.0f / tlm_sqrt(v + eps);
    tlm_k_s3_gain(y, &r, g, b, n / QUAD);
    memset(y + n, 0, (tlm_padded(n) - n) * sizeof *y);
}

void tlm_k_s3_norm_layer(const float *x, uint32_t n, float eps, const float *g, const float *b, float *y)
{
    if (taken(x, n, g, b, y)) {
        norm(x, tlm_k_s3_sum8(x, n / LANES) * (1.0f / (float)n), n, eps, g, b, y);
    } else {
        tlm_k_ref_norm_layer(x, n, eps, g, b, y);
    }
}

/* x - 0 is x, for every x. */
void tlm_k_s3_norm_rms(const float *x, uint32_t n, float eps, const float *g, const float *b, float *y)
{
    if (taken(x, n, g, b, y)) {
        norm(x, 0.0f, n, eps, g, b, y);
    } else {
        tlm_k_ref_norm_rms(x, n, eps, g, b, y);
    }
}
