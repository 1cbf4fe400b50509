/* Rule 13 of NUMERICS.md for the assembly kernels: constants in f4-f15, one exponential in f1-f3. */

/* Fills f4-f15 from the table at `at`. */
    .macro EXP_CONSTANTS at
    lsi f4, \at, 0
    lsi f5, \at, 4
    lsi f6, \at, 8
    lsi f7, \at, 12
    lsi f8, \at, 16
    lsi f9, \at, 20
    lsi f10, \at, 24
    lsi f11, \at, 28
    lsi f12, \at, 32
    lsi f13, \at, 36
    lsi f14, \at, 40
    lsi f15, \at, 44
    .endm

    .macro EXP_TABLE last
    .long 0x3FB8AA3B            /* f4: LOG2E */
    .long 0x4B400000            /* f5: 12582912, n in its low bits */
    .long 0x3F318000            /* f6: LN2_HI */
    .long 0xB95E8083            /* f7: LN2_LO */
    .long 0x394F840B            /* f8: E5 */
    .long 0x3AB6C6D9            /* f9: E4 */
    .long 0x3C088939            /* f10: E3 */
    .long 0x3D2AAA47            /* f11: E2 */
    .long 0x3E2AAAAA            /* f12: E1 */
    .long 0x3F000000            /* f13: E0 */
    .long 0x3F800000            /* f14: 1 */
    .long \last                 /* f15 */
    .endm

/* \bits = bits(exp(f1)) for |f1| <= 60; \n is lost, f1-f3 too. */
    .macro EXP bits, n
    mul.s f2, f1, f4
    add.s f2, f2, f5
    rfr \n, f2
    sub.s f2, f2, f5
    msub.s f1, f2, f6           /* the product is exact: 7 bits times 9 */
    mul.s f3, f2, f7
    sub.s f3, f1, f3            /* r */
    mul.s f1, f8, f3
    add.s f1, f1, f9
    mul.s f1, f1, f3
    add.s f1, f1, f10
    mul.s f1, f1, f3
    add.s f1, f1, f11
    mul.s f1, f1, f3
    add.s f1, f1, f12
    mul.s f1, f1, f3
    add.s f1, f1, f13           /* p */
    mul.s f1, f1, f3
    mul.s f1, f1, f3
    add.s f1, f1, f3
    add.s f1, f1, f14
    rfr \bits, f1
    slli \n, \n, 23             /* the 12582912 leaves no trace in these bits */
    add \bits, \bits, \n
    .endm
