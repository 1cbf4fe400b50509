/* What the four attention kernels share: the order of rules 16 and 17. The kernels bring their element types. */
#ifndef TLM_K_REF_ATTN_H
#define TLM_K_REF_ATTN_H

#include "tlm_kernels.h"

/* Scratch of a part: e, one float a position of the window, then the codes of a query head. */
size_t tlm_k_ref_attn_scratch(uint32_t context, uint32_t head_dim);

/* f32 and f16 (rule 16). `k` and `v` are regions of one page. */
typedef struct tlm_k_ref_attn_exact_ops {
    /* sum8(q*k) of kv head `kv`, slot `slot`. */
    float (*score)(const float *q, const void *k, uint32_t kv, uint32_t head_dim, uint32_t slot);
    /* out = e*v where `first`, else out = out + e*v. */
    void (*mix)(float *out, float e, const void *v, uint32_t kv, const tlm_attn *a, uint32_t slot, bool first);
} tlm_k_ref_attn_exact_ops;
bool tlm_k_ref_attn_exact(const tlm_attn *a, const tlm_k_ref_attn_exact_ops *ops);

/* i8 and i4 (rule 17). */
typedef struct tlm_k_ref_attn_coded_ops {
    /* Integer dot of a query head's codes with slot `slot` of kv head `kv`. */
    int32_t (*score)(const int8_t *q, const void *k, uint32_t kv, uint32_t head_dim, uint32_t slot);
    /* Integer dot of dimension d of slots slot0..slot1-1 with w[0..slot1-slot0). */
    int32_t (*mix)(const int8_t *w, const void *v, uint32_t kv, uint32_t head_dim, uint32_t d, uint32_t slot0,
                   uint32_t slot1);
} tlm_k_ref_attn_coded_ops;
bool tlm_k_ref_attn_coded(const tlm_attn *a, const tlm_k_ref_attn_coded_ops *ops);

#endif
