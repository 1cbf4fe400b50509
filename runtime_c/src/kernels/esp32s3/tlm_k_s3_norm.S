/* Rule 11 of NUMERICS.md in two passes; what is one a vector stands in tlm_k_s3_norm.c. All vectors 16-aligned.
 *
 * float tlm_k_s3_centre(float *y, const float *x, const float *m, uint32_t groups)
 *     y[i] = x[i] - *m for 8*groups values; the dot8 of y with itself (rule 4). y may be x; groups >= 1. 28 instructions a
 *     group, 12 a call. a2-a5, f0-f15.
 *
 * void tlm_k_s3_gain(float *y, const float *r, const float *g, const float *b, uint32_t quads)
 *     y[i] = (y[i] * *r)*g[i] + b[i] for 4*quads values; without the sum where b is 0. 16 instructions for 4 values (11), 6 a
 *     call. a2-a6, f0-f12.
 */
    .macro SQUARES a0, a1, a2, a3, first
    ee.ldf.128.ip f3, f2, f1, f0, a3, 16
    sub.s f0, f0, f4
    sub.s f1, f1, f4
    sub.s f2, f2, f4
    sub.s f3, f3, f4
    ee.stf.128.ip f3, f2, f1, f0, a2, 16
    .if \first
    mul.s \a0, f0, f0
    mul.s \a1, f1, f1
    mul.s \a2, f2, f2
    mul.s \a3, f3, f3
    .else
    mul.s f0, f0, f0
    mul.s f1, f1, f1
    mul.s f2, f2, f2
    mul.s f3, f3, f3
    add.s \a0, \a0, f0
    add.s \a1, \a1, f1
    add.s \a2, \a2, f2
    add.s \a3, \a3, f3
    .endif
    .endm

    .macro GAIN
    ee.ldf.128.ip f3, f2, f1, f0, a2, 0
    ee.ldf.128.ip f7, f6, f5, f4, a4, 16
    mul.s f0, f0, f8
    mul.s f1, f1, f8
    mul.s f2, f2, f8
    mul.s f3, f3, f8
    mul.s f0, f0, f4
    mul.s f1, f1, f5
    mul.s f2, f2, f6
    mul.s f3, f3, f7
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_centre
    .type tlm_k_s3_centre, @function
tlm_k_s3_centre:
    entry a1, 32
    lsi f4, a4, 0
    addi a5, a5, -1
    SQUARES f8, f9, f10, f11, 1
    SQUARES f12, f13, f14, f15, 1
    loopnez a5, .Lcentred
    SQUARES f8, f9, f10, f11, 0
    SQUARES f12, f13, f14, f15, 0
.Lcentred:
    add.s f8, f8, f12
    add.s f10, f10, f14
    add.s f9, f9, f13
    add.s f11, f11, f15
    add.s f8, f8, f10
    add.s f9, f9, f11
    add.s f8, f8, f9
    rfr a2, f8
    retw.n
    .size tlm_k_s3_centre, . - tlm_k_s3_centre

    .align 4
    .global tlm_k_s3_gain
    .type tlm_k_s3_gain, @function
tlm_k_s3_gain:
    entry a1, 32
    lsi f8, a3, 0
    beqz a5, .Lplain
    loopnez a6, .Lshifted
    GAIN
    ee.ldf.128.ip f7, f6, f5, f4, a5, 16
    add.s f0, f0, f4
    add.s f1, f1, f5
    add.s f2, f2, f6
    add.s f3, f3, f7
    ee.stf.128.ip f3, f2, f1, f0, a2, 16
.Lshifted:
    retw.n
.Lplain:
    loopnez a6, .Lscaled
    GAIN
    ee.stf.128.ip f3, f2, f1, f0, a2, 16
.Lscaled:
    retw.n
    .size tlm_k_s3_gain, . - tlm_k_s3_gain
