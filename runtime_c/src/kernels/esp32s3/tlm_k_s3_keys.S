/* Rule 12 of NUMERICS.md: four columns of keys about their centres, in their own scales.
 *
 * void tlm_k_s3_keys(float *k, uint32_t n, uint32_t stride, const float *centre, const float *scale)
 *     k = (k - centre)/scale in n rows of four values, `stride` bytes apart; all 16-aligned. 2^-20 <= scale <= 2^20; 2^-70 <=
 *     |centre| < 2^70. What is not finite stays so. 19 instructions a row, 40 a call. a2-a7, f0-f15, q0, q1.
 *
 * The quotient is the product with the reciprocal, and one fused step of its fused residual (tests/emu: the quotients nearest to halves
 * of a last place, for every significand of the scale). With such a centre the difference is +0 or at least 2^-95, so that no residual
 * vanishes; a quotient too large for a float is infinite or none.
 */
#include "tlm_k_s3_recip.h"

    .section .rodata
    .align 16
.Lkeys_table:
    .long RECIP_MAGIC, RECIP_MAGIC, RECIP_MAGIC, RECIP_MAGIC
    .long 0x3F800000, 0x3F800000, 0x3F800000, 0x3F800000

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_keys
    .type tlm_k_s3_keys, @function
tlm_k_s3_keys:
    entry a1, 16 + 48
    movi a7, .Lkeys_table
    ee.vld.128.ip q1, a7, 16
    ee.vld.128.ip q0, a6, 0
    ee.ldf.128.ip f7, f6, f5, f4, a6, 0
    RECIP_FOUR q0, q1, a1, a7
    loopnez a3, .Lcentred
    ee.ldf.128.ip f3, f2, f1, f0, a2, 0
    ee.ldf.128.ip f15, f14, f13, f12, a5, 0
    sub.s f0, f0, f12
    sub.s f1, f1, f13
    sub.s f2, f2, f14
    sub.s f3, f3, f15
    mul.s f12, f0, f8
    mul.s f13, f1, f9
    mul.s f14, f2, f10
    mul.s f15, f3, f11
    msub.s f0, f12, f4
    msub.s f1, f13, f5
    msub.s f2, f14, f6
    msub.s f3, f15, f7
    madd.s f12, f0, f8
    madd.s f13, f1, f9
    madd.s f14, f2, f10
    madd.s f15, f3, f11
    ee.stf.128.xp f15, f14, f13, f12, a2, a4
.Lcentred:
    retw.n
    .size tlm_k_s3_keys, . - tlm_k_s3_keys
