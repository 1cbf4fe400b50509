/* One row, exact in float, rule 10. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

void tlm_k_ref_row_f16(const tlm_weight *w, uint32_t row, float *out)
{
    const uint32_t np = tlm_padded(w->cols);
    const uint16_t *values = (const uint16_t *)w->data + (size_t)row * np;
    for (uint32_t i = 0; i < np; i++) {
        out[i] = tlm_from_f16(values[i]);
    }
}
