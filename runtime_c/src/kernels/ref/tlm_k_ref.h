/* Prototypes of the reference kernels, one file each. Contracts: tlm_kernels.h. */
#ifndef TLM_K_REF_H
#define TLM_K_REF_H

#include "tlm_kernels.h"

tlm_linear_fn tlm_k_ref_linear_f32, tlm_k_ref_linear_f16, tlm_k_ref_linear_q8_0, tlm_k_ref_linear_q4_0,
    tlm_k_ref_linear_t2, tlm_k_ref_linear_t1;
tlm_row_fn tlm_k_ref_row_f32, tlm_k_ref_row_f16, tlm_k_ref_row_q8_0, tlm_k_ref_row_q4_0, tlm_k_ref_row_t2,
    tlm_k_ref_row_t1;
tlm_quant_fn tlm_k_ref_quant_block, tlm_k_ref_quant_vector;
tlm_norm_fn tlm_k_ref_norm_layer, tlm_k_ref_norm_rms;
tlm_act_fn tlm_k_ref_act_silu, tlm_k_ref_act_gelu_tanh, tlm_k_ref_act_gelu_erf, tlm_k_ref_act_relu,
    tlm_k_ref_act_relu2;
tlm_add_fn tlm_k_ref_add;
tlm_mul_fn tlm_k_ref_mul;
tlm_centre_fn tlm_k_ref_centre;
tlm_bound_fn tlm_k_ref_bound;
tlm_rope_fn tlm_k_ref_rope;
tlm_kv_store_fn tlm_k_ref_kv_store_f32, tlm_k_ref_kv_store_f16, tlm_k_ref_kv_store_i8, tlm_k_ref_kv_store_i4;
tlm_kv_feed_fn tlm_k_ref_kv_feed;
tlm_attn_fn tlm_k_ref_attn_f32, tlm_k_ref_attn_f16, tlm_k_ref_attn_i8, tlm_k_ref_attn_i4;

#endif
