/* The two products of rule 17 of NUMERICS.md over an int8 cache, for one query head.
 *
 * void tlm_k_s3_score_i8(const tlm_k_s3_score *args)
 *     scores[16*p + s] = (float)S * (qa * ks[16*p + s]) for all 16 slots of pages 0..n_pages-1, S = sum of q*k over the
 *     head's dims. q any alignment, dims + 1 bytes readable; ks and scores 16-aligned; dims 1..32 (32*127*127 < 2^19: no
 *     lane of QACC saturates); n_pages >= 1. Slots outside of the window give values that nobody uses.
 *     111 instructions and 2 a dim for 16 positions, 12 a call. a2-a15, f0-f8, q0, q1, QACC, SAR.
 *
 * void tlm_k_s3_mix_i8(const int8_t *w, const int8_t *v0, const int8_t *v1, uint32_t dims, const float *scale, float *out)
 *     out[d] = out[d] + (float)S * *scale, S = sum over 32 positions of w*v; v0, v1: the head's [dims][16] in the block's two
 *     pages. w, v0, v1 16-aligned; dims >= 1. The caller starts out with -0.0, which leaves the first term as it is.
 *     Nothing is read past an end. 10 instructions a dim, 6 a call. a2-a8, f0-f2, q0-q3, ACCX.
 */
#include "tlm_k_s3_attn.h"

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_score_i8
    .type tlm_k_s3_score_i8, @function
tlm_k_s3_score_i8:
    SCORE_BEGIN
.Lpage:
    l32i a8, a3, 0
    mov a9, a2
    addi a3, a3, 4
    add a8, a8, a15
    ee.zero.qacc
    ee.vldbc.8 q1, a9
    loopnez a6, .Ldims
    ee.vld.128.ip q0, a8, 16
    ee.vmulas.s8.qacc.ldbc.incp q1, a9, q0, q1
.Ldims:
    SCORES
    addi a7, a7, -1
    bnez a7, .Lpage
    retw.n
    .size tlm_k_s3_score_i8, . - tlm_k_s3_score_i8

    .align 4
    .global tlm_k_s3_mix_i8
    .type tlm_k_s3_mix_i8, @function
tlm_k_s3_mix_i8:
    entry a1, 32
    ee.vld.128.ip q0, a2, 16
    ee.vld.128.ip q1, a2, 16
    lsi f2, a6, 0
    loopnez a5, .Lmixed
    ee.vld.128.ip q2, a3, 16
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q3, a4, 16, q2, q0
    ee.vmulas.s8.accx q3, q1
    lsi f0, a7, 0
    rur.accx_0 a8
    float.s f1, a8, 0
    mul.s f1, f1, f2
    add.s f0, f0, f1
    ssip f0, a7, 4
.Lmixed:
    retw.n
    .size tlm_k_s3_mix_i8, . - tlm_k_s3_mix_i8
