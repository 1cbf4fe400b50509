/* Rule 14 of NUMERICS.md: void name(float *g, const float *up, uint32_t n), g[i] = act(g[i]), times up[i] unless up is 0.
 *
 * tlm_k_s3_act_gelu_tanh, tlm_k_s3_act_silu. g and up 4-aligned; nothing outside of them is read or written. A value of g
 * that is not finite gives one that is not finite. 51 and 46 instructions a value, 5 more with up, 21 a call.
 * a2-a13, f0-f15.
 *
 * sigmoid(v) = 1/(1 + e), e = exp(-v) with -v held in -60..60: below, rule 13 gives 0, and 1 + e is 1 either way.
 *
 * The quotient 1/d, 1 <= d, of RECIP; for the all-ones significand y*(1 + 2^-23).
 */
#include "tlm_k_s3_exp.h"
#include "tlm_k_s3_recip.h"

    .section .rodata
    .align 4
.Lact_table:
    EXP_TABLE 0x3D372713        /* GELU_C */
    .long 0xBFCC422A            /* -2*GELU_K: doubling and sign round nothing */
    .long 0x3F800001            /* 1 + 2^-23 */

/* f2 = sigmoid(-f1); a5 = 2*bits(60), a6 = 0x7FFFFF, a7 = 0x7EF311C7. Out of the way: the label `clamp` brings f1 into -60..60
 * and goes on at `clamped`, `mend` an all-ones quotient, and goes on at `mended`. */
    .macro SIGMOID_OF_MINUS clamp, clamped, mend, mended
    rfr a8, f1
    add a9, a8, a8
    bltu a5, a9, \clamp
\clamped:
    EXP a8, a9
    wfr f1, a8
    add.s f1, f1, f14           /* d */
    rfr a8, f1
    RECIP a9, a8, a7, f14
    ball a8, a6, \mend
\mended:
    .endm

/* Before the function, so that its loop reaches it. */
    .macro CLAMP clamp, clamped
    .align 4
\clamp:
    movi a9, 0x42700000
    min a8, a8, a9
    movi a9, 0xC2700000
    minu a8, a8, a9
    wfr f1, a8
    j \clamped
    .endm

    .macro MEND mend, mended
\mend:
    lsi f3, a10, 52
    mul.s f2, f2, f3
    j \mended
    .endm

    .macro ACT_BEGIN
    entry a1, 32
    EXP_CONSTANTS .Lact_table, a10
    movi a5, 0x84E00000
    movi a6, 0x007FFFFF
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
    CLAMP .Lgelu_clamp, .Lgelu_clamped
    .align 4
    .global tlm_k_s3_act_gelu_tanh
    .type tlm_k_s3_act_gelu_tanh, @function
tlm_k_s3_act_gelu_tanh:
    ACT_BEGIN
    loopnez a4, 1f
    lsi f0, a11, 0
    mul.s f1, f0, f0
    mul.s f1, f1, f0
    mul.s f1, f15, f1
    lsi f2, a10, 48
    add.s f1, f0, f1
    mul.s f1, f2, f1            /* -(u + u) */
    SIGMOID_OF_MINUS .Lgelu_clamp, .Lgelu_clamped, .Lgelu_mend, .Lgelu_mended
    mul.s f0, f0, f2
    ssip f0, a11, 4
1:
    ACT_END
    MEND .Lgelu_mend, .Lgelu_mended
    .size tlm_k_s3_act_gelu_tanh, . - tlm_k_s3_act_gelu_tanh

    CLAMP .Lsilu_clamp, .Lsilu_clamped
    .align 4
    .global tlm_k_s3_act_silu
    .type tlm_k_s3_act_silu, @function
tlm_k_s3_act_silu:
    ACT_BEGIN
    loopnez a4, 1f
    lsi f0, a11, 0
    neg.s f1, f0
    SIGMOID_OF_MINUS .Lsilu_clamp, .Lsilu_clamped, .Lsilu_mend, .Lsilu_mended
    mul.s f0, f0, f2
    ssip f0, a11, 4
1:
    ACT_END
    MEND .Lsilu_mend, .Lsilu_mended
    .size tlm_k_s3_act_silu, . - tlm_k_s3_act_silu
