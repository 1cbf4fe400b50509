/* One row as code*scale, rule 10. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

enum { ROWS = 8 };

void tlm_k_ref_row_q8_0(const tlm_weight *w, uint32_t row, float *out)
{
    const uint32_t np = tlm_padded(w->cols), r = row % ROWS;
    const uint32_t scale_bytes = (np + TLM_BLOCK - 1u) / TLM_BLOCK * 16u;
    const uint8_t *tile = (const uint8_t *)w->data + (row / ROWS) * ((size_t)scale_bytes + (size_t)ROWS * np);
    const uint16_t *scales = (const uint16_t *)(const void *)tile;
    const int8_t *codes = (const int8_t *)tile + scale_bytes + (size_t)r * np;
    for (uint32_t i = 0; i < np; i++) {
        out[i] = i < w->cols ? (float)codes[i] * tlm_from_f16(scales[i / TLM_BLOCK * ROWS + r]) : 0.0f;
    }
}
