/* The softmax of rules 16 and 17 of NUMERICS.md in steps, over floats of any 4-aligned place.
 *
 * float tlm_k_s3_max(const float *x, uint32_t n)
 *     The largest, the first of equal ones; n >= 1, no NaN. 3 instructions a value, 7 a call. a2-a4, f0, f1, b0.
 *
 * void tlm_k_s3_exp(float *x, uint32_t n, const float *top)
 *     x[i] = exp(x[i] - *top), rule 13, for x[i] <= *top. 32 instructions a value, 17 a call. a2-a9, f0-f15.
 *
 * float tlm_k_s3_sum8(const float *x, uint32_t groups)
 *     sum8 of 8*groups values (rule 4; the caller fills the last group with +0.0); groups >= 1. 17 instructions a group, 12 a
 *     call. a2-a4, f0-f8.
 *
 * void tlm_k_s3_mul(float *out, const float *x, const float *y, uint32_t n)
 *     out[i] = x[i]*y[i]; all 16-aligned, n a multiple of 4. 7 instructions for 4 values, 5 a call. a2-a5, f0-f7.
 */
#include "tlm_k_s3_exp.h"

    .section .rodata
    .align 4
.Lexp_table:
    EXP_TABLE 0

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_max
    .type tlm_k_s3_max, @function
tlm_k_s3_max:
    entry a1, 32
    lsip f0, a2, 4
    addi a3, a3, -1
    loopnez a3, .Lmaxed
    lsip f1, a2, 4
    olt.s b0, f0, f1
    movt.s f0, f1, b0
.Lmaxed:
    rfr a2, f0
    retw.n
    .size tlm_k_s3_max, . - tlm_k_s3_max

    .align 4
    .global tlm_k_s3_exp
    .type tlm_k_s3_exp, @function
tlm_k_s3_exp:
    entry a1, 32
    EXP_CONSTANTS .Lexp_table, a5
    lsi f0, a4, 0
    movi a5, 0xC2700000         /* -60: what is larger as a number is further down */
    loopnez a3, .Lexped
    lsi f1, a2, 0
    sub.s f1, f1, f0
    rfr a7, f1
    movi a8, 0
    bltu a5, a7, .Lbelow
    EXP a8, a9
.Lbelow:
    s32i a8, a2, 0
    addi a2, a2, 4
.Lexped:
    retw.n
    .size tlm_k_s3_exp, . - tlm_k_s3_exp

    .align 4
    .global tlm_k_s3_sum8
    .type tlm_k_s3_sum8, @function
tlm_k_s3_sum8:
    entry a1, 32
    lsi f0, a2, 0
    lsi f1, a2, 4
    lsi f2, a2, 8
    lsi f3, a2, 12
    lsi f4, a2, 16
    lsi f5, a2, 20
    lsi f6, a2, 24
    lsi f7, a2, 28
    addi a3, a3, -1
    loopnez a3, .Lsummed
    addi a2, a2, 32
    lsi f8, a2, 0
    add.s f0, f0, f8
    lsi f8, a2, 4
    add.s f1, f1, f8
    lsi f8, a2, 8
    add.s f2, f2, f8
    lsi f8, a2, 12
    add.s f3, f3, f8
    lsi f8, a2, 16
    add.s f4, f4, f8
    lsi f8, a2, 20
    add.s f5, f5, f8
    lsi f8, a2, 24
    add.s f6, f6, f8
    lsi f8, a2, 28
    add.s f7, f7, f8
.Lsummed:
    add.s f0, f0, f4
    add.s f2, f2, f6
    add.s f1, f1, f5
    add.s f3, f3, f7
    add.s f0, f0, f2
    add.s f1, f1, f3
    add.s f0, f0, f1
    rfr a2, f0
    retw.n
    .size tlm_k_s3_sum8, . - tlm_k_s3_sum8

    .align 4
    .global tlm_k_s3_mul
    .type tlm_k_s3_mul, @function
tlm_k_s3_mul:
    entry a1, 32
    srli a5, a5, 2
    loopnez a5, .Lmultiplied
    ee.ldf.128.ip f3, f2, f1, f0, a3, 16
    ee.ldf.128.ip f7, f6, f5, f4, a4, 16
    mul.s f0, f0, f4
    mul.s f1, f1, f5
    mul.s f2, f2, f6
    mul.s f3, f3, f7
    ee.stf.128.ip f3, f2, f1, f0, a2, 16
.Lmultiplied:
    retw.n
    .size tlm_k_s3_mul, . - tlm_k_s3_mul
