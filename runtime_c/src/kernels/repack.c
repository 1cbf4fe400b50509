/* Repacking of weights for the x86 backends; see repack.h for the form. Runs once, when a session is opened. */
#include "repack.h"

#include <string.h>

#include "tlm_math.h"

static bool packable(uint8_t type)
{
    return type == TLM_TENSOR_TYPE_Q4_0 || type == TLM_TENSOR_TYPE_Q8_0 || type == TLM_TENSOR_TYPE_T2 ||
           type == TLM_TENSOR_TYPE_T1;
}

tlm_repack_shape tlm_repack_shape_of(const tlm_weight *w, uint32_t rows)
{
    const bool bytes = w->type == TLM_TENSOR_TYPE_Q8_0, scaled = bytes || w->type == TLM_TENSOR_TYPE_Q4_0;
    tlm_repack_shape s;
    s.blocks = (tlm_padded(w->cols) + 31u) / 32u;
    s.vectors = bytes ? 8u : 4u;
    s.scale_bytes = scaled ? 2u * rows : 0u;
    s.block_bytes = s.scale_bytes + (size_t)s.vectors * 4u * rows;
    return s;
}

size_t tlm_repack_bytes(const tlm_weight *w, uint32_t rows)
{
    const tlm_repack_shape s = tlm_repack_shape_of(w, rows);
    return packable(w->type) ? (size_t)((w->rows + rows - 1u) / rows) * s.blocks * s.block_bytes : 0u;
}

uint32_t tlm_repack_group(const tlm_weight *w, uint32_t rows, uint32_t tile)
{
    const uint32_t first = tile * (w->type == TLM_TENSOR_TYPE_T1 ? 5u : 8u);
    const uint32_t groups = (w->rows + rows - 1u) / rows;
    return tlm_min_u32((first + rows - 1u) / rows, groups);
}

/* Value of element (row, col) in the blob's own layout (BLOB.md, "Weight layout"). */
static int32_t value_at(const tlm_weight *w, uint32_t row, uint32_t col)
{
    const uint8_t *base = w->data;
    const size_t np = tlm_padded(w->cols), scales = ((np + 31u) / 32u) * 16u;
    if (w->type == TLM_TENSOR_TYPE_Q8_0) {
        return ((const int8_t *)base)[(row / 8u) * (scales + 8u * np) + scales + (row % 8u) * np + col];
    }
    if (w->type == TLM_TENSOR_TYPE_Q4_0) {
        const uint8_t b = base[(row / 8u) * (scales + 4u * np) + scales + (row % 8u / 2u) * np + col];
        return row % 2u ? ((b >> 4) ^ 8) - 8 : (b & 15) - 8;
    }
    if (w->type == TLM_TENSOR_TYPE_T2) {
        return ((base[(row / 8u) * 2u * np + (row % 8u / 4u) * np + col] >> (2u * (row % 4u))) & 3) - 1;
    }
    uint32_t b = base[(row / 5u) * np + col], digit = 0;
    for (uint32_t i = 0; i <= row % 5u; i++) {
        digit = (b * 3u) >> 8;
        b = (b * 3u) & 255u;
    }
    return (int32_t)digit - 1;
}

static uint16_t scale_at(const tlm_weight *w, const tlm_repack_shape *s, uint32_t row, uint32_t block)
{
    const size_t codes = (w->type == TLM_TENSOR_TYPE_Q8_0 ? 8u : 4u) * (size_t)tlm_padded(w->cols);
    uint16_t scale;
    memcpy(&scale, (const uint8_t *)w->data + (row / 8u) * (16u * (size_t)s->blocks + codes) + 16u * block + 2u * (row % 8u), 2);
    return scale;
}

void tlm_repack(const tlm_weight *w, uint32_t rows, uint8_t bias8, void *out)
{
    const tlm_repack_shape s = tlm_repack_shape_of(w, rows);
    const int32_t offset = w->type == TLM_TENSOR_TYPE_Q8_0 ? bias8 : w->type == TLM_TENSOR_TYPE_Q4_0 ? 8 : 1;
    const uint32_t row_end = (w->rows + rows - 1u) / rows * rows;
    for (uint32_t row = 0; row < row_end; row++) {
        uint8_t *at = (uint8_t *)out + (size_t)(row / rows) * s.blocks * s.block_bytes;
        for (uint32_t k = 0; k < s.blocks; k++, at += s.block_bytes) {
            const uint16_t scale = row < w->rows && s.scale_bytes ? scale_at(w, &s, row, k) : 0;
            if (s.scale_bytes) {
                memcpy(at + 2u * (row % rows), &scale, 2);
            }
            for (uint32_t c = 0; c < 32u; c++) {
                const uint32_t col = 32u * k + c, shift = s.vectors == 4u && c >= 16u ? 4u : 0u;
                const int32_t value = row < w->rows && col < w->cols ? value_at(w, row, col) : 0;
                uint8_t *byte = at + s.scale_bytes + (c / 4u % s.vectors) * 4u * rows + 4u * (row % rows) + c % 4u;
                *byte = (uint8_t)((shift ? *byte : 0u) | ((uint32_t)(value + offset) & 255u) << shift);
            }
        }
    }
}
