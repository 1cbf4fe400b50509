/* Rule 15 with feedback: K of an i4 cache. */
#include "tlm_k_ref.h"
#include "tlm_math.h"

enum { ROWS = 8 }; /* of a q4_0 tile */

/* Codes of dimension d of heads whose channels begin at `column`, in steps of 1/inv. x holds the errors of the dimensions
 * after d, and takes those of d. The odd dimension of a pair comes first. */
static void fed_codes(float *x, uint32_t n, uint32_t head_dim, uint32_t d, float inv, const tlm_weight *w,
                      uint32_t column, uint8_t *out)
{
    const uint32_t np = tlm_padded(w->cols), row = d % ROWS;
    const size_t scale_bytes = (np + TLM_BLOCK - 1u) / TLM_BLOCK * 16u;
    const uint8_t *tile = (const uint8_t *)w->data + d / ROWS * (scale_bytes + (size_t)(ROWS / 2) * np);
    const uint16_t *scales = (const uint16_t *)(const void *)tile + row;
    const int8_t *codes = (const int8_t *)tile + scale_bytes + (size_t)(row / 2u) * np;
    uint32_t block = UINT32_MAX;
    float scale = 0.0f;
    for (uint32_t end = head_dim; end <= n; end += head_dim, out += (head_dim + 1u) / 2u * TLM_PAGE) {
        float *e = x + (end - head_dim) + d;
        const float y = *e * inv;
        float t = y;
        for (uint32_t i = end - head_dim + d + 1u; i < end; i++) {
            const uint32_t col = column + i;
            if (col / TLM_BLOCK != block) {
                block = col / TLM_BLOCK;
                scale = tlm_from_f16(scales[block * ROWS]);
            }
            const int32_t weight = (row & 1u) != 0 ? codes[col] >> 4 : (codes[col] & 15) - 8;
            t = t + ((float)weight * scale) * x[i];
        }
        const int32_t code = tlm_rint(t > 7.0f ? 7.0f : t < -7.0f ? -7.0f : t);
        *e = y - (float)code;
        if ((d & 1u) != 0) {
            *out = (uint8_t)(((uint32_t)code & 15u) << 4);
        } else {
            *out = (uint8_t)((uint32_t)(code + 8) | (d + 1u < head_dim ? *out : 0u));
        }
    }
}

bool tlm_k_ref_kv_feed(const tlm_fed_keys *a)
{
    const uint32_t n = a->n_kv_heads * a->head_dim;
    float *x = a->k;
    for (uint32_t t = a->position; t < a->position + a->n; t++, x += a->stride) {
        uint8_t *page = a->pages[t / TLM_PAGE], *out = page + a->codes + t % TLM_PAGE;
        float inv;
        if (!tlm_kv_scale(x, n, TLM_KV_INV_7, (uint16_t *)(void *)(page + a->scales) + t % TLM_PAGE, &inv)) {
            return false;
        }
        for (uint32_t d = a->head_dim; d-- > 0;) {
            fed_codes(x, n, a->head_dim, d, inv, a->feedback, a->head0 * a->head_dim, out + d / 2u * TLM_PAGE);
        }
    }
    return true;
}
