/* The softmax of rules 16 and 17 of NUMERICS.md in steps.
 *
 * uint32_t tlm_k_s3_range(const float *x, uint32_t quads, float *top)
 *     The largest of 4*quads values, 16-aligned, quads >= 1. Returns 0 where one is not finite, 1 where all lie within 60 of
 *     it, else 2. 5 instructions for 4 values, 48 a call. a2-a13, f0-f2, q0-q4, q6.
 *
 * void tlm_k_s3_exp(float *x, uint32_t n, const float *top)
 *     x[i] = exp(x[i] - *top), rule 13, for x[i] <= *top. x 4-aligned. 31 instructions a value, 9 a call. a2-a9, f0-f15.
 *
 * void tlm_k_s3_exp_near(float *x, uint32_t quads, const float *top)
 *     The same of 4*quads values, 16-aligned, quads >= 1, for x[i] - *top >= -60. 96 instructions for 4 values, 8 a call. a2-a5,
 *     f0-f15, q0, q1.
 *
 * float tlm_k_s3_sum8(const float *x, uint32_t groups)
 *     sum8 of 8*groups values (rule 4; the caller fills the last group with +0.0), 16-aligned; groups >= 1. 10 instructions a
 *     group, 4 a call. a2, a3, f0-f11.
 *
 * void tlm_k_s3_divide(float *x, uint32_t quads, const float *z)
 *     x[i] = x[i] * (1/ *z) for 4*quads values, 16-aligned; 1 <= *z < 2^100. 6 instructions for 4 values, 19 a call. a2-a8,
 *     f1-f7.
 *
 * void tlm_k_s3_mul(float *out, const float *x, const float *y, uint32_t n)
 *     out[i] = x[i]*y[i]; all 16-aligned, n a multiple of 4. 7 instructions for 4 values, 5 a call. a2-a5, f0-f7.
 *
 * void tlm_k_s3_scales(void *const *pages, size_t offset, float *out, uint32_t n_pages)
 *     out[16*p + i] = bf16 i at `offset` of page p; there and out 16-aligned. 13 instructions a page, 3 a call. a2-a7, q0, q1.
 */
#include "tlm_k_s3_exp.h"
#include "tlm_k_s3_recip.h"

    .section .rodata
    .align 16
.Lrange_table:
    .long 0x80000000, 0x80000000, 0x80000000, 0x80000000
.Lexp_table:
    EXP_TABLE 0

/* The lanes of q into one, by `max` or `min`. */
    .macro REDUCE work, q, to
    ee.movi.32.a \q, \to, 0
    ee.movi.32.a \q, a11, 1
    ee.movi.32.a \q, a12, 2
    ee.movi.32.a \q, a13, 3
    \work \to, \to, a11
    \work a12, a12, a13
    \work \to, \to, a12
    .endm

/* Eight bf16 at a6 to floats at a4: zeros come below each. */
    .macro WIDEN
    ee.zero.q q0
    ee.vld.128.ip q1, a6, 16
    ee.vzip.16 q0, q1
    ee.vst.128.ip q0, a4, 16
    ee.vst.128.ip q1, a4, 16
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_range
    .type tlm_k_s3_range, @function
tlm_k_s3_range:
    entry a1, 32
    movi a5, .Lrange_table
    ee.vld.128.ip q6, a5, 0
    ee.vld.128.ip q0, a2, 16
    mv.qr q1, q0
    mv.qr q2, q0
    ee.xorq q3, q0, q6
    addi a3, a3, -1
    loopnez a3, .Lranged
    ee.vld.128.ip q0, a2, 16
    ee.vmax.s32 q1, q1, q0
    ee.vmin.s32 q2, q2, q0
    ee.xorq q4, q0, q6
    ee.vmax.s32 q3, q3, q4      /* as unsigned numbers: the most negative float */
.Lranged:
    REDUCE max, q1, a8
    REDUCE min, q2, a9
    REDUCE max, q3, a10
    movi a2, 0
    movi a5, 0x7F800000
    bge a8, a5, .Lnot_finite
    bge a10, a5, .Lnot_finite
    mov a7, a9                  /* all positive: the least number is the least float */
    movi a6, 0x80000000
    xor a11, a10, a6
    movgez a7, a11, a10
    movgez a9, a8, a8           /* all negative: the least number is the largest float */
    wfr f0, a9
    wfr f1, a7
    s32i a9, a4, 0
    sub.s f2, f0, f1
    rfr a8, f2
    movi a5, 0x42700000
    movi a2, 1
    bgeu a5, a8, .Lnot_finite
    movi a2, 2
.Lnot_finite:
    retw.n
    .size tlm_k_s3_range, . - tlm_k_s3_range

    .align 4
    .global tlm_k_s3_exp
    .type tlm_k_s3_exp, @function
tlm_k_s3_exp:
    entry a1, 32
    movi a5, .Lexp_table
    EXP_CONSTANTS a5
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
    .global tlm_k_s3_exp_near
    .type tlm_k_s3_exp_near, @function
tlm_k_s3_exp_near:
    entry a1, 16 + 48
    movi a5, .Lexp_table
    EXP_CONSTANTS a5
    lsi f15, a4, 0
    ssai 23
.Lexp_near:
    ee.ldf.128.ip f7, f6, f5, f4, a2, 0
    sub.s f4, f4, f15
    sub.s f5, f5, f15
    sub.s f6, f6, f15
    sub.s f7, f7, f15
    EXP_FOUR a5, a1
    ee.vst.128.ip q0, a2, 16
    addi a3, a3, -1
    bnez a3, .Lexp_near
    retw.n
    .size tlm_k_s3_exp_near, . - tlm_k_s3_exp_near

    .align 4
    .global tlm_k_s3_sum8
    .type tlm_k_s3_sum8, @function
tlm_k_s3_sum8:
    entry a1, 32
    ee.ldf.128.ip f3, f2, f1, f0, a2, 16
    ee.ldf.128.ip f7, f6, f5, f4, a2, 16
    addi a3, a3, -1
    loopnez a3, .Lsummed
    ee.ldf.128.ip f11, f10, f9, f8, a2, 16
    add.s f0, f0, f8
    add.s f1, f1, f9
    add.s f2, f2, f10
    add.s f3, f3, f11
    ee.ldf.128.ip f11, f10, f9, f8, a2, 16
    add.s f4, f4, f8
    add.s f5, f5, f9
    add.s f6, f6, f10
    add.s f7, f7, f11
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
    .global tlm_k_s3_divide
    .type tlm_k_s3_divide, @function
tlm_k_s3_divide:
    entry a1, 32
    l32i a5, a4, 0
    movi a6, RECIP_MAGIC
    movi a7, 0x3F800000
    wfr f4, a7
    wfr f1, a5
    RECIP a8, a5, a6, f4
    loopnez a3, .Ldivided
    ee.ldf.128.ip f7, f6, f5, f4, a2, 0
    mul.s f4, f4, f2
    mul.s f5, f5, f2
    mul.s f6, f6, f2
    mul.s f7, f7, f2
    ee.stf.128.ip f7, f6, f5, f4, a2, 16
.Ldivided:
    retw.n
    .size tlm_k_s3_divide, . - tlm_k_s3_divide

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

    .align 4
    .global tlm_k_s3_scales
    .type tlm_k_s3_scales, @function
tlm_k_s3_scales:
    entry a1, 32
    loopnez a5, .Lwidened
    l32i a6, a2, 0
    addi a2, a2, 4
    add a6, a6, a3
    WIDEN
    WIDEN
.Lwidened:
    retw.n
    .size tlm_k_s3_scales, . - tlm_k_s3_scales
