/* The AVX2 backend's slots. */
#include "avx2.h"

/* e in whole pages, and what one head takes in the kernels below. */
static size_t attn_scratch(uint32_t context, uint32_t head_dim)
{
    return (size_t)(context + 2u * TLM_PAGE) * sizeof(float) + tlm_round_up(head_dim, 64u);
}

bool tlm_kernels_avx2(tlm_kernels *k)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2")) { /* every core with AVX2 has F16C too */
        return false;
    }
    k->name = "avx2";
    k->linear[TLM_TENSOR_TYPE_F32] = tlm_avx2_linear_f32;
    k->linear[TLM_TENSOR_TYPE_F16] = tlm_avx2_linear_f16;
    k->repack_bytes = tlm_avx2_repack_bytes;
    k->repack = tlm_avx2_repack;
    k->linear_repacked[TLM_TENSOR_TYPE_Q4_0] = tlm_avx2_linear_q4_0;
    k->linear_repacked[TLM_TENSOR_TYPE_Q8_0] = tlm_avx2_linear_q8_0;
    k->linear_repacked[TLM_TENSOR_TYPE_T2] = tlm_avx2_linear_ternary;
    k->linear_repacked[TLM_TENSOR_TYPE_T1] = tlm_avx2_linear_ternary;
    k->quant_block = tlm_avx2_quant_block;
    k->quant_vector = tlm_avx2_quant_vector;
    k->norm[TLM_NORM_KIND_LAYER] = tlm_avx2_norm_layer;
    k->norm[TLM_NORM_KIND_RMS] = tlm_avx2_norm_rms;
    k->act[TLM_ACT_SILU] = tlm_avx2_silu;
    k->act[TLM_ACT_GELU_TANH] = tlm_avx2_gelu_tanh;
    k->add = tlm_avx2_add;
    k->mul = tlm_avx2_mul;
    k->centre = tlm_avx2_centre;
    k->bound = tlm_avx2_bound;
    k->attn[TLM_KV_F32] = tlm_avx2_attn_f32;
    k->attn[TLM_KV_I8] = tlm_avx2_attn_i8;
    k->attn_scratch = attn_scratch;
    return true;
}
