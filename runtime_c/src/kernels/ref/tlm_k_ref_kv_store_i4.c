/* Rule 15, M = 7: K and V as [kvh][(kd+1)/2][16], two dimensions a byte. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

enum { ROWS = 8 }; /* of a q4_0 tile */

/* t of dimension d of a head whose channels start at `col`: x holds the errors of the dimensions after d. */
static float with_errors(float t, const float *x, const tlm_weight *w, uint32_t d, uint32_t col, uint32_t head_dim)
{
    const uint32_t np = tlm_padded(w->cols), row = d % ROWS;
    const size_t scale_bytes = (np + TLM_BLOCK - 1u) / TLM_BLOCK * 16u;
    const uint8_t *tile = (const uint8_t *)w->data + d / ROWS * (scale_bytes + (size_t)(ROWS / 2) * np);
    const uint16_t *scales = (const uint16_t *)(const void *)tile;
    const int8_t *codes = (const int8_t *)tile + scale_bytes + (size_t)(row / 2u) * np + col;
    for (uint32_t i = d + 1u; i < head_dim; i++) {
        const int32_t code = (row & 1u) != 0 ? codes[i] >> 4 : (codes[i] & 15) - 8;
        t = t + ((float)code * tlm_from_f16(scales[(col + i) / TLM_BLOCK * ROWS + row])) * x[i];
    }
    return t;
}

static int32_t clamped(float t)
{
    return tlm_rint(t > 7.0f ? 7.0f : t < -7.0f ? -7.0f : t);
}

bool tlm_k_ref_kv_store_i4(float *x, uint32_t n_kv_heads, uint32_t head_dim, bool is_v, const tlm_weight *feedback,
                           void *region, uint16_t *scales, uint32_t slot)
{
    const uint32_t n = n_kv_heads * head_dim;
    uint8_t *out = (uint8_t *)region + slot;
    float inv;
    (void)is_v;
    if (!tlm_kv_scale(x, n, TLM_KV_INV_7, &scales[slot], &inv)) {
        return false;
    }
    for (uint32_t col = 0; col < n; col += head_dim, x += head_dim, out += (head_dim + 1u) / 2u * TLM_PAGE) {
        uint32_t high = 0;
        for (uint32_t d = head_dim; d-- > 0;) {
            const float y = x[d] * inv;
            const int32_t code = clamped(feedback == NULL ? y : with_errors(y, x, feedback, d, col, head_dim));
            x[d] = y - (float)code;
            if ((d & 1u) != 0) {
                high = ((uint32_t)code & 15u) << 4;
            } else {
                out[d / 2u * TLM_PAGE] = (uint8_t)((uint32_t)(code + 8) | high);
                high = 0;
            }
        }
    }
    return true;
}
