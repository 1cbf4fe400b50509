/* ESP32-S3: what the PIE kernels take over from the reference table. */
#include "tlm_k_s3.h"
#include "tlm_math.h"

enum { QUAD = 4 };

#if UINTPTR_MAX == 0xffffffffu /* the .S files count on these places */
typedef char tlm_k_s3_linear_layout[offsetof(tlm_k_s3_linear, scale) == 48 ? 1 : -1];
typedef char tlm_k_s3_score_layout[offsetof(tlm_k_s3_score, qa) == 28 ? 1 : -1];
#endif

static void add(float *y, const float *x, uint32_t n)
{
    if (((uintptr_t)y | (uintptr_t)x) % 16u == 0) {
        tlm_k_s3_add(y, x, n);
    } else {
        tlm_k_ref_add(y, x, n);
    }
}

/* Of assembly that takes fours. */
static bool fours(const float *x, const float *y, uint32_t n)
{
    return (((uintptr_t)x | (uintptr_t)y) % 16u | n % QUAD) == 0 && n != 0;
}

static void mul(float *y, const float *x, uint32_t n)
{
    if (fours(y, x, n)) {
        tlm_k_s3_mul(y, y, x, n);
    } else {
        tlm_k_ref_mul(y, x, n);
    }
}

static void gelu_tanh(float *g, const float *up, uint32_t n)
{
    (fours(g, up, n) ? tlm_k_s3_act_gelu_tanh : tlm_k_ref_act_gelu_tanh)(g, up, n);
}

static void silu(float *g, const float *up, uint32_t n)
{
    (fours(g, up, n) ? tlm_k_s3_act_silu : tlm_k_ref_act_silu)(g, up, n);
}

/* Of a size that tlm_k_s3_keys takes, all four. */
static bool centres_fit(const float *centre)
{
    const uint32_t least = (127u - 70u) << 23, most = (127u + 70u) << 23;
    bool fit = true;
    for (uint32_t i = 0; i < QUAD; i++) {
        fit = fit && (tlm_bits(centre[i]) & TLM_ABS_MASK) - least < most - least;
    }
    return fit;
}

static void centre_keys(float *k, uint32_t n, uint32_t dims, uint32_t stride, const float *centre, const float *scale)
{
    const bool aligned = (((uintptr_t)k | (uintptr_t)centre | (uintptr_t)scale) % 16u | stride % QUAD) == 0;
    for (uint32_t i = 0; i < dims; i += QUAD) {
        if (aligned && i + QUAD <= dims && centres_fit(centre + i)) {
            tlm_k_s3_keys(k + i, n, stride * (uint32_t)sizeof(float), centre + i, scale + i);
        } else {
            tlm_k_ref_centre(k + i, n, tlm_min_u32(dims - i, QUAD), stride, centre + i, scale + i);
        }
    }
}

bool tlm_kernels_esp32s3(tlm_kernels *k)
{
    k->name = "esp32s3";
    k->linear[TLM_TENSOR_TYPE_Q8_0] = tlm_k_s3_q8_0;
    k->linear[TLM_TENSOR_TYPE_Q4_0] = tlm_k_s3_q4_0;
    k->linear[TLM_TENSOR_TYPE_T2] = tlm_k_s3_t2;
    k->quant_block = tlm_k_s3_quant_block;
    k->quant_vector = tlm_k_s3_quant_vector;
    k->norm[TLM_NORM_KIND_LAYER] = tlm_k_s3_norm_layer;
    k->norm[TLM_NORM_KIND_RMS] = tlm_k_s3_norm_rms;
    k->act[TLM_ACT_GELU_TANH] = gelu_tanh;
    k->act[TLM_ACT_SILU] = silu;
    k->add = add;
    k->mul = mul;
    k->centre = centre_keys;
    k->kv_store[TLM_KV_I8] = tlm_k_s3_kv_store_i8;
    k->kv_store[TLM_KV_I4] = tlm_k_s3_kv_store_i4;
    k->kv_feed = tlm_k_s3_kv_feed;
    k->attn[TLM_KV_I8] = tlm_k_s3_attn_i8;
    k->attn[TLM_KV_I4] = tlm_k_s3_attn_i4;
    k->attn_scratch = tlm_k_s3_attn_scratch;
    return true;
}
