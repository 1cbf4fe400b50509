/* The reference table: every slot. */
#include <string.h>

#include "tlm_k_ref.h"
#include "tlm_k_ref_attn.h"

void tlm_kernels_ref(tlm_kernels *k)
{
    memset(k, 0, sizeof *k);
    k->name = "ref";
    k->linear[TLM_TENSOR_TYPE_F32] = tlm_k_ref_linear_f32;
    k->linear[TLM_TENSOR_TYPE_F16] = tlm_k_ref_linear_f16;
    k->linear[TLM_TENSOR_TYPE_Q8_0] = tlm_k_ref_linear_q8_0;
    k->linear[TLM_TENSOR_TYPE_Q4_0] = tlm_k_ref_linear_q4_0;
    k->linear[TLM_TENSOR_TYPE_T2] = tlm_k_ref_linear_t2;
    k->linear[TLM_TENSOR_TYPE_T1] = tlm_k_ref_linear_t1;
    k->row[TLM_TENSOR_TYPE_F32] = tlm_k_ref_row_f32;
    k->row[TLM_TENSOR_TYPE_F16] = tlm_k_ref_row_f16;
    k->row[TLM_TENSOR_TYPE_Q8_0] = tlm_k_ref_row_q8_0;
    k->row[TLM_TENSOR_TYPE_Q4_0] = tlm_k_ref_row_q4_0;
    k->row[TLM_TENSOR_TYPE_T2] = tlm_k_ref_row_t2;
    k->row[TLM_TENSOR_TYPE_T1] = tlm_k_ref_row_t1;
    k->quant_block = tlm_k_ref_quant_block;
    k->quant_vector = tlm_k_ref_quant_vector;
    k->norm[TLM_NORM_KIND_LAYER] = tlm_k_ref_norm_layer;
    k->norm[TLM_NORM_KIND_RMS] = tlm_k_ref_norm_rms;
    k->act[TLM_ACT_SILU] = tlm_k_ref_act_silu;
    k->act[TLM_ACT_GELU_TANH] = tlm_k_ref_act_gelu_tanh;
    k->act[TLM_ACT_GELU_ERF] = tlm_k_ref_act_gelu_erf;
    k->act[TLM_ACT_RELU] = tlm_k_ref_act_relu;
    k->act[TLM_ACT_RELU2] = tlm_k_ref_act_relu2;
    k->add = tlm_k_ref_add;
    k->mul = tlm_k_ref_mul;
    k->centre = tlm_k_ref_centre;
    k->bound = tlm_k_ref_bound;
    k->rope = tlm_k_ref_rope;
    k->kv_store[TLM_KV_F32] = tlm_k_ref_kv_store_f32;
    k->kv_store[TLM_KV_F16] = tlm_k_ref_kv_store_f16;
    k->kv_store[TLM_KV_I8] = tlm_k_ref_kv_store_i8;
    k->kv_store[TLM_KV_I4] = tlm_k_ref_kv_store_i4;
    k->kv_feed = tlm_k_ref_kv_feed;
    k->attn[TLM_KV_F32] = tlm_k_ref_attn_f32;
    k->attn[TLM_KV_F16] = tlm_k_ref_attn_f16;
    k->attn[TLM_KV_I8] = tlm_k_ref_attn_i8;
    k->attn[TLM_KV_I4] = tlm_k_ref_attn_i4;
    k->attn_scratch = tlm_k_ref_attn_scratch;
}
