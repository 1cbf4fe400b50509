/* Rule 15 of NUMERICS.md with feedback: codes of four heads of one position.
 *
 * void tlm_k_s3_feed(const float *k, int8_t *out, const float *f, float *e, const float *inv, uint32_t dims)
 *     k [4][dims]; out as tlm_k_s3_store_i4 has it, dims/2*16 bytes a head. f holds fours, one number of each head: a zero, then
 *     F[d][i] for d = dims-2 .. 0 and i = d+1 .. dims-1. e [dims + 1][4] takes the errors, e[dims] is zero. |k * *inv| <= 7. dims
 *     even, k 4-aligned, f and e 16-aligned. Instructions for 4 heads: 80 for two dimensions, 10 a four of f, 31 a call. a2-a15,
 *     f0-f15, q0-q5.
 *
 * A sum that starts with the zero's product has the bits of its other terms, or is a zero of the other sign, which is the same code.
 * The rounding comes before the bounds: both keep order, and the bounds are integers.
 */
    .set AT_ROUND, 16           /* two of them, then inv */
    .set AT_INV, 24
    .set FEED_FRAME, 32 + 48

    .section .rodata
    .align 16
.Lfeed_table:
    .long 0x4B3FFFF9, 0x4B3FFFF9, 0x4B3FFFF9, 0x4B3FFFF9 /* q2: 12582912 - 7 */
    .long 0x4B400007, 0x4B400007, 0x4B400007, 0x4B400007 /* q3: 12582912 + 7 */
    .long 0x4B400001, 0x4B400001, 0x4B400001, 0x4B400001 /* q4, q5: the same, 8 more for the low nibble */
    .long 0x4B40000F, 0x4B40000F, 0x4B40000F, 0x4B40000F
    .long 0x4B400000, 0x4B400008, 0, 0 /* 12582912, 8 more */

/* f8-f11 = the next four of f times the next four errors. */
    .macro FED_PRODUCTS
    ee.ldf.128.ip f11, f10, f9, f8, a4, 16
    ee.ldf.128.ip f15, f14, f13, f12, a15, 16
    mul.s f8, f8, f12
    mul.s f9, f9, f13
    mul.s f10, f10, f14
    mul.s f11, f11, f15
    .endm

/* One dimension: q0 = its codes on top of the word at a1 + \round. */
    .macro DIMENSION round, least, most, end
    lsxp f0, a2, a14
    lsxp f1, a8, a14
    lsxp f2, a9, a14
    lsxp f3, a10, a14
    lsi f8, a1, AT_INV
    addi a15, a5, 16
    mul.s f0, f0, f8            /* y */
    mul.s f1, f1, f8
    mul.s f2, f2, f8
    mul.s f3, f3, f8
    FED_PRODUCTS
    add.s f4, f0, f8            /* t */
    add.s f5, f1, f9
    add.s f6, f2, f10
    add.s f7, f3, f11
    loopgtz a7, \end
    FED_PRODUCTS
    add.s f4, f4, f8
    add.s f5, f5, f9
    add.s f6, f6, f10
    add.s f7, f7, f11
\end:
    lsi f8, a1, \round
    addi a7, a7, 1
    add.s f4, f4, f8
    add.s f5, f5, f8
    add.s f6, f6, f8
    add.s f7, f7, f8
    ee.stf.128.ip f7, f6, f5, f4, a1, 0
    ee.vld.128.ip q0, a1, 0
    ee.vmax.s32 q0, q0, \least
    ee.vmin.s32 q0, q0, \most
    ee.vst.128.ip q0, a1, 0
    ee.ldf.128.ip f7, f6, f5, f4, a1, 0
    sub.s f4, f4, f8
    sub.s f5, f5, f8
    sub.s f6, f6, f8
    sub.s f7, f7, f8
    sub.s f0, f0, f4
    sub.s f1, f1, f5
    sub.s f2, f2, f6
    sub.s f3, f3, f7
    ee.stf.128.ip f3, f2, f1, f0, a5, -16
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_feed
    .type tlm_k_s3_feed, @function
tlm_k_s3_feed:
    entry a1, FEED_FRAME
    lsi f0, a6, 0
    movi a6, .Lfeed_table
    ee.vld.128.ip q2, a6, 16
    ee.vld.128.ip q3, a6, 16
    ee.vld.128.ip q4, a6, 16
    ee.vld.128.ip q5, a6, 16
    ee.vld.128.ip q0, a6, 0
    addi a15, a1, AT_ROUND
    ee.vst.128.ip q0, a15, 0
    ssi f0, a1, AT_INV
    slli a10, a7, 2             /* a2, a8, a9, a10: the last dimension of each head */
    add a2, a2, a10
    addi a2, a2, -4
    add a8, a2, a10
    add a9, a8, a10
    add a10, a9, a10
    slli a13, a7, 3             /* a3, a11, a12, a13: the last pair of codes */
    add a3, a3, a13
    addi a3, a3, -16
    add a11, a3, a13
    add a12, a11, a13
    add a13, a12, a13
    addi a15, a7, -1            /* a5: the last dimension's errors */
    slli a15, a15, 4
    add a5, a5, a15
    srli a6, a7, 1              /* pairs left */
    movi a14, -4
    movi a7, -1                 /* fours of f after the first: none for two dimensions */
    ssai 4
.Lfed_pair:
    DIMENSION AT_ROUND, q2, q3, .Lfed_odd
    ee.vsl.32 q1, q0
    DIMENSION AT_ROUND + 4, q4, q5, .Lfed_even
    ee.vadds.s32 q0, q0, q1
    ee.movi.32.a q0, a15, 0
    s8i a15, a3, 0
    ee.movi.32.a q0, a15, 1
    s8i a15, a11, 0
    ee.movi.32.a q0, a15, 2
    s8i a15, a12, 0
    ee.movi.32.a q0, a15, 3
    s8i a15, a13, 0
    addi a3, a3, -16
    addi a11, a11, -16
    addi a12, a12, -16
    addi a13, a13, -16
    addi a6, a6, -1
    bnez a6, .Lfed_pair
    retw.n
    .size tlm_k_s3_feed, . - tlm_k_s3_feed
