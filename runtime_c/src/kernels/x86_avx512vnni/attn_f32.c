/* Attention over an f32 cache on AVX-512: scores with positions as lanes, mix with head elements as lanes. */
#include "avx512.h"

enum { PAGE = 16, UNITS = 8 };

/* The tree of rule 4 over eight accumulators, lane by lane. */
static inline __m512 tree(const __m512 a[8])
{
    return _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(a[0], a[4]), _mm512_add_ps(a[2], a[6])),
                         _mm512_add_ps(_mm512_add_ps(a[1], a[5]), _mm512_add_ps(a[3], a[7])));
}

/* Scores of one head for the 16 slots of a page: sum8 over the head's elements in every lane (rules 4 and 16). */
static inline __m512 page_scores(const float *q, const float *k, uint32_t n)
{
    __m512 a[8];
    TLM_UNROLL for (uint32_t i = 0; i < 8u; i++) { a[i] = _mm512_set1_ps(-0.0f); /* -0.0 + x is x */ }
    uint32_t d = 0;
    for (; d + 8u <= n; d += 8u) {
        TLM_UNROLL for (uint32_t i = 0; i < 8u; i++) {
            a[i] = _mm512_add_ps(a[i], _mm512_mul_ps(_mm512_set1_ps(q[d + i]), _mm512_loadu_ps(k + (size_t)(d + i) * PAGE)));
        }
    }
    if (d < n) { /* the missing elements of the last eight are +0.0 and are added like data */
        TLM_UNROLL for (uint32_t i = 0; i < 8u; i++) {
            __m512 p = _mm512_setzero_ps();
            if (d + i < n) {
                p = _mm512_mul_ps(_mm512_set1_ps(q[d + i]), _mm512_loadu_ps(k + (size_t)(d + i) * PAGE));
            }
            a[i] = _mm512_add_ps(a[i], p);
        }
    }
    return tree(a);
}

/* Slots of page p inside the window. */
static inline __mmask16 live_slots(const tlm_attn *a, uint32_t p)
{
    uint32_t live = p == a->first / PAGE ? 0xffffu << (a->first % PAGE) : 0xffffu;
    live &= p == a->last / PAGE ? 0xffffu >> (PAGE - 1u - a->last % PAGE) : 0xffffu;
    return (__mmask16)live;
}

/* Scores of a head over the window, lanes outside it -inf, from its first page on. Returns the greatest, in all lanes;
 * *size collects the greatest magnitude. */
static __m512 head_scores(const tlm_attn *a, uint32_t head, float *e, __m512i *size)
{
    const uint32_t n = a->head_dim, page0 = a->first / PAGE, page1 = a->last / PAGE;
    const size_t row = a->k / sizeof(float) + (size_t)(head / (a->n_heads / a->n_kv_heads)) * n * PAGE;
    const __m512 scale = _mm512_set1_ps(a->scale), lowest = _mm512_castsi512_ps(_mm512_set1_epi32((int32_t)0xff800000u));
    const float *q = a->q + (size_t)head * n;
    __m512 best = lowest, q8[8];
    TLM_UNROLL for (uint32_t i = 0; i < 8u; i++) { q8[i] = _mm512_set1_ps(i < n ? q[i] : 0.0f); }
    for (uint32_t p = page0; p <= page1; p++) {
        const float *k = (const float *)a->pages[p] + row;
        const __mmask16 live = live_slots(a, p);
        __m512 s;
        if (n == 8u) { /* the commonest head of tiny models: the query stays in registers */
            __m512 t[8];
            TLM_UNROLL for (uint32_t i = 0; i < 8u; i++) { t[i] = _mm512_mul_ps(q8[i], _mm512_loadu_ps(k + i * PAGE)); }
            s = tree(t);
        } else {
            s = page_scores(q, k, n);
        }
        s = _mm512_mask_mov_ps(lowest, live, _mm512_mul_ps(s, scale));
        *size = _mm512_mask_max_epu32(*size, live, *size, tlm_magnitude16(s));
        best = _mm512_max_ps(best, s);
        _mm512_storeu_ps(e + (size_t)(p - page0) * PAGE, s);
    }
    return _mm512_set1_ps(_mm512_reduce_max_ps(best));
}

/* e and 1/Z of up to UNITS heads, `span` floats apart. false: a score is not finite. The chains of adds of Z run side by
 * side; where the window starts at a page, e's lanes are Z's lanes. */
static inline __attribute__((always_inline)) bool group_weights(const tlm_attn *a, uint32_t h0, uint32_t n, float *e, size_t span,
                                                               float *inv_z)
{
    __m512 top[UNITS];
    __m512i size = _mm512_setzero_si512();
    for (uint32_t h = 0; h < n; h++) {
        top[h] = head_scores(a, h0 + h, e + h * span, &size);
    }
    if (_mm512_reduce_max_epu32(size) >= TLM_INF_BITS) {
        return false;
    }
    const uint32_t count = a->last - a->first + 1u;
    __m256 z[UNITS];
    TLM_UNROLL for (uint32_t h = 0; h < n; h++) { z[h] = _mm256_set1_ps(-0.0f); }
    for (size_t i = 0; i < span; i += PAGE) {
        TLM_UNROLL for (uint32_t h = 0; h < n; h++) {
            const __m512 v = tlm_exp16(_mm512_sub_ps(_mm512_loadu_ps(e + h * span + i), top[h]));
            _mm512_storeu_ps(e + h * span + i, v);
            z[h] = _mm256_add_ps(z[h], _mm512_castps512_ps256(v));
            if (i + 8u < count) { /* a last half without positions is not part of the sum */
                z[h] = _mm256_add_ps(z[h], _mm512_extractf32x8_ps(v, 1));
            }
        }
    }
    for (uint32_t h = 0; h < n; h++) {
        const bool aligned = a->first % PAGE == 0;
        inv_z[h] = 1.0f / (aligned ? tlm_sum8_lanes(z[h]) : tlm_avx512_sum8(e + h * span + a->first % PAGE, count));
    }
    return true;
}

static bool weights(const tlm_attn *a, uint32_t h0, uint32_t h1, size_t span, float *inv_z)
{
    float *e = a->scratch;
    if (h1 - h0 == UNITS) {
        return group_weights(a, h0, UNITS, e, span, inv_z);
    }
    for (uint32_t h = h0; h < h1; h++) {
        if (!group_weights(a, h, 1, e + (h - h0) * span, span, inv_z + (h - h0))) {
            return false;
        }
    }
    return true;
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
    const size_t span = (size_t)(a->last / PAGE - a->first / PAGE + 1u) * PAGE;
    const bool one = a->head_dim % 32u == 0; /* four chains, or eight, in a head: mix it alone */
    unit units[UNITS];
    for (uint32_t h0 = a->head0; h0 < a->head1; h0 += UNITS) {
        const uint32_t h1 = h0 + UNITS < a->head1 ? h0 + UNITS : a->head1;
        float inv_z[UNITS];
        if (!weights(a, h0, h1, span, inv_z)) {
            return false;
        }
        uint32_t n = 0;
        for (uint32_t h = h0; h < h1; h++) {
            const uint32_t kv = h / (a->n_heads / a->n_kv_heads);
            for (uint32_t d = 0; d < a->head_dim; d += 8u) {
                const uint32_t left = a->head_dim - d;
                units[n].e = (const float *)a->scratch + (h - h0) * span;
                units[n].v = kv * a->head_dim + d;
                units[n].out = a->out + (size_t)h * a->head_dim + d;
                units[n].inv_z = inv_z[h - h0];
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
