/* Is a HEAD section whole, and are its bounds true: a norm below that of its row would lose tokens silently. */
#include "tlm_head.h"
#include "tlm_math.h"
#include "tlm_model.h"

enum { ROWS = 8, SEEN = 4096, MAX_BIAS_SCALE_BITS = 0x7b800000 }; /* 2^120: any bias is finite */

static bool fits(const tlm_model *m, uint32_t id, uint32_t rows, uint32_t cols)
{
    return m->tensors[id].rows == rows && m->tensors[id].cols == cols;
}

static tlm_err check_tensors(const tlm_model *m)
{
    const uint32_t dim = m->spec->dim, rotation = m->head_tensor;
    const tlm_tensor_rec *t = m->tensors;
    uint32_t cols = 0;
    TLM_CHECK(TLM_ERR_FORMAT, fits(m, rotation, dim, dim) && t[rotation].type != TLM_TENSOR_TYPE_U32);
    for (uint32_t id = rotation + 1u; id < rotation + TLM_HEAD_FIXED_TENSORS; id++) {
        TLM_CHECK(TLM_ERR_FORMAT, fits(m, id, 1, dim) && t[id].type == TLM_TENSOR_TYPE_F32);
    }
    for (uint32_t id = rotation + TLM_HEAD_FIXED_TENSORS; id < m->n_tensors; id++) {
        const bool last = id + 1u == m->n_tensors;
        TLM_CHECK(TLM_ERR_FORMAT, t[id].type == TLM_TENSOR_TYPE_Q4_0 || t[id].type == TLM_TENSOR_TYPE_Q8_0);
        TLM_CHECK(TLM_ERR_FORMAT, t[id].rows == m->spec->vocab && t[id].cols <= dim - cols);
        TLM_CHECK(TLM_ERR_FORMAT, last || t[id].cols % TLM_COL_PAD == 0);
        cols += t[id].cols;
    }
    TLM_CHECK(TLM_ERR_FORMAT, cols == dim);
    return TLM_OK;
}

static bool zero_between(const void *from, const void *to)
{
    uint8_t any = 0;
    for (const uint8_t *p = from; p != to; p++) {
        any = (uint8_t)(any | *p);
    }
    return any == 0;
}

/* Each id once: SEEN ids at a time, so that no memory beyond the stack is needed. */
static bool each_id_once(const uint32_t *ids, uint32_t vocab)
{
    for (uint32_t first = 0; first < vocab; first += SEEN) {
        const uint32_t span = tlm_min_u32(SEEN, vocab - first);
        uint32_t seen[SEEN / 32] = {0}, count = 0;
        for (uint32_t row = 0; row < vocab; row++) {
            const uint32_t at = ids[row] - first;
            if (at < span) {
                count += (~seen[at / 32u] >> (at % 32u)) & 1u;
                seen[at / 32u] |= 1u << (at % 32u);
            }
        }
        if (count != span) {
            return false;
        }
    }
    return true;
}

static tlm_err check_arrays(const tlm_model *m, const tlm_head_arrays *a)
{
    const uint32_t vocab = m->spec->vocab, padded = tlm_round_up(vocab, ROWS);
    TLM_CHECK(TLM_ERR_FORMAT, zero_between(m->head + 1, a->ids) && zero_between(a->ids + padded, a->bias) &&
                                  zero_between(a->bias + vocab, a->norms));
    for (uint32_t row = vocab; row < padded; row++) {
        TLM_CHECK(TLM_ERR_FORMAT, a->ids[row] == TLM_NO_TOKEN);
    }
    for (uint32_t k = 0; k + 1u < m->head->n_stages; k++) {
        const uint8_t *norms = a->norms + k * a->stride;
        TLM_CHECK(TLM_ERR_FORMAT, zero_between(norms + vocab, norms + a->stride));
    }
    TLM_CHECK(TLM_ERR_FORMAT, each_id_once(a->ids, vocab));
    return TLM_OK;
}

/* Sum of the squares of a row of a stage: integers for each block, exact. */
static float squares(const tlm_weight *w, uint32_t row)
{
    const bool nibbles = w->type == TLM_TENSOR_TYPE_Q4_0;
    const uint32_t np = tlm_padded(w->cols), blocks = (np + TLM_BLOCK - 1u) / TLM_BLOCK, r = row % ROWS;
    const uint8_t *tile = (const uint8_t *)w->data + row / ROWS * (blocks * 16u + (size_t)np * (nibbles ? 4u : 8u));
    const uint16_t *scales = (const uint16_t *)(const void *)tile + r;
    const int8_t *codes = (const int8_t *)tile + blocks * 16u + (size_t)(nibbles ? r / 2u : r) * np;
    float sum = 0.0f;
    for (uint32_t c = 0; c < np;) {
        const float scale = tlm_from_f16(scales[c / TLM_BLOCK * ROWS]);
        int32_t whole = 0;
        for (const uint32_t end = tlm_min_u32(np, c + TLM_BLOCK); c < end; c++) {
            const int32_t v = !nibbles ? codes[c] : (r & 1u) != 0 ? codes[c] >> 4 : (codes[c] & 15) - 8;
            whole += v * v;
        }
        sum += (float)whole * (scale * scale);
    }
    return sum;
}

/* The stored norms cover the rows, with more to spare than the roundings of these very sums. */
static tlm_err check_norms(const tlm_model *m, const tlm_head_arrays *a)
{
    const float spare = 1.0f + (float)(m->spec->dim + 64u) * 0x1p-22f;
    for (uint32_t row = 0; row < m->spec->vocab; row++) {
        float sum = 0.0f;
        for (uint32_t stage = m->head->n_stages; --stage != 0;) {
            const tlm_weight w = tlm_model_weight(m, m->head_tensor + TLM_HEAD_FIXED_TENSORS + stage);
            const float norm = (float)a->norms[(stage - 1u) * a->stride + row] * m->head->norm_scale[stage - 1u];
            sum += squares(&w, row);
            TLM_CHECK(TLM_ERR_FORMAT, norm * norm >= sum * spare);
        }
    }
    return TLM_OK;
}

tlm_err tlm_check_head(tlm_model *m)
{
    const tlm_head_rec *head = (const void *)m->section[TLM_SECTION_HEAD];
    tlm_head_arrays arrays;
    if (head == NULL) {
        return TLM_OK;
    }
    TLM_CHECK(TLM_ERR_FORMAT, m->section_bytes[TLM_SECTION_HEAD] >= sizeof *head);
    TLM_CHECK(TLM_ERR_FORMAT, head->n_stages >= 1u && head->n_stages <= TLM_MAX_HEAD_STAGES &&
                                  head->n_stages + TLM_HEAD_FIXED_TENSORS < m->n_tensors);
    TLM_CHECK(TLM_ERR_FORMAT, zero_between(head->reserved, head->norm_scale));
    TLM_CHECK(TLM_ERR_FORMAT, tlm_bits(head->bias_scale) <= MAX_BIAS_SCALE_BITS);
    for (uint32_t k = 0; k < TLM_MAX_HEAD_STAGES; k++) {
        const bool used = k + 1u < head->n_stages; /* a finite float >= +0; +0 where it means nothing */
        TLM_CHECK(TLM_ERR_FORMAT, tlm_bits(head->norm_scale[k]) < (used ? TLM_INF_BITS : 1u));
    }
    m->head = head;
    m->head_tensor = m->n_tensors - TLM_HEAD_FIXED_TENSORS - head->n_stages;
    tlm_head_arrays_of(m, &arrays);
    TLM_CHECK(TLM_ERR_FORMAT, m->section_bytes[TLM_SECTION_HEAD] == arrays.bytes);
    TLM_TRY(check_tensors(m));
    TLM_TRY(check_arrays(m, &arrays));
    return check_norms(m, &arrays);
}
