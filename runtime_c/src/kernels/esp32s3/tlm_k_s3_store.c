/* Rule 15: a position's K or V; peak and codes in assembly. Odd shapes go to the reference. */
#include "tlm_k_s3.h"
#include "tlm_math.h"

enum { QUAD = 4, CHUNK = TLM_BLOCK * 16, MAX_FED = 16, ROWS = 8 };

typedef void codes_fn(const float *x, int8_t *out, const float *inv, uint32_t n);

static bool scale_of(const float *x, uint32_t n, float inv_m, uint16_t *scale, float *inv)
{
    uint32_t peaks[CHUNK / TLM_BLOCK], top = 0;
    for (uint32_t i = 0; i < n; i += CHUNK) {
        const uint32_t part = tlm_min_u32(n - i, CHUNK);
        tlm_k_s3_absmax(x + i, part, peaks);
        for (uint32_t k = 0; k * TLM_BLOCK < part; k++) {
            top = tlm_max_u32(top, peaks[k]);
        }
    }
    const float peak = tlm_float(top);
    return tlm_kv_scale(&peak, 1, inv_m, scale, inv);
}

static bool store(const float *x, uint32_t n, float inv_m, int8_t *out, uint16_t *scale, codes_fn *codes)
{
    float inv;
    if (!scale_of(x, n, inv_m, scale, &inv)) {
        return false;
    }
    codes(x, out, &inv, n);
    return true;
}

static bool taken(const float *x, uint32_t n_kv_heads, uint32_t head_dim)
{
    return head_dim % QUAD == 0 && n_kv_heads * head_dim % 16u == 0 && (uintptr_t)x % 16u == 0;
}

bool tlm_k_s3_kv_store_i8(const float *x, uint32_t n_kv_heads, uint32_t head_dim, bool is_v, void *region,
                          uint16_t *scales, uint32_t slot)
{
    if (!taken(x, n_kv_heads, head_dim)) {
        return tlm_k_ref_kv_store_i8(x, n_kv_heads, head_dim, is_v, region, scales, slot);
    }
    return store(x, n_kv_heads * head_dim, TLM_KV_INV_127, (int8_t *)region + slot, &scales[slot], tlm_k_s3_store_i8);
}

bool tlm_k_s3_kv_store_i4(const float *x, uint32_t n_kv_heads, uint32_t head_dim, bool is_v, void *region,
                          uint16_t *scales, uint32_t slot)
{
    if (!taken(x, n_kv_heads, head_dim)) {
        return tlm_k_ref_kv_store_i4(x, n_kv_heads, head_dim, is_v, region, scales, slot);
    }
    return store(x, n_kv_heads * head_dim, TLM_KV_INV_7, (int8_t *)region + slot, &scales[slot], tlm_k_s3_store_i4);
}

/* F of four heads in the order in which tlm_k_s3_feed reads it; a head lies in one block of columns. */
static void unpack(const tlm_weight *w, uint32_t head, uint32_t dims, float *f)
{
    const uint32_t np = tlm_padded(w->cols);
    const size_t scale_bytes = (np + TLM_BLOCK - 1u) / TLM_BLOCK * ROWS * sizeof(uint16_t);
    f[0] = f[1] = f[2] = f[3] = 0.0f;
    f += QUAD;
    for (uint32_t d = dims - 1u, count = 1; d-- > 0; f += QUAD * count++) {
        const uint32_t row = d % ROWS, flip = row % 2u ? 0u : 8u, shift = row % 2u ? 24u : 28u;
        const uint8_t *tile = (const uint8_t *)w->data + d / ROWS * (scale_bytes + (size_t)(ROWS / 2) * np);
        const uint16_t *scales = (const uint16_t *)(const void *)tile + row;
        const uint8_t *codes = tile + scale_bytes + (size_t)(row / 2u) * np;
        uint32_t block = UINT32_MAX;
        float scale = 0.0f;
        for (uint32_t k = 0; k < QUAD; k++) {
            const uint32_t end = (head + k + 1u) * dims;
            if ((end - 1u) / TLM_BLOCK != block) {
                block = (end - 1u) / TLM_BLOCK;
                scale = tlm_from_f16(scales[block * ROWS]);
            }
            float *to = f + k;
            for (const uint8_t *at = codes + end - count; at < codes + end; at++, to += QUAD) {
                *to = (float)((int32_t)((*at ^ flip) << shift) >> 28) * scale;
            }
        }
    }
}

static bool fed_here(const tlm_fed_keys *a)
{
    return a->head_dim % 2u == 0 && a->head_dim <= MAX_FED && TLM_BLOCK % a->head_dim == 0 &&
           a->n_kv_heads % QUAD == 0 && a->n_kv_heads * a->head_dim % 16u == 0 && a->stride % QUAD == 0 &&
           (uintptr_t)a->k % 16u == 0 && a->n <= TLM_MAX_BATCH;
}

bool tlm_k_s3_kv_feed(const tlm_fed_keys *a)
{
    const uint32_t dims = a->head_dim;
    float inv[TLM_MAX_BATCH];
    float f[(MAX_FED * (MAX_FED - 1) / 2 + 1) * QUAD] __attribute__((aligned(16)));
    float e[(MAX_FED + 1) * QUAD] __attribute__((aligned(16)));
    if (!fed_here(a)) {
        return tlm_k_ref_kv_feed(a);
    }
    for (uint32_t b = 0; b < a->n; b++) {
        const uint32_t t = a->position + b;
        uint16_t *scales = (uint16_t *)(void *)((uint8_t *)a->pages[t / TLM_PAGE] + a->scales);
        if (!scale_of(a->k + b * a->stride, a->n_kv_heads * dims, TLM_KV_INV_7, &scales[t % TLM_PAGE], &inv[b])) {
            return false;
        }
    }
    for (uint32_t k = 0; k < QUAD; k++) {
        e[dims * QUAD + k] = 0.0f;
    }
    for (uint32_t h = 0; h < a->n_kv_heads; h += QUAD) {
        unpack(a->feedback, a->head0 + h, dims, f); /* once for all tokens */
        for (uint32_t b = 0; b < a->n; b++) {
            const uint32_t t = a->position + b;
            int8_t *out = (int8_t *)a->pages[t / TLM_PAGE] + a->codes + t % TLM_PAGE;
            tlm_k_s3_feed(a->k + b * a->stride + h * dims, out + h * dims / 2u * TLM_PAGE, f, e, &inv[b], dims);
        }
    }
    return true;
}
