/* Attention in the order of NUMERICS.md, rules 16 and 17, for any element type. */
#include "tlm_k_ref_attn.h"
#include "tlm_math.h"

/* These kernels take one row of floats and a head's codes. What the esp32s3 kernels take is asked for, so that a session
 * planned on a desk has the size that it has on the chip. */
size_t tlm_k_ref_attn_scratch(uint32_t context, uint32_t head_dim)
{
    const uint32_t rows = head_dim > 32u ? 5u : 3u;
    return ((size_t)tlm_round_up(context, TLM_BLOCK) * rows + TLM_BLOCK + 8u) * sizeof(float) + TLM_BLOCK + head_dim + 2u;
}

static const void *region(const tlm_attn *a, uint32_t position, size_t offset)
{
    return (const uint8_t *)a->pages[position / TLM_PAGE] + offset;
}

static float scale_at(const tlm_attn *a, uint32_t position, size_t offset)
{
    return tlm_from_bf16(((const uint16_t *)region(a, position, offset))[position % TLM_PAGE]);
}

/* Scores to e = exp(score - max), and 1/Z. false: a score is not finite. */
static bool softmax(float *e, uint32_t n, float *inv_z)
{
    if (tlm_absmax_bits(e, n) >= TLM_INF_BITS) {
        return false;
    }
    float m = e[0];
    for (uint32_t t = 1; t < n; t++) {
        m = e[t] > m ? e[t] : m;
    }
    for (uint32_t t = 0; t < n; t++) {
        e[t] = tlm_exp(e[t] - m);
    }
    *inv_z = 1.0f / tlm_sum8(e, n);
    return true;
}

static void scale_row(float *out, uint32_t n, float by)
{
    for (uint32_t d = 0; d < n; d++) {
        out[d] = out[d] * by;
    }
}

bool tlm_k_ref_attn_exact(const tlm_attn *a, tlm_k_ref_score_fn *score, tlm_k_ref_mix_fn *mix)
{
    float *e = (float *)a->scratch;
    const uint32_t share = a->n_heads / a->n_kv_heads;
    for (uint32_t h = a->head0; h < a->head1; h++) {
        const float *q = a->q + (size_t)h * a->head_dim;
        float *out = a->out + (size_t)h * a->head_dim;
        float inv_z;
        for (uint32_t t = a->first; t <= a->last; t++) {
            e[t - a->first] = score(q, region(a, t, a->k), h / share, a->head_dim, t % TLM_PAGE) * a->scale;
        }
        if (!softmax(e, a->last - a->first + 1u, &inv_z)) {
            return false;
        }
        for (uint32_t t = a->first; t <= a->last; t++) {
            mix(out, e[t - a->first], region(a, t, a->v), h / share, a, t % TLM_PAGE, t == a->first);
        }
        scale_row(out, a->head_dim, inv_z);
    }
    return true;
}

/* Positions t0..t1-1, all of one block of 32 absolute positions, added to out (rule 17). e belongs to t0. */
static bool mix_block(const tlm_attn *a, tlm_k_ref_mix_codes_fn *mix, uint32_t kv, const float *e, uint32_t t0,
                      uint32_t t1, float *out)
{
    float w[TLM_BLOCK], scale;
    int8_t codes[TLM_BLOCK];
    for (uint32_t t = t0; t < t1; t++) {
        w[t - t0] = e[t - t0] * scale_at(a, t, a->vs);
    }
    if (!tlm_quantise(w, t1 - t0, 0.0f, codes, &scale)) {
        return false;
    }
    for (uint32_t d = 0; d < a->head_dim; d++) {
        int32_t sum = 0;
        for (uint32_t t = t0; t < t1;) {
            const uint32_t end = tlm_min_u32(t1, (t / TLM_PAGE + 1u) * TLM_PAGE);
            sum += mix(codes + (t - t0), region(a, t, a->v), kv, a->head_dim, d, t % TLM_PAGE,
                       t % TLM_PAGE + (end - t));
            t = end;
        }
        const float part = (float)sum * scale;
        out[d] = t0 == a->first ? part : out[d] + part;
    }
    return true;
}

static bool coded_head(const tlm_attn *a, tlm_k_ref_score_codes_fn *score, tlm_k_ref_mix_codes_fn *mix, uint32_t h)
{
    const uint32_t kv = h / (a->n_heads / a->n_kv_heads), n = a->last - a->first + 1u;
    float *e = (float *)a->scratch, *out = a->out + (size_t)h * a->head_dim;
    int8_t *q = (int8_t *)(e + tlm_round_up(n, 16u));
    float q_scale, inv_z;
    if (!tlm_quantise(a->q + (size_t)h * a->head_dim, a->head_dim, 0.0f, q, &q_scale)) {
        return false;
    }
    const float qa = q_scale * a->scale;
    for (uint32_t t = a->first; t <= a->last; t++) {
        const int32_t sum = score(q, region(a, t, a->k), kv, a->head_dim, t % TLM_PAGE);
        e[t - a->first] = (float)sum * (qa * scale_at(a, t, a->ks));
    }
    if (!softmax(e, n, &inv_z)) {
        return false;
    }
    for (uint32_t t = a->first; t <= a->last;) {
        const uint32_t end = tlm_min_u32(a->last + 1u, (t / TLM_BLOCK + 1u) * TLM_BLOCK);
        if (!mix_block(a, mix, kv, e + (t - a->first), t, end, out)) {
            return false;
        }
        t = end;
    }
    scale_row(out, a->head_dim, inv_z);
    return true;
}

bool tlm_k_ref_attn_coded(const tlm_attn *a, tlm_k_ref_score_codes_fn *score, tlm_k_ref_mix_codes_fn *mix)
{
    for (uint32_t h = a->head0; h < a->head1; h++) {
        if (!coded_head(a, score, mix, h)) {
            return false;
        }
    }
    return true;
}
