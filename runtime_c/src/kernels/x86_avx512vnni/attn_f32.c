/* Attention over an f32 cache on AVX-512: scores with positions as lanes, mix with head elements as lanes. */
#include "avx512.h"

enum { PAGE = 16, UNITS = 8 };

/* Scores of one head for the 16 slots of a page: sum8 over the head's elements in every lane (rules 4 and 16). */
static inline __m512 page_scores(const float *q, const float *k, uint32_t n)
{
    __m512 a[8];
    const uint32_t first = n < 8u ? n : 8u;
    for (uint32_t i = 0; i < 8u; i++) {
        a[i] = i < first ? _mm512_mul_ps(_mm512_set1_ps(q[i]), _mm512_loadu_ps(k + (size_t)i * PAGE)) : _mm512_setzero_ps();
    }
    uint32_t d = 8;
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
    return _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(a[0], a[4]), _mm512_add_ps(a[2], a[6])),
                         _mm512_add_ps(_mm512_add_ps(a[1], a[5]), _mm512_add_ps(a[3], a[7])));
}

/* e and 1/Z of one head; e[i] belongs to slot i of the window's first page. false: a score is not finite. */
static bool head_weights(const tlm_attn *a, uint32_t head, float *e, float *inv_z)
{
    const uint32_t kv = head / (a->n_heads / a->n_kv_heads), n = a->head_dim;
    const float *q = a->q + (size_t)head * n;
    const uint32_t page0 = a->first / PAGE, page1 = a->last / PAGE;
    const __m512 scale = _mm512_set1_ps(a->scale), lowest = _mm512_castsi512_ps(_mm512_set1_epi32((int32_t)0xff800000u));
    __m512 best = lowest;
    __m512i size = _mm512_setzero_si512();
    for (uint32_t p = page0; p <= page1; p++) {
        const float *k = (const float *)(const void *)((const char *)a->pages[p] + a->k) + (size_t)kv * n * PAGE;
        __mmask16 live = 0xffff;
        if (p == page0) {
            live = (__mmask16)(live & (0xffffu << (a->first % PAGE)));
        }
        if (p == page1) {
            live = (__mmask16)(live & (0xffffu >> (PAGE - 1u - a->last % PAGE)));
        }
        const __m512 s = _mm512_mask_mov_ps(lowest, live, _mm512_mul_ps(page_scores(q, k, n), scale));
        size = _mm512_mask_max_epu32(size, live, size, tlm_magnitude16(s));
        best = _mm512_max_ps(best, s);
        _mm512_storeu_ps(e + (size_t)(p - page0) * PAGE, s);
    }
    if (_mm512_reduce_max_epu32(size) >= TLM_INF_BITS) {
        return false;
    }
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(best));
    for (uint32_t i = 0; i < (page1 - page0 + 1u) * PAGE; i += PAGE) {
        _mm512_storeu_ps(e + i, tlm_exp16(_mm512_sub_ps(_mm512_loadu_ps(e + i), top)));
    }
    *inv_z = 1.0f / tlm_avx512_sum8(e + a->first % PAGE, a->last - a->first + 1u);
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

static inline __attribute__((always_inline)) void mix_units(const tlm_attn *a, const unit *u, uint32_t n_units)
{
    const size_t row = (size_t)a->n_kv_heads * a->head_dim;
    const uint32_t skip = a->first - a->first % PAGE;
    __m256 acc[UNITS]; /* -0.0 + x is x: the first term as it is */
    TLM_UNROLL for (uint32_t i = 0; i < n_units; i++) { acc[i] = _mm256_set1_ps(-0.0f); }
    for (uint32_t t = a->first; t <= a->last; t++) {
        const float *v = (const float *)(const void *)((const char *)a->pages[t / PAGE] + a->v) + (t % PAGE) * row;
        TLM_UNROLL for (uint32_t i = 0; i < n_units; i++) {
            const __m256 x = _mm256_mul_ps(_mm256_set1_ps(u[i].e[t - skip]), _mm256_maskz_loadu_ps(u[i].mask, v + u[i].v));
            acc[i] = _mm256_add_ps(acc[i], x);
        }
    }
    TLM_UNROLL for (uint32_t i = 0; i < n_units; i++) {
        _mm256_mask_storeu_ps(u[i].out, u[i].mask, _mm256_mul_ps(acc[i], _mm256_set1_ps(u[i].inv_z)));
    }
}

static void mix(const tlm_attn *a, const unit *u, uint32_t n)
{
    if (n == UNITS) {
        mix_units(a, u, UNITS);
        return;
    }
    uint32_t i = 0;
    for (; i + 4u <= n; i += 4u) {
        mix_units(a, u + i, 4);
    }
    for (; i < n; i++) {
        mix_units(a, u + i, 1);
    }
}

/* Heads in groups of eight, so that their e rows fit the scratch (attn_scratch in target.c). */
bool tlm_avx512_attn_f32(const tlm_attn *a)
{
    const size_t span = (size_t)(a->last / PAGE - a->first / PAGE + 1u) * PAGE;
    unit units[UNITS];
    for (uint32_t h0 = a->head0; h0 < a->head1; h0 += UNITS) {
        const uint32_t h1 = h0 + UNITS < a->head1 ? h0 + UNITS : a->head1;
        float inv_z[UNITS];
        for (uint32_t h = h0; h < h1; h++) {
            if (!head_weights(a, h, (float *)a->scratch + (h - h0) * span, &inv_z[h - h0])) {
                return false;
            }
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
                if (++n == UNITS) {
                    mix(a, units, n);
                    n = 0;
                }
            }
        }
        mix(a, units, n);
    }
    return true;
}
