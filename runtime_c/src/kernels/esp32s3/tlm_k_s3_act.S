/* Rule 14 of NUMERICS.md: void name(float *g, const float *up, uint32_t n), g[i] = act(g[i]), times up[i] unless up is 0.
 *
 * tlm_k_s3_act_gelu_tanh, tlm_k_s3_act_silu. g and up 4-aligned; nothing outside of them is read or written. A value of g
 * that is not finite gives one that is not finite. 60 and 54 instructions a value, 5 more with up, 21 a call.
 * a2-a13, f0-f15.
 *
 * sigmoid(v) = 1/(1 + e), e = exp(-v) with -v held in -60..60: below, rule 13 gives 0, and 1 + e is 1 either way.
 *
 * The quotient 1/d, 1 <= d: four fused Newton steps from an estimate out of the bits of d, each coming from below, give the
 * correctly rounded value for every significand but the all-ones one (tests/emu: all 2^23 of them), which belongs one
 * unit higher, y*(1 + 2^-23). The residuals are fused on purpose: what is rounded is the quotient, once.
 */
#include "tlm_k_s3_exp.h"

    .section .rodata
    .align 4
.Lact_table:
    EXP_TABLE 0x3F800001        /* 1 + 2^-23 */
    .long 0x3D372713            /* GELU_C */
    .long 0xBFCC422A            /* -2*GELU_K: doubling and sign round nothing */

    .macro NEWTON
    mov.s f3, f14
    msub.s f3, f1, f2
    madd.s f2, f2, f3
    .endm

/* f2 = sigmoid(-f1); a5 = bits(60), a6 = bits(-60), a7 = 0x7EF311C7. */
    .macro SIGMOID_OF_MINUS
    rfr a8, f1
    min a8, a8, a5
    minu a8, a8, a6
    wfr f1, a8
    EXP a8, a9
    wfr f1, a8
    add.s f1, f1, f14           /* d */
    rfr a8, f1
    sub a9, a7, a8
    wfr f2, a9
    NEWTON
    NEWTON
    NEWTON
    NEWTON
    slli a8, a8, 9
    addmi a8, a8, 512           /* 0: all ones */
    mul.s f3, f2, f15
    moveqz.s f2, f3, a8
    .endm

    .macro ACT_BEGIN
    entry a1, 32
    EXP_CONSTANTS .Lact_table, a10
    movi a5, 0x42700000
    movi a6, 0xC2700000
    movi a7, 0x7EF311C7
    mov a11, a2
    .endm

    .macro ACT_END
    beqz a3, 2f
    loopnez a4, 2f
    lsi f0, a2, 0
    lsip f1, a3, 4
    mul.s f0, f0, f1
    ssip f0, a2, 4
2:
    retw.n
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_act_gelu_tanh
    .type tlm_k_s3_act_gelu_tanh, @function
tlm_k_s3_act_gelu_tanh:
    ACT_BEGIN
    loopnez a4, 1f
    lsi f0, a11, 0
    lsi f2, a10, 48
    mul.s f1, f0, f0
    mul.s f1, f1, f0
    mul.s f1, f2, f1
    lsi f2, a10, 52
    add.s f1, f0, f1
    mul.s f1, f2, f1            /* -(u + u) */
    SIGMOID_OF_MINUS
    mul.s f0, f0, f2
    ssip f0, a11, 4
1:
    ACT_END
    .size tlm_k_s3_act_gelu_tanh, . - tlm_k_s3_act_gelu_tanh

    .align 4
    .global tlm_k_s3_act_silu
    .type tlm_k_s3_act_silu, @function
tlm_k_s3_act_silu:
    ACT_BEGIN
    loopnez a4, 1f
    lsi f0, a11, 0
    neg.s f1, f0
    SIGMOID_OF_MINUS
    mul.s f0, f0, f2
    ssip f0, a11, 4
1:
    ACT_END
    .size tlm_k_s3_act_silu, . - tlm_k_s3_act_silu
