/* What the four attention kernels share: the order of rules 16 and 17. The kernels bring their element types, as
 * function arguments: a struct of functions would be relocated data. */
#ifndef TLM_K_REF_ATTN_H
#define TLM_K_REF_ATTN_H

#include "tlm_kernels.h"

/* Scratch of a part: e, one float a position of the window, then the codes of a query head. */
size_t tlm_k_ref_attn_scratch(uint32_t context, uint32_t head_dim);

/* f32 and f16 (rule 16). `k` and `v` are regions of one page.
 * score: sum8(q*k) of kv head `kv`, slot `slot`. */
typedef float tlm_k_ref_score_fn(const float *q, const void *k, uint32_t kv, uint32_t head_dim, uint32_t slot);
/* out = e*v where `first`, else out = out + e*v. */
typedef void tlm_k_ref_mix_fn(float *out, float e, const void *v, uint32_t kv, const tlm_attn *a, uint32_t slot,
                              bool first);
bool tlm_k_ref_attn_exact(const tlm_attn *a, tlm_k_ref_score_fn *score, tlm_k_ref_mix_fn *mix);

/* i8 and i4 (rule 17).
 * score: integer dot of a query head's codes with slot `slot` of kv head `kv`. */
typedef int32_t tlm_k_ref_score_codes_fn(const int8_t *q, const void *k, uint32_t kv, uint32_t head_dim, uint32_t slot);
/* Integer dot of dimension d of slots slot0..slot1-1 with w[0..slot1-slot0). */
typedef int32_t tlm_k_ref_mix_codes_fn(const int8_t *w, const void *v, uint32_t kv, uint32_t head_dim, uint32_t d,
                                       uint32_t slot0, uint32_t slot1);
bool tlm_k_ref_attn_coded(const tlm_attn *a, tlm_k_ref_score_codes_fn *score, tlm_k_ref_mix_codes_fn *mix);

#endif
