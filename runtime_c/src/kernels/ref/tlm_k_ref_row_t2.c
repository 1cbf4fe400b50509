/* One row as code*scale, rule 10. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

void tlm_k_ref_row_t2(const tlm_weight *w, uint32_t row, float *out)
{
    const uint32_t np = tlm_padded(w->cols);
    const uint8_t *codes = (const uint8_t *)w->data + (size_t)(row / 4u) * np;
    for (uint32_t i = 0; i < np; i++) {
        const int32_t code = (int32_t)(codes[i] >> (row % 4u * 2u) & 3u) - 1;
        out[i] = i < w->cols ? (float)code * w->scale : 0.0f;
    }
}
