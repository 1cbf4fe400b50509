/* The kernel table: the only door between the core and the kernels.
 *
 * tlm_kernels_ref() fills every slot; a backend overwrites the slots it has, so fallback is by
 * construction. A table lives in the session (no constant tables: those would be relocated data).
 * Every slot gives the bits of NUMERICS.md. Kernels see this header, tlm_math.h (the functions of NUMERICS.md),
 * tlm_blob_gen.h and tlm_config.h, nothing else.
 *
 * Alignment contract: weights 64 (tiles 16), codes, activations and KV regions 16. np = columns rounded up to
 * 16; floats and codes past n are zero up to np. 64 readable bytes follow every weight tensor.
 */
#ifndef TLM_KERNELS_H
#define TLM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tlm_blob_gen.h"
#include "tlm_config.h"

/* A weight matrix [rows, cols] in the layout of BLOB.md, or repacked by the same backend's `repack`. */
typedef struct tlm_weight {
    const void *data;
    uint32_t rows, cols;
    float scale;     /* t2 and t1 */
    uint8_t type;    /* TLM_TENSOR_TYPE_* */
    bool repacked;
} tlm_weight;

/* Input vectors of a linear layer: floats, or codes with their scales and sums. Vector b starts at
 * x + b*x_stride, codes + b*code_stride, scales + b*block_stride, sums + b*block_stride. */
typedef struct tlm_input {
    const float *x;
    const int8_t *codes;
    const float *scales; /* one per 32 columns, or one (scales[0]) per vector for t2 and t1 */
    const int32_t *sums; /* sum of codes of each 32 columns, always per block */
    uint32_t n, batch;
    uint32_t x_stride, code_stride, block_stride;
} tlm_input;

/* One attention of one token, heads head0..head1-1, positions first..last (NUMERICS 16-18).
 *
 * KV pages. Page p of a layer holds its positions 16p..16p+15. Offsets name the regions in a page.
 * Position t sits in slot t % 16. With kd = head_dim and kvh kv heads:
 *   K  f32 f16 i8: [kvh][kd][16]         i4: [kvh][(kd+1)/2][16], low nibble dim 2g as value+8,
 *                                             high nibble dim 2g+1 signed (pad dim: value 0)
 *   V  f32 f16:    [16][kvh*kd]          i8: [kvh][kd][16]      i4: as K
 *   ks, vs (i8, i4): u16 bf16 [16]; of a group of heads with scales of its own those offsets, and the codes of all
 * Slots never written are not read as values, but may be read as bytes (times weight 0 codes). */
typedef struct tlm_attn {
    const float *q; /* [n_heads][head_dim], after RoPE */
    float *out;     /* likewise */
    void *const *pages;
    size_t k, v, ks, vs; /* byte offsets in a page */
    uint32_t head_dim, n_heads, n_kv_heads;
    uint32_t first, last, head0, head1;
    float scale;
    void *scratch; /* attn_scratch bytes, 64-aligned, of this part alone */
} tlm_attn;

/* Keys of n tokens, or a group of their heads, [kvh*kd] floats each, for the positions from `position` on of an i4 cache. */
typedef struct tlm_fed_keys {
    float *k; /* `stride` floats from token to token; overwritten */
    uint32_t n, stride, position;
    uint32_t n_kv_heads, head_dim;
    const tlm_weight *feedback; /* q4_0 [kd, channels of all heads] */
    void *const *pages;
    size_t codes, scales; /* byte offsets in a page, as k and ks of tlm_attn */
    uint32_t head0;       /* which of all heads is the first here */
} tlm_fed_keys;

/* y[b*y_stride + row] for the rows of tiles tile0..tile1-1, never past w->rows; no bias. */
typedef void tlm_linear_fn(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1,
                           float *y, uint32_t y_stride);
/* Row `row` as floats, zero up to np. Embedding lookup; needs the blob's own layout. */
typedef void tlm_row_fn(const tlm_weight *w, uint32_t row, float *out);
/* Rule 5 and 6: codes[np], scales, sums of x[n]; `floor` is 0 or the clamp. false: not finite. */
typedef bool tlm_quant_fn(const float *x, uint32_t n, float floor, int8_t *codes, float *scales, int32_t *sums);
/* Rule 11: y may be x. `g` NULL = unit gain, `b` NULL = none. Zeroes y up to np. */
typedef void tlm_norm_fn(const float *x, uint32_t n, float eps, const float *g, const float *b, float *y);
/* Rule 14: g[i] = act(g[i]) * (up ? up[i] : nothing). */
typedef void tlm_act_fn(float *g, const float *up, uint32_t n);
/* y[i] = y[i] + x[i] (bias, residual). */
typedef void tlm_add_fn(float *y, const float *x, uint32_t n);
/* y[i] = y[i] * x[i] (queries of rule 12). */
typedef void tlm_mul_fn(float *y, const float *x, uint32_t n);
/* Rule 12: k[i] = (k[i] - centre[i]) / scale[i] in n vectors of `dims` floats, `stride` apart; scales that tlm_check_spec.c
 * allows. What is not finite stays so. */
typedef void tlm_centre_fn(float *k, uint32_t n, uint32_t dims, uint32_t stride, const float *centre, const float *scale);
/* What a row of a certified head may still reach (rule 20): `later` is what a unit of its norm adds, `room` is |centre|. */
typedef struct tlm_bound {
    float later, centre, room, loose, bar;
} tlm_bound;
/* v = v + more over n rows, at most 256; bit t of the result: one of rows 8t..8t+7 may reach the bar. */
typedef uint32_t tlm_bound_fn(const tlm_bound *b, const float *more, const uint8_t *norms, uint32_t n, float *v);
/* Rule 12 over `heads` heads: cs holds [rope_dims/2] cosines, then as many sines. */
typedef void tlm_rope_fn(float *x, uint32_t heads, uint32_t head_dim, uint32_t rope_dims, const float *cs);
/* Stores one position's k or v, or a group of its heads, [kvh*kd] floats, at slot; scale may be NULL (f32, f16). false: not
 * finite. */
typedef bool tlm_kv_store_fn(const float *x, uint32_t n_kv_heads, uint32_t head_dim, bool is_v, void *region,
                             uint16_t *scales, uint32_t slot);
/* Stores the keys of a batch in an i4 cache, their rounding fed back (rule 15). false: not finite. */
typedef bool tlm_kv_feed_fn(const tlm_fed_keys *args);
/* Rules 16-18. false: a query or a score that is not finite (rule 3). */
typedef bool tlm_attn_fn(const tlm_attn *args);
/* The same for the n tokens of a batch from args->last on; their queries and outputs are `stride` floats apart. */
typedef bool tlm_attn_batch_fn(const tlm_attn *args, uint32_t n, uint32_t window, uint32_t stride);

/* Rule 18: the first position that `last` sees; window 0 is none. */
static inline uint32_t tlm_window_first(uint32_t last, uint32_t window)
{
    return window != 0 && last >= window ? last + 1u - window : 0;
}

typedef struct tlm_kernels {
    const char *name;
    tlm_linear_fn *linear[TLM_TENSOR_TYPE_COUNT];
    tlm_row_fn *row[TLM_TENSOR_TYPE_COUNT];
    tlm_quant_fn *quant_block;  /* per 32 columns */
    tlm_quant_fn *quant_vector; /* one scale */
    tlm_norm_fn *norm[TLM_NORM_KIND_COUNT];
    tlm_act_fn *act[TLM_ACT_COUNT];
    tlm_add_fn *add;
    tlm_mul_fn *mul;
    tlm_centre_fn *centre;
    tlm_bound_fn *bound;
    tlm_rope_fn *rope;
    tlm_kv_store_fn *kv_store[TLM_KV_COUNT];
    tlm_kv_feed_fn *kv_feed;
    tlm_attn_fn *attn[TLM_KV_COUNT];
    tlm_attn_batch_fn *attn_batch[TLM_KV_COUNT]; /* optional, and so is its use; the same scratch */
    size_t (*attn_scratch)(uint32_t context, uint32_t head_dim);
    /* Optional: bytes of a repacked copy (0 = this type stays in place), the copy itself, and the kernels for
     * weights with `repacked` set; their tiles are those of the blob's layout. */
    size_t (*repack_bytes)(const tlm_weight *w);
    void (*repack)(const tlm_weight *w, void *out);
    tlm_linear_fn *linear_repacked[TLM_TENSOR_TYPE_COUNT];
} tlm_kernels;

/* Each backend fills what it has; it returns false, and changes nothing, when this CPU lacks it. */
void tlm_kernels_ref(tlm_kernels *k);
bool tlm_kernels_avx2(tlm_kernels *k);
bool tlm_kernels_avx512vnni(tlm_kernels *k);
bool tlm_kernels_esp32s3(tlm_kernels *k);
/* Ref, then the named backend (NULL: the best). false: no such backend here. */
bool tlm_kernels_select(tlm_kernels *k, const char *name);

#endif
