/* Does the architecture hold together: sizes, and for each role a tensor of the right type and shape. */
#include "tlm_math.h"
#include "tlm_model.h"

static bool within(uint32_t value, uint32_t most)
{
    return value >= 1u && value <= most;
}

static bool is_finite(float x)
{
    return (tlm_bits(x) & TLM_ABS_MASK) < TLM_INF_BITS;
}

tlm_err tlm_check_spec(tlm_model *m)
{
    const tlm_spec_rec *s = (const void *)m->section[TLM_SECTION_SPEC];
    TLM_CHECK(TLM_ERR_FORMAT, m->section_bytes[TLM_SECTION_SPEC] >= sizeof *s);
    TLM_CHECK(TLM_ERR_LIMIT, within(s->dim, TLM_MAX_DIM) && within(s->n_layers, TLM_MAX_LAYERS) &&
                                 within(s->n_heads, TLM_MAX_HEADS) && within(s->head_dim, TLM_MAX_HEAD_DIM) &&
                                 within(s->n_heads * s->head_dim, TLM_MAX_DIM) && within(s->vocab, TLM_MAX_VOCAB) &&
                                 within(s->context, TLM_MAX_CONTEXT));
    TLM_CHECK(TLM_ERR_FORMAT, m->section_bytes[TLM_SECTION_SPEC] == sizeof *s + s->n_layers * sizeof(tlm_layer_rec));
    TLM_CHECK(TLM_ERR_FORMAT, s->norm_kind < TLM_NORM_KIND_COUNT && s->pos_kind < TLM_POS_KIND_COUNT &&
                                  s->act < TLM_ACT_COUNT && s->input_quant < TLM_INPUT_QUANT_COUNT);
    TLM_CHECK(TLM_ERR_FORMAT, is_finite(s->norm_eps) && s->norm_eps >= 0.0f);
    TLM_CHECK(TLM_ERR_FORMAT, is_finite(s->attn_scale) && s->attn_scale > 0.0f);
    TLM_CHECK(TLM_ERR_FORMAT, s->rope_dims % 2u == 0 && s->rope_dims <= s->head_dim);
    TLM_CHECK(TLM_ERR_FORMAT, (s->rope_dims != 0) == (s->pos_kind == TLM_POS_KIND_ROPE));
    TLM_CHECK(TLM_ERR_FORMAT, s->reserved_id == 0);
    m->spec = s;
    m->layers = (const void *)(s + 1);
    return TLM_OK;
}

/* ---- roles ---- */

enum { OPTIONAL = 1, REQUIRED = 2, ABSENT = 4 };

static tlm_err check_shape(const tlm_model *m, uint32_t id, uint32_t rows, uint32_t cols)
{
    TLM_CHECK(TLM_ERR_FORMAT, id < m->n_tensors);
    TLM_CHECK(TLM_ERR_FORMAT, m->tensors[id].rows == rows && m->tensors[id].cols == cols);
    return TLM_OK;
}

static tlm_err check_matrix(const tlm_model *m, uint32_t id, uint32_t rows, uint32_t cols)
{
    TLM_TRY(check_shape(m, id, rows, cols));
    TLM_CHECK(TLM_ERR_FORMAT, m->tensors[id].type != TLM_TENSOR_TYPE_U32);
    return TLM_OK;
}

static tlm_err check_typed(const tlm_model *m, int need, uint32_t id, uint32_t rows, uint32_t cols, uint8_t type)
{
    if (id == TLM_NO_TENSOR) {
        return need == REQUIRED ? TLM_ERR_FORMAT : TLM_OK;
    }
    TLM_CHECK(TLM_ERR_FORMAT, need != ABSENT);
    TLM_TRY(check_shape(m, id, rows, cols));
    TLM_CHECK(TLM_ERR_FORMAT, m->tensors[id].type == type);
    return TLM_OK;
}

static tlm_err check_vector(const tlm_model *m, int need, uint32_t id, uint32_t cols)
{
    return check_typed(m, need, id, 1, cols, TLM_TENSOR_TYPE_F32);
}

/* A bias belongs to a norm. */
static tlm_err check_norm(const tlm_model *m, uint32_t gain, uint32_t bias)
{
    TLM_TRY(check_vector(m, OPTIONAL, gain, m->spec->dim));
    return check_vector(m, gain == TLM_NO_TENSOR ? ABSENT : OPTIONAL, bias, m->spec->dim);
}

static tlm_err check_linear(const tlm_model *m, uint32_t weight, uint32_t bias, uint32_t rows, uint32_t cols)
{
    TLM_TRY(check_matrix(m, weight, rows, cols));
    return check_vector(m, OPTIONAL, bias, rows);
}

/* What evens out the cached keys: scales that neither vanish nor explode. */
static tlm_err check_keys(const tlm_model *m, const tlm_layer_rec *l, uint32_t kv_dim)
{
    const float most = (float)TLM_KEY_SCALE_MAX;
    TLM_TRY(check_typed(m, OPTIONAL, l->k_range, 2, kv_dim, TLM_TENSOR_TYPE_F32));
    const float *range = tlm_model_vector(m, l->k_range);
    for (uint32_t i = 0; range != NULL && i < kv_dim; i++) {
        const float scale = range[tlm_padded(kv_dim) + i];
        TLM_CHECK(TLM_ERR_WEIGHTS, scale >= 1.0f / most && scale <= most);
    }
    return check_typed(m, OPTIONAL, l->k_feedback, m->spec->head_dim, kv_dim, TLM_TENSOR_TYPE_Q4_0);
}

static tlm_err check_layer(const tlm_model *m, const tlm_layer_rec *l)
{
    const uint32_t dim = m->spec->dim, q_dim = m->spec->n_heads * m->spec->head_dim;
    const bool gated = l->ffn_kind == TLM_FFN_KIND_GATED;
    TLM_CHECK(TLM_ERR_FORMAT, l->ffn_kind < TLM_FFN_KIND_COUNT);
    TLM_CHECK(TLM_ERR_FORMAT, (l->reserved[0] | l->reserved[1] | l->reserved[2]) == 0);
    TLM_CHECK(TLM_ERR_LIMIT, within(l->ffn_dim, TLM_MAX_TERNARY_COLS));
    TLM_CHECK(TLM_ERR_FORMAT, within(l->n_kv_heads, m->spec->n_heads) && m->spec->n_heads % l->n_kv_heads == 0);
    const uint32_t kv_dim = l->n_kv_heads * m->spec->head_dim;
    TLM_TRY(check_norm(m, l->attn_norm, l->attn_norm_bias));
    TLM_TRY(check_linear(m, l->wq, l->bq, q_dim, dim));
    TLM_TRY(check_linear(m, l->wk, l->bk, kv_dim, dim));
    TLM_TRY(check_keys(m, l, kv_dim));
    TLM_TRY(check_linear(m, l->wv, l->bv, kv_dim, dim));
    TLM_TRY(check_vector(m, OPTIONAL, l->attn_sub_norm, q_dim));
    TLM_TRY(check_linear(m, l->wo, l->bo, dim, q_dim));
    TLM_TRY(check_norm(m, l->ffn_norm, l->ffn_norm_bias));
    if (gated) {
        TLM_TRY(check_linear(m, l->w_gate, l->b_gate, l->ffn_dim, dim));
    } else {
        TLM_CHECK(TLM_ERR_FORMAT, l->w_gate == TLM_NO_TENSOR && l->b_gate == TLM_NO_TENSOR);
    }
    TLM_TRY(check_linear(m, l->w_up, l->b_up, l->ffn_dim, dim));
    TLM_TRY(check_vector(m, OPTIONAL, l->ffn_sub_norm, l->ffn_dim));
    return check_linear(m, l->w_down, l->b_down, dim, l->ffn_dim);
}

/* ---- order ---- */

/* Tensor records stand in reading order: each id that is there is the next one. */
static bool in_order(const void *rec, size_t offset, uint32_t n, uint32_t *next)
{
    const uint16_t *ids = (const void *)((const uint8_t *)rec + offset);
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] != TLM_NO_TENSOR && ids[i] != (*next)++) {
            return false;
        }
    }
    return true;
}

/* The tensor ids of a record are neighbours, in reading order (schema.py). */
static bool all_in_order(const tlm_model *m)
{
    const tlm_spec_rec *s = m->spec;
    const size_t ids_at = offsetof(tlm_layer_rec, attn_norm);
    uint32_t next = 0;
    bool ok = in_order(s, offsetof(tlm_spec_rec, tok_embed), 3, &next);
    for (uint32_t i = 0; i < s->n_layers; i++) {
        ok = in_order(&m->layers[i], ids_at, (uint32_t)((sizeof *m->layers - ids_at) / sizeof(uint16_t)), &next) && ok;
    }
    ok = in_order(s, offsetof(tlm_spec_rec, final_norm), 2, &next) && ok;
    if (m->head != NULL) {
        const bool alone = s->head == TLM_NO_TENSOR && s->head_bias == TLM_NO_TENSOR && m->head_tensor == next;
        return ok && alone && next + TLM_HEAD_FIXED_TENSORS + m->head->n_stages == m->n_tensors;
    }
    const bool tied = s->head == s->tok_embed;
    const size_t head_at = tied ? offsetof(tlm_spec_rec, head_bias) : offsetof(tlm_spec_rec, head);
    ok = in_order(s, head_at, tied ? 1 : 2, &next) && ok;
    return ok && next == m->n_tensors;
}

tlm_err tlm_check_layers(const tlm_model *m)
{
    const tlm_spec_rec *s = m->spec;
    TLM_CHECK(TLM_ERR_FORMAT, all_in_order(m));
    TLM_TRY(check_matrix(m, s->tok_embed, s->vocab, s->dim));
    TLM_TRY(check_typed(m, s->pos_kind == TLM_POS_KIND_LEARNED ? REQUIRED : ABSENT, s->pos_embed, s->context, s->dim,
                        TLM_TENSOR_TYPE_F32));
    TLM_TRY(check_typed(m, s->pos_kind == TLM_POS_KIND_ROPE ? REQUIRED : ABSENT, s->rope_turns, 1, s->rope_dims / 2u,
                        TLM_TENSOR_TYPE_U32));
    TLM_TRY(check_norm(m, s->final_norm, s->final_norm_bias));
    if (m->head == NULL) {
        TLM_TRY(check_linear(m, s->head, s->head_bias, s->vocab, s->dim));
    }
    for (uint32_t i = 0; i < s->n_layers; i++) {
        TLM_TRY(check_layer(m, &m->layers[i]));
    }
    return TLM_OK;
}
