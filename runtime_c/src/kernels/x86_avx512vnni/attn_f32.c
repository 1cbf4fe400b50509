/* Attention over an f32 cache on AVX-512: scores with positions as lanes, mix with head elements as lanes. One token takes
 * its heads side by side; tokens of a batch go together through the pages of one head, which then stay in the first cache. */
#include "avx512.h"

enum { PAGE = 16, UNITS = 8 };

/* The tree of rule 4 over eight accumulators, lane by lane. */
static inline __m512 tree(const __m512 a[8])
{
    return _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(a[0], a[4]), _mm512_add_ps(a[2], a[6])),
                         _mm512_add_ps(_mm512_add_ps(a[1], a[5]), _mm512_add_ps(a[3], a[7])));
}

/* Scores of one or two queries, `stride` floats apart, for the 16 slots of a page: sum8 over the head's elements in every
 * lane (rules 4 and 16). */
static inline __attribute__((always_inline)) void page_scores(const float *q, size_t stride, uint32_t queries, const float *k,
                                                              uint32_t n, __m512 *s)
{
    __m512 a[2][8];
    TLM_UNROLL for (uint32_t i = 0; i < 8u; i++) { a[0][i] = a[1][i] = _mm512_set1_ps(-0.0f); /* -0.0 + x is x */ }
    uint32_t d = 0;
    for (; d + 8u <= n; d += 8u) {
        TLM_UNROLL for (uint32_t i = 0; i < 8u; i++) {
            const __m512 x = _mm512_loadu_ps(k + (size_t)(d + i) * PAGE);
            TLM_UNROLL for (uint32_t j = 0; j < queries; j++) {
                a[j][i] = _mm512_add_ps(a[j][i], _mm512_mul_ps(_mm512_set1_ps(q[j * stride + d + i]), x));
            }
        }
    }
    if (d < n) { /* the missing elements of the last eight are +0.0 and are added like data */
        TLM_UNROLL for (uint32_t i = 0; i < 8u; i++) {
            TLM_UNROLL for (uint32_t j = 0; j < queries; j++) {
                __m512 p = _mm512_setzero_ps();
                if (d + i < n) {
                    p = _mm512_mul_ps(_mm512_set1_ps(q[j * stride + d + i]), _mm512_loadu_ps(k + (size_t)(d + i) * PAGE));
                }
                a[j][i] = _mm512_add_ps(a[j][i], p);
            }
        }
    }
    TLM_UNROLL for (uint32_t j = 0; j < queries; j++) { s[j] = tree(a[j]); }
}

/* Slots of page p inside the window. */
static inline __mmask16 live_slots(const tlm_attn *a, uint32_t p)
{
    if (p < a->first / PAGE || p > a->last / PAGE) {
        return 0;
    }
    uint32_t live = p == a->first / PAGE ? 0xffffu << (a->first % PAGE) : 0xffffu;
    live &= p == a->last / PAGE ? 0xffffu >> (PAGE - 1u - a->last % PAGE) : 0xffffu;
    return (__mmask16)live;
}

/* Up to UNITS softmaxes side by side, of heads of a token or of tokens for a head. */
typedef struct softmaxes {
    float *e;    /* theirs, `span` apart, from the first page that any of them sees */
    size_t span; /* whole pages */
    __m512 top[UNITS];
    __m512i size; /* the greatest magnitude of all scores, lane by lane */
    float inv_z[UNITS];
} softmaxes;

static inline void start_softmaxes(softmaxes *w, const tlm_attn *a, uint32_t last)
{
    w->e = a->scratch;
    w->span = (size_t)(last / PAGE - a->first / PAGE + 1u) * PAGE;
    w->size = _mm512_setzero_si512();
}

static inline __m512 lowest(void)
{
    return _mm512_castsi512_ps(_mm512_set1_epi32((int32_t)0xff800000u));
}

/* Scores of page p from its sums, -inf outside the window; `top` and `size` collect. */
static inline __m512 scaled(const tlm_attn *a, uint32_t p, __m512 sums, __m512 *top, __m512i *size)
{
    const __mmask16 live = live_slots(a, p);
    const __m512 s = _mm512_mask_mul_ps(lowest(), live, sums, _mm512_set1_ps(a->scale));
    *size = _mm512_mask_max_epu32(*size, live, *size, tlm_magnitude16(s));
    *top = _mm512_max_ps(*top, s);
    return s;
}

/* Where a head's K starts in a page, in floats. */
static inline size_t keys_at(const tlm_attn *a, uint32_t head)
{
    return a->k / sizeof(float) + (size_t)(head / (a->n_heads / a->n_kv_heads)) * a->head_dim * PAGE;
}

/* Scores of a head over the window, for softmax r. */
static void head_scores(const tlm_attn *a, uint32_t head, softmaxes *w, uint32_t r)
{
    const uint32_t n = a->head_dim, page0 = a->first / PAGE, page1 = a->last / PAGE;
    const size_t at = keys_at(a, head);
    const float *q = a->q + (size_t)head * n;
    float *e = w->e + r * w->span;
    __m512 top = lowest(), q8[8];
    __m512i size = w->size;
    TLM_UNROLL for (uint32_t i = 0; i < 8u; i++) { q8[i] = _mm512_set1_ps(i < n ? q[i] : 0.0f); }
    for (uint32_t p = page0; p <= page1; p++) {
        const float *k = (const float *)a->pages[p] + at;
        __m512 s;
        if (n == 8u) { /* the commonest head of tiny models: the query stays in registers */
            __m512 t[8];
            TLM_UNROLL for (uint32_t i = 0; i < 8u; i++) { t[i] = _mm512_mul_ps(q8[i], _mm512_loadu_ps(k + i * PAGE)); }
            s = tree(t);
        } else {
            page_scores(q, 0, 1, k, n, &s);
        }
        _mm512_storeu_ps(e + (size_t)(p - page0) * PAGE, scaled(a, p, s, &top, &size));
    }
    w->top[r] = top;
    w->size = size;
}

/* Scores to e and 1/Z for softmaxes r0..r0+n-1, softmax r of token a[r * step]. false: a score is not finite. The chains
 * of adds of Z run side by side; where a window starts at a whole eight, e's lanes are Z's lanes: e is +0.0 outside, which
 * adds nothing. */
static inline __attribute__((always_inline)) bool exponentials(const tlm_attn *a, uint32_t step, uint32_t r0, uint32_t n, softmaxes *w)
{
    if (_mm512_reduce_max_epu32(w->size) >= TLM_INF_BITS) {
        return false;
    }
    float *const e0 = w->e + r0 * w->span;
    const size_t span = w->span;
    __m256 z[UNITS];
    __m512 top[UNITS];
    TLM_UNROLL for (uint32_t r = 0; r < n; r++) {
        top[r] = _mm512_set1_ps(_mm512_reduce_max_ps(w->top[r0 + r]));
        z[r] = _mm256_set1_ps(-0.0f);
    }
    for (size_t i = 0; i < span; i += PAGE) {
        TLM_UNROLL for (uint32_t r = 0; r < n; r++) {
            const __m512 v = tlm_exp16(_mm512_sub_ps(_mm512_loadu_ps(e0 + r * span + i), top[r]));
            _mm512_storeu_ps(e0 + r * span + i, v);
            z[r] = _mm256_add_ps(_mm256_add_ps(z[r], _mm512_castps512_ps256(v)), _mm512_extractf32x8_ps(v, 1));
        }
    }
    const uint32_t skip = a->first - a->first % PAGE;
    for (uint32_t r = 0; r < n; r++) {
        const tlm_attn *token = a + (r0 + r) * step;
        const float *e = e0 + r * span + (token->first - skip);
        const bool lanes = token->first % 8u == 0;
        w->inv_z[r0 + r] = 1.0f / (lanes ? tlm_sum8_lanes(z[r]) : tlm_avx512_sum8(e, token->last - token->first + 1u));
    }
    return true;
}

/* e and 1/Z of heads h0..h1-1. */
static bool weights(const tlm_attn *a, uint32_t h0, uint32_t h1, softmaxes *w)
{
    const uint32_t n = h1 - h0;
    start_softmaxes(w, a, a->last);
    for (uint32_t r = 0; r < n; r++) {
        head_scores(a, h0 + r, w, r);
    }
    if (n == UNITS) {
        return exponentials(a, 0, 0, UNITS, w);
    }
    bool ok = true;
    for (uint32_t r = 0; r < n && ok; r++) {
        ok = exponentials(a, 0, r, 1, w);
    }
    return ok;
}

/* A unit is eight elements of one head: a chain of adds over positions. Eight chains hide the adder's latency. */
typedef struct unit {
    const float *e;
    uint32_t v;     /* element offset in a V row */
    float *out;
    float inv_z;
    __mmask8 mask;
} unit;

/* `whole`: no unit has less than eight elements; `one`: all are of one head. */
static inline __attribute__((always_inline)) void mix_units(const tlm_attn *a, const unit *u, uint32_t n_units, bool whole, bool one)
{
    const size_t row = (size_t)a->n_kv_heads * a->head_dim;
    const uint32_t skip = a->first - a->first % PAGE;
    __m256 acc[UNITS]; /* -0.0 + x is x: the first term as it is */
    TLM_UNROLL for (uint32_t i = 0; i < n_units; i++) { acc[i] = _mm256_set1_ps(-0.0f); }
    for (uint32_t t = a->first; t <= a->last; t++) {
        const float *v = (const float *)(const void *)((const char *)a->pages[t / PAGE] + a->v) + (t % PAGE) * row;
        const __m256 e = _mm256_set1_ps(u[0].e[t - skip]);
        TLM_UNROLL for (uint32_t i = 0; i < n_units; i++) {
            const __m256 x = whole ? _mm256_loadu_ps(v + u[i].v) : _mm256_maskz_loadu_ps(u[i].mask, v + u[i].v);
            acc[i] = _mm256_add_ps(acc[i], _mm256_mul_ps(one ? e : _mm256_set1_ps(u[i].e[t - skip]), x));
        }
    }
    TLM_UNROLL for (uint32_t i = 0; i < n_units; i++) {
        _mm256_mask_storeu_ps(u[i].out, u[i].mask, _mm256_mul_ps(acc[i], _mm256_set1_ps(u[i].inv_z)));
    }
}

static inline __attribute__((always_inline)) void mix_as(const tlm_attn *a, const unit *u, uint32_t n, bool whole, bool one)
{
    uint32_t i = 0;
    for (; i + UNITS <= n; i += UNITS) {
        mix_units(a, u + i, UNITS, whole, one);
    }
    for (; i + 4u <= n; i += 4u) {
        mix_units(a, u + i, 4, whole, one);
    }
    for (; i < n; i++) {
        mix_units(a, u + i, 1, whole, one);
    }
}

static void mix(const tlm_attn *a, const unit *u, uint32_t n, bool one)
{
    if (a->head_dim % 8u != 0) {
        mix_as(a, u, n, false, false);
    } else if (one) {
        mix_as(a, u, n, true, true);
    } else {
        mix_as(a, u, n, true, false);
    }
}

/* Heads in groups of eight, so that their e rows fit the scratch (attn_scratch in target.c). */
bool tlm_avx512_attn_f32(const tlm_attn *a)
{
    const bool one = a->head_dim % 32u == 0; /* four chains, or eight, in a head: mix it alone */
    unit units[UNITS];
    for (uint32_t h0 = a->head0; h0 < a->head1; h0 += UNITS) {
        const uint32_t h1 = h0 + UNITS < a->head1 ? h0 + UNITS : a->head1;
        softmaxes w;
        if (!weights(a, h0, h1, &w)) {
            return false;
        }
        uint32_t n = 0;
        for (uint32_t h = h0; h < h1; h++) {
            const uint32_t kv = h / (a->n_heads / a->n_kv_heads);
            for (uint32_t d = 0; d < a->head_dim; d += 8u) {
                const uint32_t left = a->head_dim - d;
                units[n].e = w.e + (h - h0) * w.span;
                units[n].v = kv * a->head_dim + d;
                units[n].out = a->out + (size_t)h * a->head_dim + d;
                units[n].inv_z = w.inv_z[h - h0];
                units[n].mask = tlm_tail8(left);
                if (++n == UNITS || (one && left == 8u)) {
                    mix(a, units, n, one);
                    n = 0;
                }
            }
        }
        mix(a, units, n, one);
    }
    return true;
}

/* ---- tokens of a batch together ---- */

/* Scores of a head for n tokens, an even number, page by page: each is read once. */
static void batch_scores(const tlm_attn *a, uint32_t n, size_t stride, uint32_t head, softmaxes *w)
{
    const uint32_t dim = a->head_dim, page0 = a->first / PAGE, page1 = a[n - 1u].last / PAGE;
    const size_t at = keys_at(a, head);
    for (uint32_t r = 0; r < n; r++) {
        w->top[r] = lowest();
    }
    for (uint32_t p = page0; p <= page1; p++) {
        const float *k = (const float *)a->pages[p] + at;
        for (uint32_t r = 0; r < n; r += 2u) {
            __m512 s[2];
            page_scores(a[r].q + (size_t)head * dim, stride, 2, k, dim, s);
            for (uint32_t i = 0; i < 2u; i++) {
                float *e = w->e + (r + i) * w->span + (size_t)(p - page0) * PAGE;
                _mm512_storeu_ps(e, scaled(&a[r + i], p, s[i], &w->top[r + i], &w->size));
            }
        }
    }
}

/* One or two vectors of 16 elements of a head, for n tokens; `mask` is of a single one. */
typedef struct tile {
    const tlm_attn *a;
    const softmaxes *w;
    size_t v; /* element offset in a V row */
    __mmask16 mask;
} tile;

/* Positions from..to-1 in rising order. `edge`: some tokens do not see them. */
static inline __attribute__((always_inline)) void mix_positions(const tile *u, uint32_t n, uint32_t vectors, uint32_t from, uint32_t to,
                                                                bool edge, __m512 acc[UNITS][2])
{
    const tlm_attn *a = u->a;
    const size_t row = (size_t)a->n_kv_heads * a->head_dim;
    const float *e = u->w->e - (a->first - a->first % PAGE);
    for (uint32_t t = from; t < to; t++) {
        const float *v = (const float *)(const void *)((const char *)a->pages[t / PAGE] + a->v) + (t % PAGE) * row + u->v;
        __m512 x[2];
        TLM_UNROLL for (uint32_t i = 0; i < vectors; i++) {
            x[i] = vectors == 1u ? _mm512_maskz_loadu_ps(u->mask, v) : _mm512_loadu_ps(v + 16u * i);
        }
        TLM_UNROLL for (uint32_t r = 0; r < n; r++) {
            const __m512 w = _mm512_set1_ps(e[r * u->w->span + t]);
            const __mmask16 sees = (__mmask16)(edge && (t < a[r].first || t > a[r].last) ? 0u : 0xffffu);
            TLM_UNROLL for (uint32_t i = 0; i < vectors; i++) {
                acc[r][i] = _mm512_mask_add_ps(acc[r][i], sees, acc[r][i], _mm512_mul_ps(w, x[i]));
            }
        }
    }
}

static inline __attribute__((always_inline)) void mix_tile(const tile *u, uint32_t n, uint32_t vectors, size_t out)
{
    const tlm_attn *a = u->a;
    __m512 acc[UNITS][2]; /* -0.0 + x is x: the first term as it is */
    TLM_UNROLL for (uint32_t r = 0; r < n; r++) { acc[r][0] = acc[r][1] = _mm512_set1_ps(-0.0f); }
    const uint32_t all0 = a[n - 1u].first, all1 = a->last + 1u > all0 ? a->last + 1u : all0; /* what all tokens see */
    mix_positions(u, n, vectors, a->first, all0, true, acc);
    mix_positions(u, n, vectors, all0, all1, false, acc);
    mix_positions(u, n, vectors, all1, a[n - 1u].last + 1u, true, acc);
    TLM_UNROLL for (uint32_t r = 0; r < n; r++) {
        TLM_UNROLL for (uint32_t i = 0; i < vectors; i++) {
            const __m512 y = _mm512_mul_ps(acc[r][i], _mm512_set1_ps(u->w->inv_z[r]));
            _mm512_mask_storeu_ps(a[r].out + out + 16u * i, vectors == 1u ? u->mask : (__mmask16)0xffffu, y);
        }
    }
}

/* One head, n tokens. */
static inline __attribute__((always_inline)) bool attend_together(const tlm_attn *a, uint32_t n, size_t stride, uint32_t head)
{
    const uint32_t dim = a->head_dim, kv = head / (a->n_heads / a->n_kv_heads);
    softmaxes w;
    start_softmaxes(&w, a, a[n - 1u].last);
    batch_scores(a, n, stride, head, &w);
    if (!exponentials(a, 1, 0, n, &w)) {
        return false;
    }
    for (uint32_t d = 0; d < dim;) {
        const tile u = {a, &w, (size_t)kv * dim + d, tlm_tail16(dim - d)};
        const size_t out = (size_t)head * dim + d;
        if (dim - d >= 32u) {
            mix_tile(&u, n, 2, out);
            d += 32u;
        } else {
            mix_tile(&u, n, 1, out);
            d += 16u;
        }
    }
    return true;
}

/* Eight tokens or four for each head; what is left one by one. */
bool tlm_avx512_attn_batch_f32(const tlm_attn *a, uint32_t n, uint32_t window, uint32_t stride)
{
    tlm_attn tokens[UNITS];
    for (uint32_t b = 0; b < n;) {
        const uint32_t left = n - b, now = left >= UNITS ? UNITS : left >= 4u ? 4u : 1u;
        for (uint32_t r = 0; r < now; r++) {
            tokens[r] = *a;
            tokens[r].q += (size_t)(b + r) * stride;
            tokens[r].out += (size_t)(b + r) * stride;
            tokens[r].last += b + r;
            tokens[r].first = tlm_window_first(tokens[r].last, window);
        }
        if (now == 1u && !tlm_avx512_attn_f32(tokens)) {
            return false;
        }
        for (uint32_t h = a->head0; h < a->head1 && now > 1u; h++) {
            if (!(now == UNITS ? attend_together(tokens, UNITS, stride, h) : attend_together(tokens, 4, stride, h))) {
                return false;
            }
        }
        b += now;
    }
    return true;
}
