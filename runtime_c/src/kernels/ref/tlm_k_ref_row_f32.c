/* One row as stored, rule 10. */
#include <string.h>

#include "tlm_k_ref.h"
#include "tlm_math.h"

void tlm_k_ref_row_f32(const tlm_weight *w, uint32_t row, float *out)
{
    const uint32_t np = tlm_padded(w->cols);
    memcpy(out, (const float *)w->data + (size_t)row * np, np * sizeof *out);
}
