/* Rule 13 of NUMERICS.md for the assembly kernels (assembler only).
 *
 * EXP: one exponential in f1-f3 with the constants in f4-f15.
 *
 * EXP_FOUR: four of them, of f4-f7 into the integers of q0; f12-f14 as EXP_CONSTANTS leaves them, SAR = 23, `at` a table, `scratch` room
 * for 16 bytes. Loads of four change the other constants, and PIE adds the powers of two. f0-f11, q1 are lost. */

/* Fills f4-f15 from the table at `at`. */
    .macro EXP_CONSTANTS at
    ee.ldf.128.ip f7, f6, f5, f4, \at, 16
    ee.ldf.128.ip f11, f10, f9, f8, \at, 16
    ee.ldf.128.ip f15, f14, f13, f12, \at, -32
    .endm

/* 16-aligned. */
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

/* f8-f11 by one number, and by f4-f7. */
    .macro ALL work, by
    \work f8, f8, \by
    \work f9, f9, \by
    \work f10, f10, \by
    \work f11, f11, \by
    .endm

    .macro EACH work
    \work f8, f8, f4
    \work f9, f9, f5
    \work f10, f10, f6
    \work f11, f11, f7
    .endm

    .macro EXP_FOUR at, scratch
    ee.ldf.128.ip f3, f2, f1, f0, \at, 16
    mul.s f8, f4, f0
    mul.s f9, f5, f0
    mul.s f10, f6, f0
    mul.s f11, f7, f0
    ALL add.s, f1
    ee.stf.128.ip f11, f10, f9, f8, \scratch, 0
    ALL sub.s, f1
    ee.vld.128.ip q1, \scratch, 0
    msub.s f4, f8, f2           /* exact, as above */
    msub.s f5, f9, f2
    msub.s f6, f10, f2
    msub.s f7, f11, f2
    ALL mul.s, f3
    ee.ldf.128.ip f3, f2, f1, f0, \at, -16
    sub.s f4, f4, f8            /* r */
    sub.s f5, f5, f9
    sub.s f6, f6, f10
    sub.s f7, f7, f11
    mul.s f8, f4, f0
    mul.s f9, f5, f0
    mul.s f10, f6, f0
    mul.s f11, f7, f0
    ALL add.s, f1
    EACH mul.s
    ALL add.s, f2
    EACH mul.s
    ALL add.s, f3
    EACH mul.s
    ALL add.s, f12
    EACH mul.s
    ALL add.s, f13              /* p */
    EACH mul.s
    EACH mul.s
    EACH add.s
    ALL add.s, f14
    ee.vsl.32 q1, q1
    ee.stf.128.ip f11, f10, f9, f8, \scratch, 0
    ee.vld.128.ip q0, \scratch, 0
    ee.vadds.s32 q0, q0, q1     /* never saturates: within the exponents of e^-60 and e^60 */
    .endm
