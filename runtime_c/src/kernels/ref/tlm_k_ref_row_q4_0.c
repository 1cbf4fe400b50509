/* One row as code*scale, rule 10. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

enum { ROWS = 8 };

void tlm_k_ref_row_q4_0(const tlm_weight *w, uint32_t row, float *out)
{
    const uint32_t np = tlm_padded(w->cols), r = row % ROWS;
    const uint32_t scale_bytes = (np + TLM_BLOCK - 1u) / TLM_BLOCK * 16u;
    const uint8_t *tile = (const uint8_t *)w->data + (row / ROWS) * ((size_t)scale_bytes + (size_t)(ROWS / 2) * np);
    const uint16_t *scales = (const uint16_t *)(const void *)tile;
    const int8_t *codes = (const int8_t *)tile + scale_bytes + (size_t)(r / 2u) * np;
    for (uint32_t i = 0; i < np; i++) {
        const int32_t code = (r & 1u) ? codes[i] >> 4 : (codes[i] & 15) - 8;
        out[i] = i < w->cols ? (float)code * tlm_from_f16(scales[i / TLM_BLOCK * ROWS + r]) : 0.0f;
    }
}
