/* ESP32-S3: what the PIE kernels take over from the reference table. */
#include "tlm_k_s3.h"

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
    k->act[TLM_ACT_GELU_TANH] = tlm_k_s3_act_gelu_tanh;
    k->act[TLM_ACT_SILU] = tlm_k_s3_act_silu;
    k->add = add;
    k->kv_store[TLM_KV_I8] = tlm_k_s3_kv_store_i8;
    k->kv_store[TLM_KV_I4] = tlm_k_s3_kv_store_i4;
    k->attn[TLM_KV_I8] = tlm_k_s3_attn_i8;
    k->attn[TLM_KV_I4] = tlm_k_s3_attn_i4;
    k->attn_scratch = tlm_k_s3_attn_scratch;
    return true;
}
