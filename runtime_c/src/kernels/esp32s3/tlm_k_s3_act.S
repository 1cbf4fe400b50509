/* Rule 14 of NUMERICS.md: void name(float *g, const float *up, uint32_t n), g[i] = act(g[i]), times up[i] unless up is 0.
 *
 * tlm_k_s3_act_gelu_tanh, tlm_k_s3_act_silu. g and up 16-aligned, n a multiple of 4 and not 0; nothing outside of them is read or
 * written. A value of g that is not finite gives one that is not finite. Instructions for 4 values: 163 and 146, 8 more where
 * one |g| is not small (GELU_NEAR, SILU_NEAR), 7 more with up; 29 a call. a2-a14, f0-f15, q0-q5.
 *
 * sigmoid(v) = 1/(1 + e), e = exp(-v) with -v held in -60..60: below, rule 13 gives 0, and 1 + e is 1 either way. Small values
 * need no holding.
 */
#include "tlm_k_s3_exp.h"
#include "tlm_k_s3_peak.h"
#include "tlm_k_s3_recip.h"

    .set GELU_NEAR, 0x41080000  /* 8.5: 2u < 58 */
    .set SILU_NEAR, 0x42700000  /* 60 */

    .section .rodata
    .align 16
.Lact_table:
    .long 0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF
    .long 0x42700000, 0x42700000, 0x42700000, 0x42700000 /* 60 */
    .long RECIP_MAGIC, RECIP_MAGIC, RECIP_MAGIC, RECIP_MAGIC
    .long 0x3F800000, 0x3F800000, 0x3F800000, 0x3F800000
    EXP_TABLE 0xBFCC422A        /* -2*GELU_K: doubling and sign round nothing */
    .long 0x3D372713            /* GELU_C */

/* a11 = g, a13 = the ones, a10 = the exponential's table, a12 = its last four, a9 < 0 where a value is larger than `near`. */
    .macro ACT_BEGIN near, end
    entry a1, 16 + 48
    movi a10, .Lact_table
    ee.vld.128.ip q6, a10, 16
    ee.vld.128.ip q4, a10, 16
    ee.vld.128.ip q5, a10, 16
    mov a13, a10
    addi a10, a10, 16
    addi a12, a10, 32
    ssai 23
    srli a4, a4, 2
    mov a11, a2
    mov a6, a4
    PEAK a11, a6, a8, a9, a7, a14, \end
    mov a11, a2
    mov a6, a4
    movi a9, \near
    sub a9, a9, a8
    .endm

/* g = g * 1/(1 + exp(f4-f7)), the next four. */
    .macro SIGMOID_OF_MINUS near
    bgez a9, \near
    ee.stf.128.ip f7, f6, f5, f4, a1, 0
    ee.vld.128.ip q0, a1, 0
    ee.andq q1, q0, q6
    ee.xorq q0, q0, q1          /* the signs */
    ee.vmin.s32 q1, q1, q4
    ee.orq q0, q0, q1
    ee.vst.128.ip q0, a1, 0
    ee.ldf.128.ip f7, f6, f5, f4, a1, 0
\near:
    EXP_FOUR a10, a1
    ee.vst.128.ip q0, a1, 0
    ee.ldf.128.ip f7, f6, f5, f4, a1, 0
    add.s f4, f4, f14
    add.s f5, f5, f14
    add.s f6, f6, f14
    add.s f7, f7, f14
    ee.stf.128.ip f7, f6, f5, f4, a1, 0
    ee.vld.128.ip q0, a1, 0
    RECIP_FOUR q0, q5, a1, a13
    ee.ldf.128.ip f7, f6, f5, f4, a11, 0
    EACH mul.s
    ee.stf.128.ip f11, f10, f9, f8, a11, 16
    .endm

    .macro ACT_END next
    addi a6, a6, -1
    bnez a6, \next
    beqz a3, 2f
    loopnez a4, 2f
    ee.ldf.128.ip f11, f10, f9, f8, a2, 0
    ee.ldf.128.ip f7, f6, f5, f4, a3, 16
    EACH mul.s
    ee.stf.128.ip f11, f10, f9, f8, a2, 16
2:
    retw.n
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_act_gelu_tanh
    .type tlm_k_s3_act_gelu_tanh, @function
tlm_k_s3_act_gelu_tanh:
    ACT_BEGIN GELU_NEAR, .Lgelu_peak
.Lgelu:
    ee.ldf.128.ip f7, f6, f5, f4, a11, 0
    ee.ldf.128.ip f15, f14, f13, f12, a12, 0
    lsi f0, a10, 48
    mul.s f8, f4, f4
    mul.s f9, f5, f5
    mul.s f10, f6, f6
    mul.s f11, f7, f7
    EACH mul.s
    ALL mul.s, f0
    EACH add.s
    mul.s f4, f8, f15           /* -(u + u) */
    mul.s f5, f9, f15
    mul.s f6, f10, f15
    mul.s f7, f11, f15
    SIGMOID_OF_MINUS .Lgelu_near
    ACT_END .Lgelu
    .size tlm_k_s3_act_gelu_tanh, . - tlm_k_s3_act_gelu_tanh

    .align 4
    .global tlm_k_s3_act_silu
    .type tlm_k_s3_act_silu, @function
tlm_k_s3_act_silu:
    ACT_BEGIN SILU_NEAR, .Lsilu_peak
.Lsilu:
    ee.ldf.128.ip f7, f6, f5, f4, a11, 0
    ee.ldf.128.ip f15, f14, f13, f12, a12, 0
    neg.s f4, f4
    neg.s f5, f5
    neg.s f6, f6
    neg.s f7, f7
    SIGMOID_OF_MINUS .Lsilu_near
    ACT_END .Lsilu
    .size tlm_k_s3_act_silu, . - tlm_k_s3_act_silu
