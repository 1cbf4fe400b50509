/* Rule 20: a stage added, and which tiles of 8 rows may still reach the bar. A bound that is NaN keeps its row. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

uint32_t tlm_k_ref_bound(const tlm_bound *b, const float *more, const uint8_t *norms, uint32_t n, float *v)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < n; i++) {
        const float most = (float)norms[i] * b->later, acc = v[i] + more[i];
        const float size = tlm_float(tlm_bits(acc) & TLM_ABS_MASK) + most + b->room;
        v[i] = acc;
        live |= (uint32_t)!(((acc + most) + b->centre) + size * b->loose < b->bar) << i / 8u;
    }
    return live;
}
