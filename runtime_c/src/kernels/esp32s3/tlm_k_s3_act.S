/* Rule 14 of NUMERICS.md: void name(float *g, const float *up, uint32_t n), g[i] = act(g[i]), times up[i] unless up is 0.
 *
 * tlm_k_s3_act_gelu_tanh, tlm_k_s3_act_silu. g and up 4-aligned; nothing outside of them is read or written. A value of g
 * that is not finite gives one that is not finite. 47 and 42 instructions a value, half of one for the largest and 42 a
 * call, where g is 16-aligned, n a multiple of 4 and all |g| are small (GELU_NEAR, SILU_NEAR); else 3 more a value. 5 more a
 * value with up. a2-a13, f0-f15, q0-q2, q6.
 *
 * sigmoid(v) = 1/(1 + e), e = exp(-v) with -v held in -60..60: below, rule 13 gives 0, and 1 + e is 1 either way. Small values
 * need no holding.
 */
#include "tlm_k_s3_exp.h"
#include "tlm_k_s3_peak.h"
#include "tlm_k_s3_recip.h"

    .set GELU_NEAR, 0x41080000  /* 8.5: 2u < 58 */
    .set SILU_NEAR, 0x42700000  /* 60 */

    .section .rodata
    .align 16
.Lact_table:
    .long 0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF
    EXP_TABLE 0x3D372713        /* GELU_C */
    .long 0xBFCC422A            /* -2*GELU_K: doubling and sign round nothing */

/* f2 = sigmoid(-f1); a7 = RECIP_MAGIC. */
    .macro SIGMOID_OF_MINUS
    EXP a8, a9
    wfr f1, a8
    add.s f1, f1, f14           /* d */
    rfr a8, f1
    RECIP a9, a8, a7, f14
    .endm

/* Away to the label `clamp` where f1 is out of -60..60, and back to `clamped`; a5 = 2*bits(60). */
    .macro HOLD clamp, clamped
    rfr a8, f1
    add a9, a8, a8
    bltu a5, a9, \clamp
\clamped:
    .endm

    .macro CLAMP clamp, clamped
\clamp:
    movi a9, 0x42700000
    min a8, a8, a9
    movi a9, 0xC2700000
    minu a8, a8, a9
    wfr f1, a8
    j \clamped
    .endm

/* To the label `far` unless g is aligned and whole, and no value is larger than `near`. */
    .macro ACT_BEGIN near, far, end
    entry a1, 32
    movi a10, .Lact_table
    ee.vld.128.ip q6, a10, 16
    EXP_CONSTANTS a10
    movi a5, 0x84E00000
    movi a7, RECIP_MAGIC
    mov a11, a2
    slli a8, a4, 2
    or a8, a8, a2
    extui a8, a8, 0, 4
    bnez a8, \far
    srli a6, a4, 2
    beqz a6, \far
    mov a12, a2
    PEAK a12, a6, a8, a9, a13, a6, \end
    movi a9, \near
    sub a9, a9, a8
    bltz a9, \far
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

/* f0 = the value at a11, f1 = -2u of it. */
    .macro GELU_ARGUMENT
    lsi f0, a11, 0
    mul.s f1, f0, f0
    mul.s f1, f1, f0
    mul.s f1, f15, f1
    lsi f2, a10, 48
    add.s f1, f0, f1
    mul.s f1, f2, f1            /* -(u + u) */
    .endm

    .macro PRODUCT
    mul.s f0, f0, f2
    ssip f0, a11, 4
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_act_gelu_tanh
    .type tlm_k_s3_act_gelu_tanh, @function
tlm_k_s3_act_gelu_tanh:
    ACT_BEGIN GELU_NEAR, .Lgelu_far, .Lgelu_peak
    loopnez a4, .Lgelu
    GELU_ARGUMENT
    SIGMOID_OF_MINUS
    PRODUCT
.Lgelu:
    ACT_END
    CLAMP .Lgelu_clamp, .Lgelu_clamped
.Lgelu_far:
    loopnez a4, 1f
    GELU_ARGUMENT
    HOLD .Lgelu_clamp, .Lgelu_clamped
    SIGMOID_OF_MINUS
    PRODUCT
1:
    ACT_END
    .size tlm_k_s3_act_gelu_tanh, . - tlm_k_s3_act_gelu_tanh

    .align 4
    .global tlm_k_s3_act_silu
    .type tlm_k_s3_act_silu, @function
tlm_k_s3_act_silu:
    ACT_BEGIN SILU_NEAR, .Lsilu_far, .Lsilu_peak
    loopnez a4, .Lsilu
    lsi f0, a11, 0
    neg.s f1, f0
    SIGMOID_OF_MINUS
    PRODUCT
.Lsilu:
    ACT_END
    CLAMP .Lsilu_clamp, .Lsilu_clamped
.Lsilu_far:
    loopnez a4, 1f
    lsi f0, a11, 0
    neg.s f1, f0
    HOLD .Lsilu_clamp, .Lsilu_clamped
    SIGMOID_OF_MINUS
    PRODUCT
1:
    ACT_END
    .size tlm_k_s3_act_silu, . - tlm_k_s3_act_silu
