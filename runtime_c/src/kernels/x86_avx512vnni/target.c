/* The AVX-512 VNNI backend's slots. */
#include "avx512.h"

static bool cpu_has_it(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}

/* Eight heads' or tokens' weights over the whole context, in whole pages, or what one head takes in the kernels below. */
static size_t attn_scratch(uint32_t context, uint32_t head_dim)
{
    return (size_t)(context + 2u * TLM_PAGE) * sizeof(float) * 8u + tlm_round_up(head_dim, 64u);
}

bool tlm_kernels_avx512vnni(tlm_kernels *k)
{
    if (!cpu_has_it()) {
        return false;
    }
    k->name = "avx512vnni";
    k->repack_bytes = tlm_avx512_repack_bytes;
    k->repack = tlm_avx512_repack;
    k->linear_repacked[TLM_TENSOR_TYPE_Q4_0] = tlm_avx512_linear_q4_0;
    k->linear_repacked[TLM_TENSOR_TYPE_Q8_0] = tlm_avx512_linear_q8_0;
    k->linear_repacked[TLM_TENSOR_TYPE_T2] = tlm_avx512_linear_ternary;
    k->linear_repacked[TLM_TENSOR_TYPE_T1] = tlm_avx512_linear_ternary;
    k->quant_block = tlm_avx512_quant_block;
    k->quant_vector = tlm_avx512_quant_vector;
    k->norm[TLM_NORM_KIND_LAYER] = tlm_avx512_norm_layer;
    k->norm[TLM_NORM_KIND_RMS] = tlm_avx512_norm_rms;
    k->act[TLM_ACT_SILU] = tlm_avx512_silu;
    k->act[TLM_ACT_GELU_TANH] = tlm_avx512_gelu_tanh;
    k->act[TLM_ACT_RELU] = tlm_avx512_relu;
    k->act[TLM_ACT_RELU2] = tlm_avx512_relu2;
    k->add = tlm_avx512_add;
    k->mul = tlm_avx512_mul;
    k->centre = tlm_avx512_centre;
    k->rope = tlm_avx512_rope;
    k->kv_store[TLM_KV_F32] = tlm_avx512_kv_store_f32;
    k->attn[TLM_KV_F32] = tlm_avx512_attn_f32;
    k->attn[TLM_KV_I8] = tlm_avx512_attn_i8;
    k->attn_batch[TLM_KV_F32] = tlm_avx512_attn_batch_f32;
    k->attn_scratch = attn_scratch;
    return true;
}
