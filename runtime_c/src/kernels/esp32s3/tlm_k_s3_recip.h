/* Quotients for the assembly kernels (assembler only).
 *
 * RECIP: f2 = 1/f1, correctly rounded for every significand (tests/emu: all 2^23 of them; the constant decides). An estimate
 * out of the bits, its residual e used as (1 + e)(1 + e^2 + e^4), one step of Newton's: the residuals are fused on purpose,
 * what is rounded is the quotient, once. `bits`: those of f1; `magic` = RECIP_MAGIC; `one` = 1.0. f3 and `at` are lost.
 *
 * RECIP_FOUR: the same of f4-f7 in f8-f11. `bits` (lost) and `magic` hold fours of integers, `scratch` is room for 16 bytes, at `ones`
 * stand four of 1.0. f12-f15 are lost. */
    .set RECIP_MAGIC, 0x7EF31315

    .macro RECIP at, bits, magic, one
    sub \at, \magic, \bits
    wfr f2, \at
    mov.s f3, \one
    msub.s f3, f1, f2
    madd.s f2, f2, f3
    mul.s f3, f3, f3
    madd.s f3, f3, f3
    madd.s f2, f2, f3
    mov.s f3, \one
    msub.s f3, f1, f2
    madd.s f2, f2, f3
    .endm

    .macro RESIDUALS ones
    ee.ldf.128.ip f15, f14, f13, f12, \ones, 0
    msub.s f12, f4, f8
    msub.s f13, f5, f9
    msub.s f14, f6, f10
    msub.s f15, f7, f11
    .endm

    .macro ADD_PRODUCTS
    madd.s f8, f8, f12
    madd.s f9, f9, f13
    madd.s f10, f10, f14
    madd.s f11, f11, f15
    .endm

    .macro RECIP_FOUR bits, magic, scratch, ones
    ee.vsubs.s32 \bits, \magic, \bits
    ee.vst.128.ip \bits, \scratch, 0
    ee.ldf.128.ip f11, f10, f9, f8, \scratch, 0
    RESIDUALS \ones
    ADD_PRODUCTS
    mul.s f12, f12, f12
    mul.s f13, f13, f13
    mul.s f14, f14, f14
    mul.s f15, f15, f15
    madd.s f12, f12, f12
    madd.s f13, f13, f13
    madd.s f14, f14, f14
    madd.s f15, f15, f15
    ADD_PRODUCTS
    RESIDUALS \ones
    ADD_PRODUCTS
    .endm
