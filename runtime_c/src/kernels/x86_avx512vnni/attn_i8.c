/* Attention over an int8 cache on AVX-512 VNNI (rule 17): exact integer sums, one head at a time.
 *
 * vpdpbusd wants one unsigned operand: cache codes become code + 128, and 128 times the sum of the other operand is
 * taken off again. Slots outside the window meet weight 0, so what their bytes hold does not matter. */
#include "avx512.h"

enum { PAGE = 16, MAX_Q = TLM_MAX_HEAD_DIM };

typedef struct head_job {
    const int8_t *q; /* codes, zero up to a multiple of 16 */
    float qa;        /* query scale * attention scale */
    uint32_t n, kv;  /* elements of a head, kv head */
} head_job;

static inline __m512i biased(const void *p, uint32_t rows_left)
{
    const __mmask16 k = (__mmask16)(rows_left >= 4u ? 0xffffu : (1u << (4u * rows_left)) - 1u);
    return _mm512_xor_si512(_mm512_maskz_loadu_epi32(k, p), _mm512_set1_epi8(INT8_MIN));
}

/* Four dims x 16 slots -> 16 lanes of four dims. */
static inline __m512i by_slot(__m512i rows)
{
    const __m512i gather = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m128i turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(gather, rows), _mm512_broadcast_i32x4(turn));
}

static inline __m512i page_sums(const head_job *job, const int8_t *k, int32_t q_sum)
{
    __m512i s = _mm512_set1_epi32(-128 * q_sum);
    for (uint32_t d = 0; d < job->n; d += 4u) {
        int32_t q4;
        memcpy(&q4, job->q + d, 4);
        s = _mm512_dpbusd_epi32(s, by_slot(biased(k + (size_t)d * PAGE, job->n - d)), _mm512_set1_epi32(q4));
    }
    return s;
}

static inline __mmask16 live_slots(const tlm_attn *a, uint32_t page)
{
    uint32_t live = 0xffffu;
    if (page < a->first / PAGE || page > a->last / PAGE) {
        return 0;
    }
    if (page == a->first / PAGE) {
        live &= 0xffffu << (a->first % PAGE);
    }
    if (page == a->last / PAGE) {
        live &= 0xffffu >> (PAGE - 1u - a->last % PAGE);
    }
    return (__mmask16)live;
}

static inline __m512 scales_of(const tlm_attn *a, uint32_t page, size_t offset, __mmask16 live)
{
    const void *p = (const char *)a->pages[page] + offset;
    const __m256i raw = _mm256_maskz_loadu_epi16(live, p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
}

/* e from the first page of the window on, and 1/Z. false: a score is not finite. */
static bool window_weights(const tlm_attn *a, const head_job *job, float *e, float *inv_z)
{
    const __m512 lowest = _mm512_castsi512_ps(_mm512_set1_epi32((int32_t)0xff800000u));
    const uint32_t page0 = a->first / PAGE, page1 = a->last / PAGE;
    int32_t q_sum = 0;
    for (uint32_t d = 0; d < job->n; d++) {
        q_sum += job->q[d];
    }
    __m512 best = lowest;
    __m512i size = _mm512_setzero_si512();
    for (uint32_t p = page0; p <= page1; p++) {
        const __mmask16 live = live_slots(a, p);
        const int8_t *k = (const int8_t *)a->pages[p] + a->k + (size_t)job->kv * job->n * PAGE;
        const __m512 sums = _mm512_cvtepi32_ps(page_sums(job, k, q_sum));
        const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(job->qa), scales_of(a, p, a->ks, live));
        const __m512 s = _mm512_mask_mov_ps(lowest, live, _mm512_mul_ps(sums, scale));
        size = _mm512_mask_max_epu32(size, live, size, tlm_magnitude16(s));
        best = _mm512_max_ps(best, s);
        _mm512_storeu_ps(e + (size_t)(p - page0) * PAGE, s);
    }
    if (_mm512_reduce_max_epu32(size) >= TLM_INF_BITS) {
        return false;
    }
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(best));
    for (uint32_t p = page0; p <= page1; p++) {
        float *at = e + (size_t)(p - page0) * PAGE;
        _mm512_storeu_ps(at, tlm_exp16(_mm512_sub_ps(_mm512_loadu_ps(at), top)));
    }
    *inv_z = 1.0f / tlm_avx512_sum8(e + a->first % PAGE, a->last - a->first + 1u);
    return true;
}

/* w codes of 32 absolute positions (pages 2j, 2j+1), their scale and sum. false: a weight is not finite. */
static bool block_weights(const tlm_attn *a, uint32_t j, const float *e, int8_t codes[32], float *scale, int32_t *sum)
{
    float w[32];
    for (uint32_t half = 0; half < 2u; half++) {
        const uint32_t page = 2u * j + half;
        const __mmask16 live = live_slots(a, page);
        __m512 v = _mm512_setzero_ps();
        if (live) {
            const float *at = e + (size_t)(page - a->first / PAGE) * PAGE;
            v = _mm512_mul_ps(_mm512_maskz_loadu_ps(live, at), scales_of(a, page, a->vs, live));
        }
        _mm512_storeu_ps(w + 16u * half, _mm512_maskz_mov_ps(live, v));
    }
    return tlm_avx512_quant_block(w, 32, 0.0f, codes, scale, sum);
}

/* Sums over the block's slots for four dims: lane 0 of each 128 bits. */
static inline __m512i dims_sums(const tlm_attn *a, uint32_t j, size_t offset, uint32_t rows_left, const int8_t codes[32],
                                int32_t sum)
{
    __m512i s = _mm512_setzero_si512();
    for (uint32_t half = 0; half < 2u; half++) {
        const uint32_t page = 2u * j + half;
        if (live_slots(a, page)) {
            const __m128i w = _mm_loadu_si128((const __m128i *)(const void *)(codes + 16u * half));
            const __m512i v = biased((const int8_t *)a->pages[page] + a->v + offset, rows_left);
            s = _mm512_dpbusd_epi32(s, v, _mm512_broadcast_i32x4(w));
        }
    }
    s = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, _MM_PERM_BADC));
    s = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, _MM_PERM_CDAB));
    return _mm512_sub_epi32(s, _mm512_set1_epi32(128 * sum));
}

static bool mix(const tlm_attn *a, const head_job *job, const float *e, float inv_z, float *out)
{
    const __m512i pick = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    const uint32_t j0 = a->first / 32u, j1 = a->last / 32u;
    for (uint32_t j = j0; j <= j1; j++) {
        int8_t codes[32];
        int32_t sum;
        float scale;
        if (!block_weights(a, j, e, codes, &scale, &sum)) {
            return false;
        }
        const __m128 ws = _mm_set1_ps(scale);
        for (uint32_t d = 0; d < job->n; d += 4u) {
            const uint32_t left = job->n - d;
            const __mmask8 k = (__mmask8)(left >= 4u ? 15u : (1u << left) - 1u);
            const size_t offset = ((size_t)job->kv * job->n + d) * PAGE;
            const __m512i s = _mm512_permutexvar_epi32(pick, dims_sums(a, j, offset, left, codes, sum));
            __m128 v = _mm_mul_ps(_mm_cvtepi32_ps(_mm512_castsi512_si128(s)), ws);
            if (j > j0) {
                v = _mm_add_ps(_mm_maskz_loadu_ps(k, out + d), v);
            }
            _mm_mask_storeu_ps(out + d, k, j == j1 ? _mm_mul_ps(v, _mm_set1_ps(inv_z)) : v);
        }
    }
    return true;
}

bool tlm_avx512_attn_i8(const tlm_attn *a)
{
    int8_t q[MAX_Q];
    int32_t sums[MAX_Q / 32u];
    float *e = a->scratch, qs, inv_z;
    for (uint32_t h = a->head0; h < a->head1; h++) {
        head_job job = {q, 0.0f, a->head_dim, h / (a->n_heads / a->n_kv_heads)};
        if (!tlm_avx512_quant_vector(a->q + (size_t)h * job.n, job.n, 0.0f, q, &qs, sums)) {
            return false;
        }
        job.qa = qs * a->scale;
        if (!window_weights(a, &job, e, &inv_z) || !mix(a, &job, e, inv_z, a->out + (size_t)h * job.n)) {
            return false;
        }
    }
    return true;
}
