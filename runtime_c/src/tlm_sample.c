/* The sampler: a heap of the best candidates while logits stream by, then NUMERICS rules 21-24. */
#include <string.h>

#include "tlm_math.h"
#include "tlm_model.h"

/* ---- PCG32 XSH-RR (rule 23) ---- */

static uint32_t pcg32_next(uint64_t *state)
{
    const uint64_t old = *state;
    *state = old * 6364136223846793005u + (54u << 1 | 1u);
    const uint32_t mixed = (uint32_t)((old >> 18 ^ old) >> 27);
    const uint32_t rot = (uint32_t)(old >> 59);
    return mixed >> rot | mixed << (-rot & 31u);
}

static uint64_t pcg32_init(uint64_t seed)
{
    uint64_t state = 0;
    pcg32_next(&state);
    state += seed;
    pcg32_next(&state);
    return state;
}

/* ---- parameters ---- */

/* Comparisons with NaN are false: each condition refuses it. */
bool tlm_sampling_valid(const tlm_sampling *p)
{
    const uint32_t t = tlm_bits(p->temperature);
    return (t == 0 || (t >= 0x00800000u && t < TLM_INF_BITS)) && p->top_k <= TLM_MAX_CANDIDATES && p->top_p > 0.0f &&
           p->top_p <= 1.0f && p->min_p >= 0.0f && p->min_p < 1.0f && p->repeat_penalty >= 1.0f &&
           tlm_bits(p->repeat_penalty) < TLM_INF_BITS && p->repeat_window <= TLM_MAX_REPEAT;
}

void tlm_sampling_default(tlm_sampling *p, const tlm_model *m)
{
    memset(p, 0, sizeof *p);
    p->top_p = 1.0f;
    p->repeat_penalty = 1.0f;
    if (m != NULL && m->chat != NULL) {
        p->temperature = m->chat->temperature;
        p->top_k = m->chat->top_k;
        p->top_p = m->chat->top_p;
        p->min_p = m->chat->min_p;
        p->repeat_penalty = m->chat->repeat_penalty;
        p->repeat_window = m->chat->repeat_window;
    }
}

tlm_err tlm_sampler_init(tlm_sampler *s, const tlm_sampling *params)
{
    TLM_CHECK(TLM_ERR_ARG, s != NULL && params != NULL && tlm_sampling_valid(params));
    memset(s, 0, sizeof *s);
    s->params = *params;
    s->rng = pcg32_init(params->seed);
    s->cap = params->top_k == 0 ? TLM_MAX_CANDIDATES : params->top_k;
    return TLM_OK;
}

void tlm_sampler_accept(tlm_sampler *s, uint32_t id)
{
    const uint32_t window = s->params.repeat_window;
    if (window == 0) {
        return;
    }
    s->recent[s->recent_at] = id;
    s->recent_at = s->recent_at + 1u == window ? 0 : s->recent_at + 1u;
    s->n_recent = tlm_min_u32(s->n_recent + 1u, window);
}

/* ---- the heap: the candidate that ranks last at the root ---- */

/* Rule 21 as one number: the larger ranks first. The bits of a float ordered as integers, +0 for -0, then the lower id. */
static uint64_t rank_of(float l, uint32_t id)
{
    const uint32_t u = tlm_bits(l + 0.0f);
    return (uint64_t)(u >> 31 != 0 ? ~u : u | 0x80000000u) << 32 | ~id;
}

static float logit_of(uint64_t rank)
{
    const uint32_t order = (uint32_t)(rank >> 32);
    return tlm_float(order >> 31 != 0 ? order & TLM_ABS_MASK : ~order);
}

static uint32_t id_of(uint64_t rank)
{
    return ~(uint32_t)rank;
}

static void put(tlm_sampler *s, uint32_t at, uint64_t rank, float raw)
{
    s->rank[at] = rank;
    s->raw[at] = raw;
}

/* A candidate comes in at `at` of a heap of n and sinks to its place. */
static void sift_down(tlm_sampler *s, uint32_t n, uint32_t at, uint64_t rank, float raw)
{
    for (uint32_t child = 2u * at + 1u; child < n; child = 2u * at + 1u) {
        child += child + 1u < n && s->rank[child + 1u] < s->rank[child];
        if (rank <= s->rank[child]) {
            break;
        }
        put(s, at, s->rank[child], s->raw[child]);
        at = child;
    }
    put(s, at, rank, raw);
}

static void sift_up(tlm_sampler *s, uint32_t at, uint64_t rank, float raw)
{
    while (at != 0 && rank < s->rank[(at - 1u) / 2u]) {
        put(s, at, s->rank[(at - 1u) / 2u], s->raw[(at - 1u) / 2u]);
        at = (at - 1u) / 2u;
    }
    put(s, at, rank, raw);
}

static float penalised(const tlm_sampler *s, uint32_t id, float l)
{
    for (uint32_t i = 0; i < s->n_recent; i++) {
        if (s->recent[i] == id) {
            return l > 0.0f ? l / s->params.repeat_penalty : l * s->params.repeat_penalty;
        }
    }
    return l;
}

/* An id whose plain logit would enter the heap. A penalty only lowers it. */
static tlm_err offer(tlm_sampler *s, uint32_t id, float raw)
{
    if (s->allowed != NULL && !s->allowed(s->allowed_ctx, id)) {
        return TLM_OK;
    }
    const float l = penalised(s, id, raw);
    const uint64_t rank = rank_of(l, id);
    TLM_CHECK(TLM_ERR_NUMERIC, (tlm_bits(l) & TLM_ABS_MASK) < TLM_INF_BITS);
    if (s->n < s->cap) {
        sift_up(s, s->n++, rank, raw);
    } else if (rank > s->rank[0]) {
        sift_down(s, s->n, 0, rank, raw);
    } else {
        return TLM_OK;
    }
    s->bar = logit_of(s->rank[0]);
    return TLM_OK;
}

/* Rule 24 over the whole vocabulary, as it streams. */
static void add_to_all(tlm_sampler *s, uint32_t row0, uint32_t rows, const float *logits)
{
    float m = row0 == 0 ? logits[0] : s->all_max, z = row0 == 0 ? 0.0f : s->all_sum;
    for (uint32_t i = 0; i < rows; i++) {
        if (logits[i] > m) {
            z = z * tlm_exp(m - logits[i]) + 1.0f;
            m = logits[i];
        } else {
            z = z + tlm_exp(logits[i] - m);
        }
    }
    s->all_max = m;
    s->all_sum = z;
}

enum { STRIDE = 16 }; /* logits that are looked at together */

/* Does one of STRIDE logits rank before the root of a full heap? Ids rise, so an equal one does not. "Not below" lets
 * a NaN through, to be refused. Without a branch, so that compilers use vectors. */
static bool any_above(const float *logits, float root)
{
    uint32_t above = 0;
    for (uint32_t i = 0; i < STRIDE; i++) {
        above |= !(logits[i] <= root);
    }
    return above != 0;
}

static tlm_err sampler_rows(void *ctx, uint32_t index, uint32_t row0, uint32_t rows, const float *logits)
{
    tlm_sampler *s = ctx;
    if (row0 == 0) {
        s->n = 0;
        s->index = index;
    }
    TLM_CHECK(TLM_ERR_ARG, index == s->index); /* rows of two tokens would mix */
    for (uint32_t at = 0; at < rows; at += STRIDE) {
        const uint32_t end = tlm_min_u32(rows, at + STRIDE);
        if (s->n == s->cap && end - at == STRIDE && !any_above(logits + at, s->bar)) {
            continue;
        }
        for (uint32_t i = at; i < end; i++) {
            if (s->n < s->cap || !(logits[i] <= s->bar)) {
                TLM_TRY(offer(s, row0 + i, logits[i]));
            }
        }
    }
    if (s->want_all_logprob) {
        add_to_all(s, row0, rows, logits);
    }
    return TLM_OK;
}

/* Tokens that a certified head could not leave out, in any order. */
static tlm_err sampler_best(void *ctx, uint32_t index, const uint32_t *ids, const float *logits, uint32_t n, float *bar)
{
    tlm_sampler *s = ctx;
    if (n == 0) {
        s->n = 0;
        s->index = index;
    }
    TLM_CHECK(TLM_ERR_ARG, index == s->index);
    for (uint32_t i = 0; i < n; i++) {
        TLM_TRY(offer(s, ids[i], logits[i]));
    }
    *bar = s->n < s->cap ? tlm_float(TLM_MINUS_INF_BITS) : s->bar;
    return TLM_OK;
}

tlm_sink tlm_sampler_sink(tlm_sampler *s)
{
    const tlm_sink sink = {sampler_rows, s, s->want_all_logprob ? NULL : sampler_best};
    s->n = 0;
    return sink;
}

/* ---- the draw ---- */

/* Best candidate first. */
static void sort(tlm_sampler *s)
{
    for (uint32_t n = s->n; n > 1u; n--) {
        const uint64_t rank = s->rank[n - 1u];
        const float raw = s->raw[n - 1u];
        put(s, n - 1u, s->rank[0], s->raw[0]);
        sift_down(s, n - 1u, 0, rank, raw);
    }
}

/* Rule 22 after top-k: the place of the drawn candidate in rank order. Weights fall, so that min-p and top-p keep a
 * prefix. */
static uint32_t draw(tlm_sampler *s)
{
    const float inv_t = 1.0f / s->params.temperature, best = logit_of(s->rank[0]);
    float total = 0.0f, sum = 0.0f;
    uint32_t n = 0;
    for (; n < s->n; n++) {
        s->weight[n] = tlm_exp((logit_of(s->rank[n]) - best) * inv_t);
        if (s->weight[n] < s->params.min_p) {
            break;
        }
        total = n == 0 ? s->weight[0] : total + s->weight[n];
    }
    uint32_t kept = 0;
    do {
        sum = kept == 0 ? s->weight[0] : sum + s->weight[kept];
        kept++;
    } while (kept < n && !(sum >= s->params.top_p * total));

    const float u = (float)(pcg32_next(&s->rng) >> 8) * 0x1p-24f;
    const float target = u * sum;
    float prefix = 0.0f;
    for (uint32_t i = 0; i < kept; i++) {
        prefix = i == 0 ? s->weight[0] : prefix + s->weight[i];
        if (prefix > target) {
            return i;
        }
    }
    return kept - 1u;
}

/* log of the sum of exp(l - l_max) over the candidates (rule 24). */
static float log_total(const tlm_sampler *s)
{
    const float best = logit_of(s->rank[0]);
    float z = 1.0f;
    for (uint32_t i = 1; i < s->n; i++) {
        z = z + tlm_exp(logit_of(s->rank[i]) - best);
    }
    return tlm_log(z);
}

tlm_err tlm_sample(tlm_sampler *s, tlm_choice *choice)
{
    TLM_CHECK(TLM_ERR_ARG, s != NULL && choice != NULL && s->n != 0);
    sort(s);
    const uint32_t at = s->params.temperature > 0.0f ? draw(s) : 0;
    choice->id = id_of(s->rank[at]);
    choice->logprob = (logit_of(s->rank[at]) - logit_of(s->rank[0])) - log_total(s);
    choice->logprob_all = s->want_all_logprob ? (s->raw[at] - s->all_max) - tlm_log(s->all_sum) : 0.0f;
    choice->candidates = s->n;
    s->n = 0; /* the heap is sorted now: a second draw needs a second sink */
    tlm_sampler_accept(s, choice->id);
    return TLM_OK;
}
