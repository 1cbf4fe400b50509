/* The assembly kernels of this folder as C sees them. Contracts, register use and instruction counts stand over each .S. */
#ifndef TLM_K_S3_H
#define TLM_K_S3_H

#include "tlm_kernels.h"

/* Whole tiles of a linear layer against one vector (linear) or 4, 8, 12 or 16 (batch; t2: any number). Strides are in
 * bytes. tlm_k_s3_asm.h repeats the offsets. */
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
void tlm_k_s3_batch_q4_0(const tlm_k_s3_linear *args);
void tlm_k_s3_batch_q8_0(const tlm_k_s3_linear *args);

#endif
