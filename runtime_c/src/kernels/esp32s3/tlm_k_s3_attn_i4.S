/* The two products of rule 17 of NUMERICS.md over an int4 cache, for one query head. A byte holds two dims of a position:
 * 16*odd + even + 8; odd = (8*byte) >> 7.
 *
 * void tlm_k_s3_score_i4(const tlm_k_s3_score *args)
 *     As tlm_k_s3_score_i8; keys [(dims+1)/2][16]; q: dims + 2 bytes readable; dims 1..512 (512*8*127 < 2^19).
 *     112 instructions and 6 for two dims for 16 positions, 15 a call. a2-a15, f0-f8, q0, q1, q3-q6, QACC, SAR.
 *
 * void tlm_k_s3_mix_i4(const int8_t *w, const int8_t *v0, const int8_t *v1, uint32_t dims, const float *scale, float *out)
 *     As tlm_k_s3_mix_i8; v0, v1: [(dims+1)/2][16]. 26 instructions for two dims, 15 a call (an odd last one 15).
 *     a2-a10, f0-f2, q0-q7, ACCX, SAR.
 */
#include "tlm_k_s3_attn.h"

    .section .rodata
    .align 16
.Li4_tables:
    .long 0x0F0F0F0F, 0x0F0F0F0F, 0x0F0F0F0F, 0x0F0F0F0F
    .long 0x08080808, 0x08080808, 0x08080808, 0x08080808

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_score_i4
    .type tlm_k_s3_score_i4, @function
tlm_k_s3_score_i4:
    SCORE_BEGIN
    movi a8, .Li4_tables
    ee.vld.128.ip q3, a8, 16
    ee.vld.128.ip q4, a8, 16
    addi a6, a6, 1
    srli a6, a6, 1
.Lpage:
    l32i a8, a3, 0
    mov a9, a2
    addi a3, a3, 4
    add a8, a8, a15
    ssai 7
    ee.zero.qacc
    ee.vldbc.8 q1, a9
    loopnez a6, .Ldims
    ee.vld.128.ip q0, a8, 16
    ee.andq q5, q0, q3
    ee.vmul.s8 q6, q0, q4
    ee.vsubs.s8 q5, q5, q4
    ee.vmulas.s8.qacc.ldbc.incp q1, a9, q5, q1
    ee.vmulas.s8.qacc.ldbc.incp q1, a9, q6, q1
.Ldims:
    SCORES
    addi a7, a7, -1
    bnez a7, .Lpage
    retw.n
    .size tlm_k_s3_score_i4, . - tlm_k_s3_score_i4

/* The sum of the even dim of q2, q3 to a8. */
    .macro EVEN
    ee.zero.accx
    ee.andq q6, q2, q4
    ee.andq q7, q3, q4
    ee.vsubs.s8 q6, q6, q5
    ee.vsubs.s8 q7, q7, q5
    ee.vmulas.s8.accx q6, q0
    ee.vmulas.s8.accx q7, q1
    rur.accx_0 a8
    .endm

    .macro ADD_TO_OUT sum
    lsi f0, a7, 0
    float.s f1, \sum, 0
    mul.s f1, f1, f2
    add.s f0, f0, f1
    ssip f0, a7, 4
    .endm

    .align 4
    .global tlm_k_s3_mix_i4
    .type tlm_k_s3_mix_i4, @function
tlm_k_s3_mix_i4:
    entry a1, 32
    movi a8, .Li4_tables
    ee.vld.128.ip q4, a8, 16
    ee.vld.128.ip q5, a8, 16
    ee.vld.128.ip q0, a2, 16
    ee.vld.128.ip q1, a2, 16
    lsi f2, a6, 0
    srli a10, a5, 1
    ssai 7
    loopnez a10, .Lmixed
    ee.vld.128.ip q2, a3, 16
    ee.vld.128.ip q3, a4, 16
    EVEN
    ee.zero.accx
    ee.vmul.s8 q2, q2, q5
    ee.vmul.s8 q3, q3, q5
    ee.vmulas.s8.accx q2, q0
    ee.vmulas.s8.accx q3, q1
    rur.accx_0 a9
    ADD_TO_OUT a8
    ADD_TO_OUT a9
.Lmixed:
    bbci a5, 0, .Ldone
    ee.vld.128.ip q2, a3, 16
    ee.vld.128.ip q3, a4, 16
    EVEN
    ADD_TO_OUT a8
.Ldone:
    retw.n
    .size tlm_k_s3_mix_i4, . - tlm_k_s3_mix_i4
