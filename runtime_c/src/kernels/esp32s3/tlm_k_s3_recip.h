/* Quotients for the assembly kernels (assembler only).
 *
 * RECIP: f2 = 1/f1, correctly rounded for every significand (tests/emu: all 2^23 of them; the constant decides). An estimate
 * out of the bits, its residual e used as (1 + e)(1 + e^2 + e^4), one step of Newton's: the residuals are fused on purpose,
 * what is rounded is the quotient, once. `bits`: those of f1; `magic` = RECIP_MAGIC; `one` = 1.0. f3 and `at` are lost. */
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
