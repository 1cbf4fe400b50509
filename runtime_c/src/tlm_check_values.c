/* Is every stored value one that kernels may meet: finite scales and floats, valid codes, clean pads (BLOB.md). */
#include "tlm_math.h"
#include "tlm_model.h"

/* Padded rows of the packed types count as rows whose columns are all pads. */
typedef struct extent {
    uint32_t rows, cols, np, tiles;
} extent;

static extent extent_of(const tlm_tensor_rec *t)
{
    const uint32_t tile = tlm_tile_rows(t->type);
    const extent e = {t->rows, t->cols, tlm_padded(t->cols), (t->rows + tile - 1u) / tile};
    return e;
}

static tlm_err check_f32(const tlm_tensor_rec *t, const uint8_t *data)
{
    const extent e = extent_of(t);
    const uint32_t *row = (const void *)data;
    const uint32_t limit = t->type == TLM_TENSOR_TYPE_F32 ? TLM_INF_BITS : 0x80000000u;
    const uint32_t mask = t->type == TLM_TENSOR_TYPE_F32 ? TLM_ABS_MASK : 0;
    for (uint32_t r = 0; r < e.rows; r++, row += e.np) {
        uint32_t top = 0, pads = 0;
        for (uint32_t c = 0; c < e.cols; c++) {
            top = tlm_max_u32(top, row[c] & mask);
        }
        for (uint32_t c = e.cols; c < e.np; c++) {
            pads |= row[c];
        }
        TLM_CHECK(TLM_ERR_WEIGHTS, top < limit);
        TLM_CHECK(TLM_ERR_FORMAT, pads == 0);
    }
    return TLM_OK;
}

static bool f16_finite(uint16_t h)
{
    return (h & 0x7c00u) != 0x7c00u;
}

static tlm_err check_f16(const tlm_tensor_rec *t, const uint8_t *data)
{
    const extent e = extent_of(t);
    const uint16_t *row = (const void *)data;
    for (uint32_t r = 0; r < e.rows; r++, row += e.np) {
        for (uint32_t c = 0; c < e.cols; c++) {
            TLM_CHECK(TLM_ERR_WEIGHTS, f16_finite(row[c]));
        }
        for (uint32_t c = e.cols; c < e.np; c++) {
            TLM_CHECK(TLM_ERR_FORMAT, row[c] == 0);
        }
    }
    return TLM_OK;
}

/* Scales of a tile of 8 rows; those of pad rows are +0. Returns where the codes start. */
static tlm_err check_scales(const extent *e, uint32_t row0, const uint8_t **at)
{
    const uint16_t *scales = (const void *)*at;
    const uint32_t n = (e->np + TLM_BLOCK - 1u) / TLM_BLOCK * 8u;
    for (uint32_t i = 0; i < n; i++) {
        TLM_CHECK(TLM_ERR_WEIGHTS, f16_finite(scales[i]));
        TLM_CHECK(TLM_ERR_FORMAT, row0 + i % 8u < e->rows || scales[i] == 0);
    }
    *at += n * sizeof *scales;
    return TLM_OK;
}

static tlm_err check_q8_0(const tlm_tensor_rec *t, const uint8_t *at)
{
    const extent e = extent_of(t);
    for (uint32_t row0 = 0; row0 < e.tiles * 8u; row0 += 8u) {
        TLM_TRY(check_scales(&e, row0, &at));
        for (uint32_t r = 0; r < 8u; r++, at += e.np) {
            const uint32_t real = row0 + r < e.rows ? e.cols : 0;
            for (uint32_t c = 0; c < real; c++) {
                TLM_CHECK(TLM_ERR_WEIGHTS, at[c] != 0x80u); /* -128: products must not saturate (rule 25) */
            }
            for (uint32_t c = real; c < e.np; c++) {
                TLM_CHECK(TLM_ERR_FORMAT, at[c] == 0);
            }
        }
    }
    return TLM_OK;
}

static tlm_err check_q4_0(const tlm_tensor_rec *t, const uint8_t *at)
{
    const extent e = extent_of(t);
    for (uint32_t row0 = 0; row0 < e.tiles * 8u; row0 += 8u) {
        TLM_TRY(check_scales(&e, row0, &at));
        for (uint32_t r = 0; r < 8u; r += 2u, at += e.np) {
            const uint32_t real = tlm_min_u32(e.rows > row0 + r ? e.rows - row0 - r : 0, 2u);
            const uint32_t pad_mask = real == 0 ? 0xffu : real == 1u ? 0xf0u : 0;
            for (uint32_t c = 0; c < e.np; c++) {
                const uint32_t mask = c < e.cols ? pad_mask : 0xffu;
                TLM_CHECK(TLM_ERR_FORMAT, (at[c] & mask) == (0x08u & mask));
            }
        }
    }
    return TLM_OK;
}

/* Ternary codes of a byte's rows, value + 1 each, as `digits` base 4 numbers; 3 never occurs. */
static tlm_err check_t2(const tlm_tensor_rec *t, const uint8_t *at)
{
    const extent e = extent_of(t);
    for (uint32_t row0 = 0; row0 < e.tiles * 8u; row0 += 4u, at += e.np) {
        const uint32_t real = tlm_min_u32(e.rows > row0 ? e.rows - row0 : 0, 4u);
        const uint32_t pad_rows = 0xffu << (2u * real) & 0xffu;
        for (uint32_t c = 0; c < e.np; c++) {
            const uint32_t mask = c < e.cols ? pad_rows : 0xffu;
            TLM_CHECK(TLM_ERR_WEIGHTS, (at[c] & at[c] >> 1 & 0x55u) == 0);
            TLM_CHECK(TLM_ERR_FORMAT, (at[c] & mask) == (0x55u & mask));
        }
    }
    return TLM_OK;
}

static tlm_err check_t1(const tlm_tensor_rec *t, const uint8_t *at)
{
    static const uint8_t powers[6] = {1, 3, 9, 27, 81, 243};
    const extent e = extent_of(t);
    for (uint32_t row0 = 0; row0 < e.tiles * 5u; row0 += 5u, at += e.np) {
        const uint32_t pad_rows = 5u - tlm_min_u32(e.rows - row0, 5u);
        for (uint32_t c = 0; c < e.np; c++) {
            const uint32_t v = at[c] * 243u >> 8; /* the five digits; one byte stands for each value */
            const uint32_t pads = powers[c < e.cols ? pad_rows : 5u];
            TLM_CHECK(TLM_ERR_WEIGHTS, (v * 256u + 242u) / 243u == at[c]);
            TLM_CHECK(TLM_ERR_FORMAT, v % pads == pads / 2u); /* all digits 1 */
        }
    }
    return TLM_OK;
}

tlm_err tlm_check_values(const tlm_model *m, const tlm_tensor_rec *t)
{
    const uint8_t *data = m->blob + t->offset;
    switch (t->type) {
    case TLM_TENSOR_TYPE_F16:
        return check_f16(t, data);
    case TLM_TENSOR_TYPE_Q8_0:
        return check_q8_0(t, data);
    case TLM_TENSOR_TYPE_Q4_0:
        return check_q4_0(t, data);
    case TLM_TENSOR_TYPE_T2:
        return check_t2(t, data);
    case TLM_TENSOR_TYPE_T1:
        return check_t1(t, data);
    default:
        return check_f32(t, data); /* u32 too: any number, zero pads */
    }
}
