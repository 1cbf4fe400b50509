/* Norms, activation quantisation, activations and sums on AVX2: lanes are elements. */
#include "avx2.h"

/* sum8 of (x - mean)^2; missing elements are +0.0, added like data (rule 4). */
static float sum8_squares(const float *x, uint32_t n, float mean)
{
    const __m256 m = _mm256_set1_ps(mean);
    __m256 acc = _mm256_set1_ps(-0.0f); /* -0.0 + x is x */
    for (uint32_t i = 0; i < n; i += 8u) {
        const __m256 d = _mm256_and_ps(_mm256_sub_ps(tlm_load8(x + i, n - i), m), _mm256_castsi256_ps(tlm_tail8(n - i)));
        acc = _mm256_add_ps(acc, _mm256_mul_ps(d, d));
    }
    return tlm_sum8_lanes(acc);
}

/* y = ((x - mean) * r) * g, then + b, zero up to np; x as it is where not `centred`. */
static inline __attribute__((always_inline)) void scale_row(const float *x, uint32_t n, bool centred, float mean, float r,
                                                           const float *g, const float *b, float *y)
{
    const __m256 rr = _mm256_set1_ps(r), m = _mm256_set1_ps(mean);
    for (uint32_t i = 0; i < tlm_padded(n); i += 8u) {
        const uint32_t left = n > i ? n - i : 0u;
        __m256 v = tlm_load8(x + i, left);
        v = centred ? _mm256_sub_ps(v, m) : v;
        v = _mm256_mul_ps(v, rr);
        v = g ? _mm256_mul_ps(v, tlm_load8(g + i, left)) : v;
        v = b ? _mm256_add_ps(v, tlm_load8(b + i, left)) : v;
        _mm256_storeu_ps(y + i, _mm256_and_ps(v, _mm256_castsi256_ps(tlm_tail8(left))));
    }
}

void tlm_avx2_norm_rms(const float *x, uint32_t n, float eps, const float *g, const float *b, float *y)
{
    const float inv_n = 1.0f / (float)n;
    const float v = sum8_squares(x, n, 0.0f) * inv_n;
    scale_row(x, n, false, 0.0f, 1.0f / tlm_x86_sqrt(v + eps), g, b, y);
}

void tlm_avx2_norm_layer(const float *x, uint32_t n, float eps, const float *g, const float *b, float *y)
{
    const float inv_n = 1.0f / (float)n;
    const float mean = tlm_avx2_sum8(x, n) * inv_n;
    const float v = sum8_squares(x, n, mean) * inv_n;
    scale_row(x, n, true, mean, 1.0f / tlm_x86_sqrt(v + eps), g, b, y);
}

/* Whether one of 8 sums may reach the bar; norms are padded. */
static inline __attribute__((always_inline)) __m256 may_reach(const tlm_bound *b, const uint8_t *norms, __m256 acc)
{
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    const __m256i codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)norms));
    const __m256 most = _mm256_mul_ps(_mm256_cvtepi32_ps(codes), _mm256_set1_ps(b->later));
    const __m256 size = _mm256_add_ps(_mm256_add_ps(_mm256_and_ps(acc, magnitude), most), _mm256_set1_ps(b->room));
    const __m256 top = _mm256_add_ps(_mm256_add_ps(acc, most), _mm256_set1_ps(b->centre));
    const __m256 loosened = _mm256_add_ps(top, _mm256_mul_ps(size, _mm256_set1_ps(b->loose)));
    return _mm256_cmp_ps(loosened, _mm256_set1_ps(b->bar), _CMP_NLT_UQ);
}

uint32_t tlm_avx2_bound(const tlm_bound *bound, const float *more, const uint8_t *norms, uint32_t n, float *v)
{
    const tlm_bound b = *bound; /* v may not change it */
    uint32_t live = 0, i = 0;
    for (; i + 8u <= n; i += 8u) {
        const __m256 acc = _mm256_add_ps(_mm256_loadu_ps(v + i), _mm256_loadu_ps(more + i));
        _mm256_storeu_ps(v + i, acc);
        live |= (uint32_t)(_mm256_movemask_ps(may_reach(&b, norms + i, acc)) != 0) << i / 8u;
    }
    if (i < n) {
        const __m256 acc = _mm256_add_ps(tlm_load8(v + i, n - i), tlm_load8(more + i, n - i));
        const __m256 may = _mm256_and_ps(may_reach(&b, norms + i, acc), _mm256_castsi256_ps(tlm_tail8(n - i)));
        tlm_store8(v + i, n - i, acc);
        live |= (uint32_t)(_mm256_movemask_ps(may) != 0) << i / 8u;
    }
    return live;
}

void tlm_avx2_add(float *y, const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 8u) {
        tlm_store8(y + i, n - i, _mm256_add_ps(tlm_load8(y + i, n - i), tlm_load8(x + i, n - i)));
    }
}

void tlm_avx2_mul(float *y, const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 8u) {
        tlm_store8(y + i, n - i, _mm256_mul_ps(tlm_load8(y + i, n - i), tlm_load8(x + i, n - i)));
    }
}

void tlm_avx2_centre(float *k, uint32_t n, uint32_t dims, uint32_t stride, const float *centre, const float *scale)
{
    for (uint32_t b = 0; b < n; b++, k += stride) {
        for (uint32_t i = 0; i < dims; i += 8u) {
            const __m256 d = _mm256_sub_ps(tlm_load8(k + i, dims - i), tlm_load8(centre + i, dims - i));
            tlm_store8(k + i, dims - i, _mm256_div_ps(d, tlm_load8(scale + i, dims - i)));
        }
    }
}

/* ---- activation quantisation, rules 5 and 6 ------------------------------------------------------ */

static inline __m256i codes8(const float *x, uint32_t left, __m256 inv)
{
    const __m256 t = _mm256_add_ps(_mm256_mul_ps(tlm_load8(x, left), inv), _mm256_set1_ps(TLM_ROUNDER));
    const __m256i c = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32((int32_t)TLM_ROUNDER_BITS));
    return _mm256_and_si256(c, tlm_tail8(left));
}

/* 16 codes, zero past `left`; returns their lanes for the sum. */
static inline __m256i codes16(const float *x, uint32_t left, __m256 inv, int8_t *out)
{
    const __m256i lo = codes8(x, left, inv), hi = left > 8u ? codes8(x + 8, left - 8u, inv) : _mm256_setzero_si256();
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)out, bytes);
    return _mm256_add_epi32(lo, hi);
}

static uint32_t absmax(const float *x, uint32_t n)
{
    __m256i top = _mm256_setzero_si256();
    for (uint32_t i = 0; i < n; i += 8u) {
        top = _mm256_max_epu32(top, tlm_magnitude8(tlm_load8(x + i, n - i)));
    }
    return tlm_max8(top);
}

static int32_t code_block(const float *x, uint32_t here, bool wide, float inv, int8_t *codes)
{
    const __m256 v = _mm256_set1_ps(inv);
    __m256i sum = codes16(x, here, v, codes);
    if (wide) {
        sum = _mm256_add_epi32(sum, codes16(x + 16, here > 16u ? here - 16u : 0u, v, codes + 16));
    }
    return tlm_add8(sum);
}

bool tlm_avx2_quant_block(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums)
{
    const uint32_t np = tlm_padded(n);
    for (uint32_t i = 0, k = 0; i < np; i += 32u, k++) {
        const uint32_t here = tlm_min_u32(n - i, 32u);
        float inv;
        if (!tlm_x86_inverse(absmax(x + i, here), floor, &inv, &scales[k])) {
            return false;
        }
        sums[k] = code_block(x + i, here, np - i > 16u, inv, codes + i);
    }
    return true;
}

bool tlm_avx2_quant_vector(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums)
{
    const uint32_t np = tlm_padded(n);
    float inv;
    if (!tlm_x86_inverse(absmax(x, n), floor, &inv, &scales[0])) {
        return false;
    }
    for (uint32_t i = 0, k = 0; i < np; i += 32u, k++) {
        sums[k] = code_block(x + i, tlm_min_u32(n - i, 32u), np - i > 16u, inv, codes + i);
    }
    return true;
}

/* ---- activations, rule 14 ------------------------------------------------------------------------ */

static inline __m256 silu8(__m256 x)
{
    return _mm256_mul_ps(x, tlm_sigmoid8(x));
}

static inline __m256 gelu_tanh8(__m256 x)
{
    const __m256 cube = _mm256_mul_ps(_mm256_mul_ps(x, x), x);
    const __m256 u = _mm256_mul_ps(_mm256_set1_ps(TLM_GELU_K), _mm256_add_ps(x, _mm256_mul_ps(_mm256_set1_ps(TLM_GELU_C), cube)));
    return _mm256_mul_ps(x, tlm_sigmoid8(_mm256_add_ps(u, u)));
}

#define TLM_ACT_KERNEL(name, lane)                                              \
    void name(float *g, const float *up, uint32_t n)                            \
    {                                                                           \
        for (uint32_t i = 0; i < n; i += 8u) {                                  \
            __m256 v = lane(tlm_load8(g + i, n - i));                           \
            v = up ? _mm256_mul_ps(v, tlm_load8(up + i, n - i)) : v;            \
            tlm_store8(g + i, n - i, v);                                        \
        }                                                                       \
    }

TLM_ACT_KERNEL(tlm_avx2_silu, silu8)
TLM_ACT_KERNEL(tlm_avx2_gelu_tanh, gelu_tanh8)
