/* Attention over f32 and int8 caches on AVX2 (rules 16 and 17): scores with positions as lanes. */
#include "avx2.h"

enum { PAGE = TLM_PAGE, MAX_Q = TLM_MAX_HEAD_DIM };

/* Lanes 8*half.. of a page that lie in the window. */
static inline __m256i live_lanes(const tlm_attn *a, uint32_t page, uint32_t half)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i t = _mm256_add_epi32(_mm256_set1_epi32((int32_t)(page * PAGE + 8u * half)), lane);
    const __m256i from = _mm256_cmpgt_epi32(t, _mm256_set1_epi32((int32_t)a->first - 1));
    return _mm256_and_si256(from, _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)a->last + 1), t));
}

static inline const void *region(const tlm_attn *a, uint32_t page, size_t offset)
{
    return (const char *)a->pages[page] + offset;
}

/* sum8 over the head's elements in every lane, for 8 slots. */
static __m256 exact_scores(const float *q, const float *k, uint32_t n)
{
    __m256 a[8];
    for (uint32_t i = 0; i < 8u; i++) {
        a[i] = _mm256_set1_ps(-0.0f); /* -0.0 + x is x */
    }
    for (uint32_t d = 0; d < n; d += 8u) {
        for (uint32_t i = 0; i < 8u; i++) { /* missing elements are +0.0, added like data */
            const __m256 p = d + i < n ? _mm256_mul_ps(_mm256_set1_ps(q[d + i]), _mm256_loadu_ps(k + (size_t)(d + i) * PAGE))
                                       : _mm256_setzero_ps();
            a[i] = _mm256_add_ps(a[i], p);
        }
    }
    return _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(a[0], a[4]), _mm256_add_ps(a[2], a[6])),
                         _mm256_add_ps(_mm256_add_ps(a[1], a[5]), _mm256_add_ps(a[3], a[7])));
}

/* Exact integer dots of a query head with 8 slots, two dims a step. k is [n][16] from the wanted slot on. */
static __m256i coded_scores(const int8_t *q, const int8_t *k, uint32_t n)
{
    __m256i s = _mm256_setzero_si256();
    for (uint32_t d = 0; d < n; d += 2u) {
        const __m128i a = _mm_loadl_epi64((const __m128i *)(const void *)(k + (size_t)d * PAGE));
        const __m128i b = d + 1u < n ? _mm_loadl_epi64((const __m128i *)(const void *)(k + (size_t)(d + 1u) * PAGE)) : _mm_setzero_si128();
        const __m256i pairs = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
        const uint32_t both = ((uint32_t)(uint16_t)q[d]) | (uint32_t)(uint16_t)(d + 1u < n ? q[d + 1u] : 0) << 16;
        s = _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi32((int32_t)both)));
    }
    return s;
}

static inline __m256 bf16_scales(const tlm_attn *a, uint32_t page, size_t offset, uint32_t half)
{
    const __m128i raw = _mm_loadu_si128((const __m128i *)region(a, page, offset + 16u * half));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16));
}

typedef struct head_job {
    const float *q;
    const int8_t *codes; /* NULL: exact cache */
    float qa;
    uint32_t kv;
} head_job;

/* e from the first page of the window on, and 1/Z. false: a score is not finite. */
static bool window_weights(const tlm_attn *a, const head_job *job, float *e, float *inv_z)
{
    const __m256 lowest = _mm256_castsi256_ps(_mm256_set1_epi32((int32_t)0xff800000u));
    const uint32_t page0 = a->first / PAGE, lanes = (a->last / PAGE - page0 + 1u) * PAGE;
    __m256i size = _mm256_setzero_si256();
    __m256 best = lowest;
    for (uint32_t i = 0; i < lanes; i += 8u) {
        const uint32_t page = page0 + i / PAGE, half = i / 8u % 2u;
        const __m256i live = live_lanes(a, page, half);
        const size_t row = (size_t)job->kv * a->head_dim * PAGE + 8u * half;
        __m256 s;
        if (job->codes == NULL) {
            s = _mm256_mul_ps(exact_scores(job->q, (const float *)region(a, page, a->k) + row, a->head_dim), _mm256_set1_ps(a->scale));
        } else {
            const __m256i sums = coded_scores(job->codes, (const int8_t *)region(a, page, a->k) + row, a->head_dim);
            s = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(_mm256_set1_ps(job->qa), bf16_scales(a, page, a->ks, half)));
        }
        size = _mm256_max_epu32(size, _mm256_and_si256(live, tlm_magnitude8(s)));
        s = _mm256_blendv_ps(lowest, s, _mm256_castsi256_ps(live));
        best = _mm256_max_ps(best, s);
        _mm256_storeu_ps(e + i, s);
    }
    if (tlm_max8(size) >= TLM_INF_BITS) {
        return false;
    }
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(best), _mm256_extractf128_ps(best, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_shuffle_ps(m, m, 1));
    const __m256 top = _mm256_broadcastss_ps(m);
    for (uint32_t i = 0; i < lanes; i += 8u) {
        _mm256_storeu_ps(e + i, tlm_exp8(_mm256_sub_ps(_mm256_loadu_ps(e + i), top)));
    }
    *inv_z = 1.0f / tlm_avx2_sum8(e + a->first % PAGE, a->last - a->first + 1u);
    return true;
}

/* Eight elements of a head, positions rising: o = (sum of e*v) * (1/Z). */
static void exact_mix(const tlm_attn *a, const head_job *job, const float *e, float inv_z, float *out)
{
    const size_t row = (size_t)a->n_kv_heads * a->head_dim;
    const uint32_t skip = a->first - a->first % PAGE;
    for (uint32_t d = 0; d < a->head_dim; d += 8u) {
        const uint32_t left = a->head_dim - d;
        __m256 acc = _mm256_set1_ps(-0.0f);
        for (uint32_t t = a->first; t <= a->last; t++) {
            const float *v = (const float *)region(a, t / PAGE, a->v) + (t % PAGE) * row + (size_t)job->kv * a->head_dim + d;
            acc = _mm256_add_ps(acc, _mm256_mul_ps(_mm256_set1_ps(e[t - skip]), tlm_load8(v, left)));
        }
        tlm_store8(out + d, left, _mm256_mul_ps(acc, _mm256_set1_ps(inv_z)));
    }
}

/* Codes of w = e*vs over 32 absolute positions (pages 2j, 2j+1) as two rows of 16 words, and their scale. */
static bool block_weights(const tlm_attn *a, uint32_t j, const float *e, __m256i words[2], float *scale)
{
    float w[32];
    int8_t codes[32];
    int32_t sum;
    for (uint32_t i = 0; i < 32u; i += 8u) {
        const uint32_t page = 2u * j + i / PAGE, half = i / 8u % 2u;
        __m256 v = _mm256_setzero_ps();
        if (page >= a->first / PAGE && page <= a->last / PAGE) {
            const float *at = e + (size_t)(page - a->first / PAGE) * PAGE + 8u * half;
            v = _mm256_mul_ps(_mm256_loadu_ps(at), bf16_scales(a, page, a->vs, half));
            v = _mm256_and_ps(v, _mm256_castsi256_ps(live_lanes(a, page, half)));
        }
        _mm256_storeu_ps(w + i, v);
    }
    if (!tlm_avx2_quant_block(w, 32, 0.0f, codes, scale, &sum)) {
        return false;
    }
    words[0] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)codes));
    words[1] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(codes + 16)));
    return true;
}

static bool coded_mix(const tlm_attn *a, const head_job *job, const float *e, float inv_z, float *out)
{
    const uint32_t j0 = a->first / TLM_BLOCK, j1 = a->last / TLM_BLOCK;
    for (uint32_t j = j0; j <= j1; j++) {
        __m256i words[2];
        float scale;
        if (!block_weights(a, j, e, words, &scale)) {
            return false;
        }
        for (uint32_t d = 0; d < a->head_dim; d++) {
            __m256i s = _mm256_setzero_si256();
            for (uint32_t half = 0; half < 2u; half++) {
                const uint32_t page = 2u * j + half;
                if (page >= a->first / PAGE && page <= a->last / PAGE) {
                    const int8_t *v = (const int8_t *)region(a, page, a->v) + ((size_t)job->kv * a->head_dim + d) * PAGE;
                    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)v));
                    s = _mm256_add_epi32(s, _mm256_madd_epi16(wide, words[half]));
                }
            }
            const float part = (float)tlm_add8(s) * scale;
            out[d] = j == j0 ? part : out[d] + part;
        }
    }
    for (uint32_t d = 0; d < a->head_dim; d++) {
        out[d] = out[d] * inv_z;
    }
    return true;
}

bool tlm_avx2_attn_f32(const tlm_attn *a)
{
    float *e = a->scratch, inv_z;
    for (uint32_t h = a->head0; h < a->head1; h++) {
        const head_job job = {a->q + (size_t)h * a->head_dim, NULL, 0.0f, h / (a->n_heads / a->n_kv_heads)};
        if (!window_weights(a, &job, e, &inv_z)) {
            return false;
        }
        exact_mix(a, &job, e, inv_z, a->out + (size_t)h * a->head_dim);
    }
    return true;
}

bool tlm_avx2_attn_i8(const tlm_attn *a)
{
    int8_t codes[MAX_Q];
    int32_t sums[MAX_Q / TLM_BLOCK];
    float *e = a->scratch, inv_z, scale;
    for (uint32_t h = a->head0; h < a->head1; h++) {
        head_job job = {a->q + (size_t)h * a->head_dim, codes, 0.0f, h / (a->n_heads / a->n_kv_heads)};
        if (!tlm_avx2_quant_vector(job.q, a->head_dim, 0.0f, codes, &scale, sums)) {
            return false;
        }
        job.qa = scale * a->scale;
        if (!window_weights(a, &job, e, &inv_z) || !coded_mix(a, &job, e, inv_z, a->out + (size_t)h * a->head_dim)) {
            return false;
        }
    }
    return true;
}
