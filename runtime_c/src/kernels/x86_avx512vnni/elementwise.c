/* Norms, activation quantisation, activations, sums and RoPE on AVX-512: lanes are elements. */
#include "avx512.h"

/* Rule 4: eight running lanes; elements past n are +0.0 and are added like data up to the next eight. */
static inline float sum8_squares(const float *x, uint32_t n, float mean)
{
    const __m256 m = _mm256_set1_ps(mean);
    __m256 acc = _mm256_set1_ps(-0.0f); /* -0.0 + x is x */
    for (uint32_t i = 0; i < n; i += 8u) {
        const __mmask8 k = tlm_tail8(n - i);
        const __m256 v = _mm256_maskz_loadu_ps(k, x + i);
        const __m256 d = _mm256_maskz_sub_ps(k, v, m);
        const __m256 q = _mm256_mul_ps(d, d);
        acc = _mm256_add_ps(acc, q);
    }
    return tlm_sum8_lanes(acc);
}

/* y = ((x - mean) * r) * g, then + b; zero up to np. `mean` is 0 with `centred` false: then x is taken as it is. */
static inline __attribute__((always_inline)) void scale_row(const float *x, uint32_t n, bool centred, float mean, float r,
                                                           const float *g, const float *b, float *y)
{
    const __m512 rr = _mm512_set1_ps(r), m = _mm512_set1_ps(mean);
    for (uint32_t i = 0; i < n; i += 16u) {
        const __mmask16 k = tlm_tail16(n - i);
        __m512 v = _mm512_maskz_loadu_ps(k, x + i);
        v = centred ? _mm512_sub_ps(v, m) : v;
        v = _mm512_mul_ps(v, rr);
        v = g ? _mm512_mul_ps(v, _mm512_maskz_loadu_ps(k, g + i)) : v;
        v = b ? _mm512_add_ps(v, _mm512_maskz_loadu_ps(k, b + i)) : v;
        _mm512_storeu_ps(y + i, _mm512_maskz_mov_ps(k, v));
    }
}

void tlm_avx512_norm_rms(const float *x, uint32_t n, float eps, const float *g, const float *b, float *y)
{
    const float inv_n = 1.0f / (float)n;
    const float v = sum8_squares(x, n, 0.0f) * inv_n;
    scale_row(x, n, false, 0.0f, 1.0f / tlm_x86_sqrt(v + eps), g, b, y);
}

void tlm_avx512_norm_layer(const float *x, uint32_t n, float eps, const float *g, const float *b, float *y)
{
    const float inv_n = 1.0f / (float)n;
    const float mean = tlm_avx512_sum8(x, n) * inv_n;
    const float v = sum8_squares(x, n, mean) * inv_n;
    scale_row(x, n, true, mean, 1.0f / tlm_x86_sqrt(v + eps), g, b, y);
}

void tlm_avx512_add(float *y, const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 16u) {
        const __mmask16 k = tlm_tail16(n - i);
        const __m512 v = _mm512_add_ps(_mm512_maskz_loadu_ps(k, y + i), _mm512_maskz_loadu_ps(k, x + i));
        _mm512_mask_storeu_ps(y + i, k, v);
    }
}

void tlm_avx512_mul(float *y, const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 16u) {
        const __mmask16 k = tlm_tail16(n - i);
        const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(k, y + i), _mm512_maskz_loadu_ps(k, x + i));
        _mm512_mask_storeu_ps(y + i, k, v);
    }
}

void tlm_avx512_centre(float *k, uint32_t n, uint32_t dims, uint32_t stride, const float *centre, const float *scale)
{
    for (uint32_t b = 0; b < n; b++, k += stride) {
        for (uint32_t i = 0; i < dims; i += 16u) {
            const __mmask16 m = tlm_tail16(dims - i);
            const __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(m, k + i), _mm512_maskz_loadu_ps(m, centre + i));
            _mm512_mask_storeu_ps(k + i, m, _mm512_div_ps(d, _mm512_maskz_loadu_ps(m, scale + i)));
        }
    }
}

/* ---- activation quantisation, rules 5 and 6 ------------------------------------------------------ */

static inline __m512i round_codes(const float *x, __mmask16 k, __m512 inv)
{
    const __m512 t = _mm512_add_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(k, x), inv), _mm512_set1_ps(TLM_ROUNDER));
    return _mm512_maskz_sub_epi32(k, _mm512_castps_si512(t), _mm512_set1_epi32((int32_t)TLM_ROUNDER_BITS));
}

/* Up to 32 codes; returns their sum. np is 16 or 32 columns of memory. */
static inline int32_t code_block(const float *x, uint32_t n, uint32_t np, __m512 inv, int8_t *codes)
{
    const __m512i lo = round_codes(x, tlm_tail16(n), inv);
    _mm_storeu_si128((__m128i *)(void *)codes, _mm512_cvtepi32_epi8(lo));
    if (np <= 16u) {
        return _mm512_reduce_add_epi32(lo);
    }
    const __m512i hi = round_codes(x + 16, n > 16u ? tlm_tail16(n - 16u) : 0, inv);
    _mm_storeu_si128((__m128i *)(void *)(codes + 16), _mm512_cvtepi32_epi8(hi));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(lo, hi));
}

bool tlm_avx512_quant_block(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums)
{
    const uint32_t np = (n + 15u) & ~15u;
    for (uint32_t i = 0, k = 0; i < np; i += 32u, k++) {
        const uint32_t left = n > i ? n - i : 0u, here = left > 32u ? 32u : left, wide = np - i > 16u ? 32u : 16u;
        __m512i m = tlm_magnitude16(_mm512_maskz_loadu_ps(tlm_tail16(here), x + i));
        if (here > 16u) {
            m = _mm512_max_epu32(m, tlm_magnitude16(_mm512_maskz_loadu_ps(tlm_tail16(here - 16u), x + i + 16)));
        }
        float inv;
        if (!tlm_x86_inverse(_mm512_reduce_max_epu32(m), floor, &inv, &scales[k])) {
            return false;
        }
        sums[k] = code_block(x + i, here, wide, _mm512_set1_ps(inv), codes + i);
    }
    return true;
}

bool tlm_avx512_quant_vector(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums)
{
    const uint32_t np = (n + 15u) & ~15u;
    __m512i m = _mm512_setzero_si512();
    for (uint32_t i = 0; i < n; i += 16u) {
        m = _mm512_max_epu32(m, tlm_magnitude16(_mm512_maskz_loadu_ps(tlm_tail16(n - i), x + i)));
    }
    float inv;
    if (!tlm_x86_inverse(_mm512_reduce_max_epu32(m), floor, &inv, &scales[0])) {
        return false;
    }
    for (uint32_t i = 0, k = 0; i < np; i += 32u, k++) {
        const uint32_t left = n - i, here = left > 32u ? 32u : left, wide = np - i > 16u ? 32u : 16u;
        sums[k] = code_block(x + i, here, wide, _mm512_set1_ps(inv), codes + i);
    }
    return true;
}

/* ---- activations, rule 14 ------------------------------------------------------------------------ */

static inline __m512 silu16(__m512 x)
{
    return _mm512_mul_ps(x, tlm_sigmoid16(x));
}

static inline __m512 gelu_tanh16(__m512 x)
{
    const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
    const __m512 u = _mm512_mul_ps(_mm512_set1_ps(TLM_GELU_K),
                                   _mm512_add_ps(x, _mm512_mul_ps(_mm512_set1_ps(TLM_GELU_C), cube)));
    return _mm512_mul_ps(x, tlm_sigmoid16(_mm512_add_ps(u, u)));
}

static inline __m512 relu16(__m512 x)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), x);
}

static inline __m512 relu2_16(__m512 x)
{
    const __m512 m = relu16(x);
    return _mm512_mul_ps(m, m);
}

#define TLM_ACT_KERNEL(name, lane)                                              \
    void name(float *g, const float *up, uint32_t n) {                          \
        for (uint32_t i = 0; i < n; i += 16u) {                                 \
            const __mmask16 k = tlm_tail16(n - i);                              \
            __m512 v = lane(_mm512_maskz_loadu_ps(k, g + i));                   \
            v = up ? _mm512_mul_ps(v, _mm512_maskz_loadu_ps(k, up + i)) : v;    \
            _mm512_mask_storeu_ps(g + i, k, v);                                 \
        }                                                                       \
    }

TLM_ACT_KERNEL(tlm_avx512_silu, silu16)
TLM_ACT_KERNEL(tlm_avx512_gelu_tanh, gelu_tanh16)
TLM_ACT_KERNEL(tlm_avx512_relu, relu16)
TLM_ACT_KERNEL(tlm_avx512_relu2, relu2_16)

/* ---- RoPE, rule 12 ------------------------------------------------------------------------------- */

/* Heads of 2, 4, 8 or 16 elements, all of them turned: whole heads in a vector, and how many elements that were. An element's
 * partner lies half a head away, in the sum with the sine negated in the first half; that gives the bits of the difference. */
static uint32_t rope_small(float *x, uint32_t n, uint32_t dim, const float *cs)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i half = _mm512_set1_epi32((int32_t)(dim / 2u)), at = _mm512_and_si512(lane, _mm512_sub_epi32(half, _mm512_set1_epi32(1)));
    const __m512i table = _mm512_castps_si512(_mm512_maskz_loadu_ps(tlm_tail16(dim), cs)), partner = _mm512_xor_si512(lane, half);
    const __m512i sine = _mm512_permutexvar_epi32(_mm512_add_epi32(at, half), table);
    const __mmask16 first = _mm512_testn_epi32_mask(lane, half);
    const __m512 s = _mm512_castsi512_ps(_mm512_mask_xor_epi32(sine, first, sine, _mm512_set1_epi32(INT32_MIN)));
    const __m512 c = _mm512_castsi512_ps(_mm512_permutexvar_epi32(at, table));
    uint32_t i = 0;
    for (; i + 16u <= n; i += 16u) {
        const __m512 v = _mm512_loadu_ps(x + i);
        const __m512 turned = _mm512_mul_ps(_mm512_permutexvar_ps(partner, v), s);
        _mm512_storeu_ps(x + i, _mm512_add_ps(_mm512_mul_ps(v, c), turned));
    }
    return i;
}

void tlm_avx512_rope(float *x, uint32_t heads, uint32_t head_dim, uint32_t rope_dims, const float *cs)
{
    const uint32_t half = rope_dims / 2u;
    uint32_t done = 0;
    if (rope_dims == head_dim && head_dim >= 2u && 16u % head_dim == 0) {
        done = rope_small(x, heads * head_dim, head_dim, cs) / head_dim;
    }
    x += (size_t)done * head_dim;
    for (uint32_t h = done; h < heads; h++, x += head_dim) {
        for (uint32_t i = 0; i < half; i += 16u) {
            const __mmask16 k = tlm_tail16(half - i);
            const __m512 c = _mm512_maskz_loadu_ps(k, cs + i), s = _mm512_maskz_loadu_ps(k, cs + half + i);
            const __m512 a = _mm512_maskz_loadu_ps(k, x + i), b = _mm512_maskz_loadu_ps(k, x + half + i);
            _mm512_mask_storeu_ps(x + i, k, _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s)));
            _mm512_mask_storeu_ps(x + half + i, k, _mm512_add_ps(_mm512_mul_ps(b, c), _mm512_mul_ps(a, s)));
        }
    }
}
