/* The assembly kernels of this folder as C sees them. Contracts, register use and instruction counts stand over each .S. */
#ifndef TLM_K_S3_H
#define TLM_K_S3_H

#include "tlm_kernels.h"

/* Whole tiles of a linear layer against one vector (linear; t2: any number), 4 (four), or 4, 6, ... or 16 (batch). Strides
 * are in bytes. tlm_k_s3_asm.h repeats the offsets. */
typedef struct tlm_k_s3_linear {
    const void *tiles;
    const int8_t *codes;
    const float *scales;
    const int32_t *sums;
    float *y;
    void *scratch;
    uint32_t n_tiles, np, batch;
    uint32_t code_stride, block_stride, y_stride;
    float scale; /* t2 */
} tlm_k_s3_linear;

void tlm_k_s3_linear_q4_0(const tlm_k_s3_linear *args);
void tlm_k_s3_linear_q8_0(const tlm_k_s3_linear *args);
void tlm_k_s3_linear_t2(const tlm_k_s3_linear *args);
void tlm_k_s3_four_q4_0(const tlm_k_s3_linear *args);
void tlm_k_s3_batch_q4_0(const tlm_k_s3_linear *args);
void tlm_k_s3_batch_q8_0(const tlm_k_s3_linear *args);

/* Rule 5 by blocks, of one vector, and in two halves with a division in between (tlm_k_s3_quant.S). */
uint32_t tlm_k_s3_quant(const float *x, int8_t *codes, float *scales, int32_t *sums, uint32_t units, uint32_t floor);
uint32_t tlm_k_s3_query(const float *x, int8_t *codes, float *scale, uint32_t quads);
void tlm_k_s3_absmax(const float *x, uint32_t np, void *peaks);
void tlm_k_s3_codes(const float *x, int8_t *codes, const void *inv, uint32_t inv_step, int32_t *sums, uint32_t np);

/* Scores of one query head over whole pages, and the mix of 32 positions (tlm_k_s3_attn_i8.S, _i4.S). */
typedef struct tlm_k_s3_score {
    void *const *pages;
    size_t offset; /* of the kv head's keys in a page */
    const int8_t *q;
    const float *ks;
    float *scores;
    uint32_t dims, n_pages;
    float qa;
} tlm_k_s3_score;

void tlm_k_s3_score_i8(const tlm_k_s3_score *args);
void tlm_k_s3_score_i4(const tlm_k_s3_score *args);
void tlm_k_s3_mix_i8(const int8_t *w, const int8_t *v0, const int8_t *v1, uint32_t dims, const float *scale, float *out);
void tlm_k_s3_mix_i4(const int8_t *w, const int8_t *v0, const int8_t *v1, uint32_t dims, const float *scale, float *out);

/* The bf16 scales at `offset` of each page, 16 a page, to floats (tlm_k_s3_softmax.S). */
void tlm_k_s3_scales(void *const *pages, size_t offset, float *out, uint32_t n_pages);

/* Softmax in steps (tlm_k_s3_softmax.S). */
uint32_t tlm_k_s3_range(const float *x, uint32_t quads, float *top);
void tlm_k_s3_exp(float *x, uint32_t n, const float *top);
void tlm_k_s3_exp_near(float *x, uint32_t quads, const float *top);
float tlm_k_s3_sum8(const float *x, uint32_t groups);
void tlm_k_s3_divide(float *x, uint32_t quads, const float *z);
void tlm_k_s3_mul(float *out, const float *x, const float *y, uint32_t n);

/* Rule 11 in two passes (tlm_k_s3_norm.S). */
float tlm_k_s3_centre(float *y, const float *x, const float *m, uint32_t groups);
void tlm_k_s3_gain(float *y, const float *r, const float *g, const float *b, uint32_t quads);

/* Codes of one position of K or V (tlm_k_s3_store.S). */
void tlm_k_s3_store_i8(const float *x, int8_t *out, const float *inv, uint32_t n);
void tlm_k_s3_store_i4(const float *x, int8_t *out, const float *inv, uint32_t n);

/* The same for four heads of K with feedback (tlm_k_s3_feed.S). */
void tlm_k_s3_feed(const float *k, int8_t *out, const float *f, float *e, const float *inv, uint32_t dims);

/* Four columns of keys of a batch, rule 12 (tlm_k_s3_keys.S). */
void tlm_k_s3_keys(float *k, uint32_t n, uint32_t stride, const float *centre, const float *scale);

/* Activations of n % 4 = 0 values (tlm_k_s3_act.S). */
tlm_act_fn tlm_k_s3_act_gelu_tanh, tlm_k_s3_act_silu;

void tlm_k_s3_add(float *y, const float *x, uint32_t n);

/* The reference kernels, which take what these leave to them. */
tlm_linear_fn tlm_k_ref_linear_q8_0, tlm_k_ref_linear_q4_0, tlm_k_ref_linear_t2;
tlm_act_fn tlm_k_ref_act_gelu_tanh, tlm_k_ref_act_silu;
tlm_add_fn tlm_k_ref_add;
tlm_mul_fn tlm_k_ref_mul;
tlm_centre_fn tlm_k_ref_centre;
tlm_kv_store_fn tlm_k_ref_kv_store_i8, tlm_k_ref_kv_store_i4;
tlm_kv_feed_fn tlm_k_ref_kv_feed;
tlm_norm_fn tlm_k_ref_norm_layer, tlm_k_ref_norm_rms;
size_t tlm_k_ref_attn_scratch(uint32_t context, uint32_t head_dim);

/* The slots of the kernel table. */
tlm_linear_fn tlm_k_s3_q4_0, tlm_k_s3_q8_0, tlm_k_s3_t2;
tlm_norm_fn tlm_k_s3_norm_layer, tlm_k_s3_norm_rms;
tlm_quant_fn tlm_k_s3_quant_block, tlm_k_s3_quant_vector;
tlm_kv_store_fn tlm_k_s3_kv_store_i8, tlm_k_s3_kv_store_i4;
tlm_kv_feed_fn tlm_k_s3_kv_feed;
tlm_attn_fn tlm_k_s3_attn_i8, tlm_k_s3_attn_i4;
size_t tlm_k_s3_attn_scratch(uint32_t context, uint32_t head_dim);

#endif
