/* Rule 5 of NUMERICS.md.
 *
 * uint32_t tlm_k_s3_quant(const float *x, int8_t *codes, float *scales, int32_t *sums, uint32_t units, uint32_t floor)
 *     Blocks of 32 of 16*units values, units >= 1 (the last block of 16 where units is odd): codes, a scale and a sum each.
 *     floor: bits of the least peak. 0: a value is not finite. x and codes 16-aligned. Nothing is read past x. 50
 *     instructions for 16 values and 2 a vector of 4, 56 a block, 14 a call. a2-a15, f0-f4, f11-f15, q0-q3, q6, q7, ACCX.
 *
 * uint32_t tlm_k_s3_query(const float *x, int8_t *codes, float *scale, uint32_t quads)
 *     One scale for 4*quads values, quads >= 1. 0: a value is not finite. x 16-aligned, codes of any alignment. Nothing is read
 *     past x. 20 instructions for 4 values, 59 a call. a2-a10, a12-a15, f0-f4, f11-f15, q0-q2, q6, q7.
 *
 * The same in two halves, for one scale a vector:
 *
 * void tlm_k_s3_absmax(const float *x, uint32_t np, uint32_t *a)
 *     a[k] = max(bits(x) & 0x7fffffff) over block k of 32 values (the last one of 16 where np % 32 = 16).
 *     x 16-aligned, np a multiple of 16. Nothing is read past x[np]. 31 instructions a block (a half 21), 10 a call.
 *     a2-a10, q0-q3.
 *
 * void tlm_k_s3_codes(const float *x, int8_t *codes, const float *inv, uint32_t inv_step, int32_t *sums, uint32_t np)
 *     codes[i] = low byte of bits(x[i]*inv[k] + 12582912.0f), sums[k] their sum; |x*inv| <= 127. inv_step = 4 for an inv a
 *     block, which may stand where the sums go, 0 for one of all. x and codes 16-aligned, nothing is read past them. 49 instructions for 16 values, 10 a
 *     block, 12 a call. a2-a12, f0-f3, f14, f15, q0-q3, q7, ACCX.
 */
#include "tlm_k_s3_peak.h"
#include "tlm_k_s3_recip.h"

    .set FRAME, 64 + 48
    .set AT_FLOOR, 64
    .set QUANT_FRAME, 80 + 48

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_absmax
    .type tlm_k_s3_absmax, @function
tlm_k_s3_absmax:
    entry a1, 32
    movi a5, 0x7FFFFFFF
    ee.movi.32.q q3, a5, 0
    ee.movi.32.q q3, a5, 1
    ee.movi.32.q q3, a5, 2
    ee.movi.32.q q3, a5, 3
    srli a3, a3, 4              /* units of 16 values */
    movi a6, 2
.Lmax_block:
    ee.vld.128.ip q0, a2, 16
    ee.zero.q q2
    min a7, a3, a6
    sub a3, a3, a7
    slli a7, a7, 2
    addi a7, a7, -1             /* vectors but the last one */
    loopnez a7, .Lmax_vectors
    ee.andq q1, q0, q3
    ee.vmax.s32.ld.incp q0, a2, q2, q2, q1
.Lmax_vectors:
    ee.andq q1, q0, q3
    ee.vmax.s32 q2, q2, q1
    ee.movi.32.a q2, a7, 0
    ee.movi.32.a q2, a8, 1
    ee.movi.32.a q2, a9, 2
    ee.movi.32.a q2, a10, 3
    max a7, a7, a8
    max a9, a9, a10
    max a7, a7, a9
    s32i a7, a4, 0
    addi a4, a4, 4
    bnez a3, .Lmax_block
    retw.n
    .size tlm_k_s3_absmax, . - tlm_k_s3_absmax

/* Four values at a2: products with f14, rounded to integers in the low bytes of f0-f3. */
    .macro ROUND_FOUR
    ee.ldf.128.ip f3, f2, f1, f0, a2, 16
    mul.s f0, f0, f14
    mul.s f1, f1, f14
    mul.s f2, f2, f14
    mul.s f3, f3, f14
    add.s f0, f0, f15
    add.s f1, f1, f15
    add.s f2, f2, f15
    add.s f3, f3, f15
    .endm

/* The same, stored at a8. */
    .macro FOUR back
    ROUND_FOUR
    ee.stf.128.ip f3, f2, f1, f0, a8, \back
    .endm

/* Codes of 16 values to a3, by way of 64 bytes at a8; q7 holds ones, ACCX sums the codes. */
    .macro SIXTEEN
    FOUR 16
    FOUR 16
    FOUR 16
    FOUR -48
    ee.vld.128.ip q0, a8, 16
    ee.vld.128.ip q1, a8, 16
    ee.vld.128.ip q2, a8, 16
    ee.vld.128.ip q3, a8, -48
    ee.vunzip.16 q0, q1
    ee.vunzip.16 q2, q3
    ee.vunzip.8 q0, q2
    ee.vmulas.s8.accx q0, q7
    ee.vst.128.ip q0, a3, 16
    .endm

    .align 4
    .global tlm_k_s3_codes
    .type tlm_k_s3_codes, @function
tlm_k_s3_codes:
    entry a1, FRAME
    movi a8, 0x4B400000         /* 12582912.0f */
    wfr f15, a8
    movi a8, 0x01010101
    ee.movi.32.q q7, a8, 0
    ee.movi.32.q q7, a8, 1
    ee.movi.32.q q7, a8, 2
    ee.movi.32.q q7, a8, 3
    mov a8, a1
    srli a9, a7, 4              /* units of 16 values */
    movi a10, 2
.Lcode_block:
    ee.zero.accx
    min a11, a9, a10
    lsi f14, a4, 0
    sub a9, a9, a11
    add a4, a4, a5
    loopnez a11, .Lcoded
    SIXTEEN
.Lcoded:
    rur.accx_0 a12
    s32i a12, a6, 0
    addi a6, a6, 4
    bnez a9, .Lcode_block
    retw.n
    .size tlm_k_s3_codes, . - tlm_k_s3_codes

/* For a peak, bits of a finite one in a8: f14 = 127/peak, a10 = bits of the scale; 0 and 0 below 2^-100. a7-a9, f0-f4 are lost;
 * the rest as QUANT_CONSTANTS leaves it. `live` and `scaled` are labels. */
    .macro INVERSE live, scaled
    movi a9, 0x0D800000         /* 2^-100 */
    movi a10, 0
    bgeu a8, a9, \live
    wfr f14, a10
    j \scaled
\live:
    wfr f1, a8
    and a9, a8, a13
    mul.s f0, f1, f13           /* the scale */
    sub a8, a8, a9              /* exponent of the peak */
    add a9, a9, a14             /* its significand, 1 <= f1 < 2 */
    wfr f1, a9
    RECIP a7, a9, a15, f11
    mul.s f3, f12, f2           /* 127/f1: a product, then the fused residual (tests/emu: all 2^23) */
    mov.s f4, f12
    msub.s f4, f3, f1
    madd.s f3, f4, f2
    rfr a9, f3
    rfr a10, f0
    sub a9, a9, a8
    add a9, a9, a14
    wfr f14, a9
\scaled:
    .endm

    .macro QUANT_CONSTANTS
    movi a8, .Lquant_table
    ee.vld.128.ip q6, a8, 16
    ee.vld.128.ip q7, a8, 16
    lsi f13, a8, 0
    lsi f12, a8, 4
    lsi f11, a8, 8
    lsi f15, a8, 12
    movi a13, 0x007FFFFF
    movi a14, 0x3F800000
    movi a15, RECIP_MAGIC
    .endm

    .section .rodata
    .align 16
.Lquant_table:
    .long 0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF
    .long 0x01010101, 0x01010101, 0x01010101, 0x01010101
    .long 0x3C010204            /* f13: 1/127 */
    .long 0x42FE0000            /* f12: 127 */
    .long 0x3F800000            /* f11: 1 */
    .long 0x4B400000            /* f15: 12582912 */

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_quant
    .type tlm_k_s3_quant, @function
tlm_k_s3_quant:
    entry a1, QUANT_FRAME
    QUANT_CONSTANTS
    s32i a7, a1, AT_FLOOR
.Lquant_block:
    movi a11, 2
    min a11, a6, a11
    sub a6, a6, a11
    mov a7, a2
    slli a12, a11, 2
    PEAK a7, a12, a8, a9, a10, a12, .Lpeak
    l32i a10, a1, AT_FLOOR
    movi a9, 0x7F800000
    bltu a8, a9, .Lfinite
    movi a2, 0
    retw.n
.Lfinite:
    maxu a8, a8, a10
    INVERSE .Llive, .Lscaled
    s32i a10, a4, 0
    addi a4, a4, 4
    mov a8, a1
    ee.zero.accx
    loopnez a11, .Lquantised
    SIXTEEN
.Lquantised:
    rur.accx_0 a9
    s32i a9, a5, 0
    addi a5, a5, 4
    bnez a6, .Lquant_block
    movi a2, 1
    retw.n
    .size tlm_k_s3_quant, . - tlm_k_s3_quant

    .align 4
    .global tlm_k_s3_query
    .type tlm_k_s3_query, @function
tlm_k_s3_query:
    entry a1, 32
    QUANT_CONSTANTS
    mov a7, a2
    mov a12, a5
    PEAK a7, a12, a8, a9, a10, a12, .Lquery_peak
    movi a9, 0x7F800000
    bltu a8, a9, .Lquery_finite
    movi a2, 0
    retw.n
.Lquery_finite:
    INVERSE .Lquery_live, .Lquery_scaled
    s32i a10, a4, 0
    loopnez a5, .Lqueried
    ROUND_FOUR
    rfr a6, f0
    rfr a7, f1
    rfr a8, f2
    rfr a9, f3
    s8i a6, a3, 0
    s8i a7, a3, 1
    s8i a8, a3, 2
    s8i a9, a3, 3
    addi a3, a3, 4
.Lqueried:
    movi a2, 1
    retw.n
    .size tlm_k_s3_query, . - tlm_k_s3_query
