/* Rule 17 over i8 and i4 caches: integer products and the steps of the softmax in assembly, their order here.
 *
 * Scores, scales and weights of a call stand in rows of floats that begin at a multiple of 32 positions. */
#include "tlm_k_s3.h"
#include "tlm_math.h"

enum { Q_PAD = 2, LANES = 8, QUAD = 4, I8_DIMS = 32, I4_DIMS = 512 };

typedef struct coded {
    void (*score)(const tlm_k_s3_score *args);
    void (*mix)(const int8_t *w, const int8_t *v0, const int8_t *v1, uint32_t dims, const float *scale, float *out);
    uint32_t dims_a_byte;
    uint32_t max_dims; /* of one call of score */
} coded;

typedef struct span {
    const tlm_attn *a;
    const coded *kind;
    float *e;           /* [count + LANES] */
    float *ks, *vs;     /* [count] */
    float *ones, *part; /* [count]; for heads of more dims than a call takes */
    float *w;           /* [TLM_BLOCK] */
    int8_t *codes;      /* [TLM_BLOCK] */
    int8_t *q;          /* [head_dim + Q_PAD] */
    uint32_t base;      /* position of element 0 */
    uint32_t count, skip, n; /* elements of whole pages; those before the window; those in it */
} span;

size_t tlm_k_s3_attn_scratch(uint32_t context, uint32_t head_dim)
{
    const uint32_t rows = head_dim > I8_DIMS ? 5u : 3u;
    const size_t floats = (size_t)tlm_round_up(context, TLM_BLOCK) * rows + LANES + TLM_BLOCK;
    const size_t ours = floats * sizeof(float) + TLM_BLOCK + head_dim + Q_PAD;
    const size_t ref = tlm_k_ref_attn_scratch(context, head_dim);
    return ours > ref ? ours : ref;
}

static span span_of(const tlm_attn *a, const coded *kind)
{
    span s;
    s.a = a;
    s.kind = kind;
    s.base = a->first & ~(TLM_BLOCK - 1u);
    s.skip = a->first - s.base;
    s.n = a->last - a->first + 1u;
    s.count = tlm_round_up(s.skip + s.n, TLM_PAGE);
    s.e = (float *)a->scratch;
    s.ks = s.e + s.count + LANES;
    s.vs = s.ks + s.count;
    s.ones = s.vs + s.count;
    s.part = s.ones + s.count;
    s.w = a->head_dim > kind->max_dims ? s.part + s.count : s.ones;
    s.codes = (int8_t *)(s.w + TLM_BLOCK);
    s.q = s.codes + TLM_BLOCK;
    return s;
}

static void fill(float *x, uint32_t from, uint32_t to, float value)
{
    while (from < to) {
        x[from++] = value;
    }
}

/* bf16 scales to floats, 0 outside of the window: what stands there among the scores counts for nothing. */
static void scales(const span *s, size_t offset, float *out)
{
    tlm_k_s3_scales(s->a->pages + s->base / TLM_PAGE, offset, out, s->count / TLM_PAGE);
    fill(out, 0, s->skip, 0.0f);
    fill(out, s->skip + s->n, s->count, 0.0f);
}

/* Scores to e = exp(score - max), and their sum Z. false: a score is not finite. */
static bool softmax(const span *s, float *z)
{
    float *e = s->e + s->skip, top;
    const uint32_t from = s->skip / QUAD * QUAD, end = s->skip + s->n, to = tlm_round_up(end, QUAD);
    fill(s->e, from, s->skip, e[0]);
    fill(s->e, end, to, e[0]);
    const uint32_t range = tlm_k_s3_range(s->e + from, (to - from) / QUAD, &top);
    if (range == 0) {
        return false;
    }
    if (range == 1u) {
        tlm_k_s3_exp_near(s->e + from, (to - from) / QUAD, &top);
    } else {
        tlm_k_s3_exp(e, s->n, &top);
    }
    const uint32_t groups = (end - from + LANES - 1u) / LANES;
    fill(s->e, from, s->skip, 0.0f); /* rule 4's tree over the lanes is the same from any lane on, and +0 + x = x */
    fill(s->e, end, from + groups * LANES, 0.0f);
    *z = tlm_k_s3_sum8(s->e + from, groups);
    return true;
}

static bool quads(const float *x, uint32_t n)
{
    return n % QUAD == 0 && (uintptr_t)x % 16u == 0;
}

static void divide(float *x, uint32_t n, float z)
{
    if (quads(x, n)) {
        tlm_k_s3_divide(x, n / QUAD, &z);
        return;
    }
    const float inv = 1.0f / z;
    for (uint32_t i = 0; i < n; i++) {
        x[i] = x[i] * inv;
    }
}

static bool query_codes(const float *q, uint32_t dims, int8_t *codes, float *scale)
{
    if (quads(q, dims)) {
        return tlm_k_s3_query(q, codes, scale, dims / QUAD) != 0;
    }
    return tlm_quantise(q, dims, 0.0f, codes, scale);
}

/* The 32 positions from element i on, added to out; those of a page without scores have codes of 0. */
static bool mix_block(const span *s, uint32_t i, size_t head, float *out)
{
    const tlm_attn *a = s->a;
    const uint32_t page = (s->base + i) / TLM_PAGE, last = a->last / TLM_PAGE;
    const uint32_t there = tlm_min_u32(s->count - i, TLM_BLOCK);
    float scale = 0.0f;
    int32_t sum;
    tlm_k_s3_mul(s->w, s->e + i, s->vs + i, there);
    if (tlm_k_s3_quant(s->w, s->codes, &scale, &sum, there / 16u, 0) == 0) {
        return false;
    }
    if (there < TLM_BLOCK) {
        uint32_t *rest = (uint32_t *)(void *)(s->codes + TLM_PAGE);
        for (uint32_t k = 0; k < TLM_PAGE / 4u; k++) {
            rest[k] = 0;
        }
    }
    const int8_t *v0 = (const int8_t *)a->pages[page] + head;
    const int8_t *v1 = (const int8_t *)a->pages[tlm_min_u32(page + 1u, last)] + head;
    s->kind->mix(s->codes, v0, v1, a->head_dim, &scale, out);
    return true;
}

/* Scores of a head that takes several calls: sums of up to 1,024*127*127 < 2^24 are exact as floats. */
static void long_score(const span *s, tlm_k_s3_score args, float qa)
{
    const uint32_t dims = args.dims, step = s->kind->max_dims, count = s->count;
    for (uint32_t i = 0; i < count; i++) {
        s->ones[i] = 1.0f;
    }
    args.ks = s->ones;
    args.qa = 1.0f;
    for (uint32_t d = 0; d < dims; d += step) {
        args.dims = tlm_min_u32(dims - d, step);
        args.scores = d == 0 ? s->e : s->part;
        s->kind->score(&args);
        if (d != 0) {
            tlm_k_s3_add(s->e, s->part, count);
        }
        args.q += step;
        args.offset += (size_t)step / s->kind->dims_a_byte * TLM_PAGE;
    }
    for (uint32_t i = 0; i < count; i++) {
        s->e[i] = s->e[i] * (qa * s->ks[i]);
    }
}

static bool one_head(const span *s, uint32_t h)
{
    const tlm_attn *a = s->a;
    const uint32_t rows = (a->head_dim + s->kind->dims_a_byte - 1u) / s->kind->dims_a_byte;
    const size_t head = (size_t)(h / (a->n_heads / a->n_kv_heads)) * rows * TLM_PAGE;
    float *out = a->out + (size_t)h * a->head_dim, q_scale, z;
    if (!query_codes(a->q + (size_t)h * a->head_dim, a->head_dim, s->q, &q_scale)) {
        return false;
    }
    const tlm_k_s3_score score = {a->pages + s->base / TLM_PAGE, a->k + head, s->q, s->ks, s->e, a->head_dim,
                                  s->count / TLM_PAGE, q_scale * a->scale};
    if (a->head_dim > s->kind->max_dims) {
        long_score(s, score, score.qa);
    } else {
        s->kind->score(&score);
    }
    if (!softmax(s, &z)) {
        return false;
    }
    for (uint32_t d = 0; d < a->head_dim; d++) {
        out[d] = -0.0f; /* -0.0 + x = x: the sum starts with its first term */
    }
    for (uint32_t i = 0; i < s->count; i += TLM_BLOCK) {
        if (!mix_block(s, i, a->v + head, out)) {
            return false;
        }
    }
    divide(out, a->head_dim, z);
    return true;
}

static bool attend(const tlm_attn *a, const coded *kind)
{
    const span s = span_of(a, kind);
    scales(&s, a->ks, s.ks);
    scales(&s, a->vs, s.vs);
    for (uint32_t h = a->head0; h < a->head1; h++) {
        if (!one_head(&s, h)) {
            return false;
        }
    }
    return true;
}

bool tlm_k_s3_attn_i8(const tlm_attn *a)
{
    const coded kind = {tlm_k_s3_score_i8, tlm_k_s3_mix_i8, 1, I8_DIMS};
    return attend(a, &kind);
}

bool tlm_k_s3_attn_i4(const tlm_attn *a)
{
    const coded kind = {tlm_k_s3_score_i4, tlm_k_s3_mix_i4, 2, I4_DIMS};
    return attend(a, &kind);
}
