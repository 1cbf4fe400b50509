/* Does this build compute as NUMERICS.md rule 1 and 2 say. Operands are volatile: the machine computes, not the
 * compiler. */
#include "tlm_math.h"
#include "tlm_model.h"

static bool no_contraction(void)
{
    volatile float va = 0x1.000002p+0f, vc = -0x1.000004p+0f;
    const float a = va, c = vc;
    return a * a + c == 0.0f; /* fused: 2^-46 */
}

static bool keeps_subnormals(void)
{
    volatile float least = 0x1p-149f, normal = 0x1p-126f, half = 0.5f;
    const float made = normal * half, kept = least + least;
    return tlm_bits(made) == 0x00400000u && tlm_bits(kept) == 2u;
}

typedef struct pair_vector {
    uint32_t a, b, result;
} pair_vector;

/* Quotients whose last bit shows an inexact division: halves, near halves, subnormal results. */
static bool divides(void)
{
    static const pair_vector vectors[] = {
        {0x3f800000u, 0x40400000u, 0x3eaaaaabu}, {0x42fe0000u, 0x3f7fffffu, 0x42fe0001u},
        {0x3f800001u, 0x3f7fffffu, 0x3f800002u}, {0x00800000u, 0x40400000u, 0x002aaaabu},
        {0x7f7fffffu, 0x3f800001u, 0x7f7ffffdu}, {0x3f800000u, 0x42fe0000u, 0x3c010204u},
        {0x00000001u, 0x3f000000u, 0x00000002u}, {0x3f7fffffu, 0x3f800001u, 0x3f7ffffdu}};
    for (uint32_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        volatile float a = tlm_float(vectors[i].a), b = tlm_float(vectors[i].b);
        if (tlm_bits(a / b) != vectors[i].result) {
            return false;
        }
    }
    return true;
}

static bool takes_roots(void)
{
    static const uint32_t vectors[][2] = {{0x40000000u, 0x3fb504f3u}, {0x3f800001u, 0x3f800000u},
                                          {0x3f7fffffu, 0x3f7fffffu}, {0x00000001u, 0x1a3504f3u},
                                          {0x7f7fffffu, 0x5f7fffffu}, {0x3727c5acu, 0x3b4f3e37u}};
    for (uint32_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        volatile float x = tlm_float(vectors[i][0]);
        if (tlm_bits(tlm_sqrt(x)) != vectors[i][1]) {
            return false;
        }
    }
    return true;
}

static bool converts(void)
{
    volatile int32_t even = 16777217, odd = 16777219, minus = -16777219;
    volatile float half = 2.5f, next = 3.5f;
    return (float)even == 16777216.0f && (float)odd == 16777220.0f && (float)minus == -16777220.0f &&
           tlm_rint(half) == 2 && tlm_rint(next) == 4 && tlm_rint(-half) == -2;
}

tlm_err tlm_self_test(void)
{
    const bool ok = no_contraction() && keeps_subnormals() && divides() && takes_roots() && converts();
    return ok ? TLM_OK : TLM_ERR_FP;
}
