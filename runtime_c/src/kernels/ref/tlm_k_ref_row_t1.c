/* One row as code*scale, rule 10. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

static int32_t digit(uint32_t byte, uint32_t index)
{
    while (index-- != 0) {
        byte = byte * 3u & 255u;
    }
    return (int32_t)(byte * 3u >> 8) - 1;
}

void tlm_k_ref_row_t1(const tlm_weight *w, uint32_t row, float *out)
{
    const uint32_t np = tlm_padded(w->cols);
    const uint8_t *codes = (const uint8_t *)w->data + (size_t)(row / 5u) * np;
    for (uint32_t i = 0; i < np; i++) {
        out[i] = i < w->cols ? (float)digit(codes[i], row % 5u) * w->scale : 0.0f;
    }
}
