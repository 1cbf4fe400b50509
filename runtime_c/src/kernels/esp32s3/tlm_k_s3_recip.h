/* Quotients for the assembly kernels (assembler only).
 *
 * RECIP: f2 = 1/f1, correctly rounded for every significand but the all-ones one, where it is one unit low (tests/emu: all
 * 2^23 of them). An estimate out of the bits, one cubic step, two of Newton's: the residuals are fused on purpose, what is
 * rounded is the quotient, once. `bits`: those of f1; `magic` = 0x7EF311C7; `one` = 1.0. f3 and `at` are lost. */
    .macro RECIP at, bits, magic, one
    sub \at, \magic, \bits
    wfr f2, \at
    mov.s f3, \one
    msub.s f3, f1, f2
    madd.s f3, f3, f3
    madd.s f2, f2, f3
    NEWTON \one
    NEWTON \one
    .endm

    .macro NEWTON one
    mov.s f3, \one
    msub.s f3, f1, f2
    madd.s f2, f2, f3
    .endm
