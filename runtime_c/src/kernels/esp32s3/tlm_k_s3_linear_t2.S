/* void tlm_k_s3_linear_t2(const tlm_k_s3_linear *args): rule 8 of NUMERICS.md, 1 or more input vectors, whole tiles.
 *
 * args (tlm_k_s3.h)   tiles and codes 16-aligned; y 16-aligned and its stride a multiple of 4 floats; scratch 8-aligned,
 *                     8 bytes a vector; n_tiles, batch >= 1, np >= 16. Groups outside, vectors inside: weights stream once.
 * reads past the end  16 bytes after the tiles (not used).
 * instructions        4 rows: 9 for 16 columns and 45, 9 more with several vectors; a vector: 3 a block and 13.
 * registers           a2-a15, f0-f4, q0-q4, ACCX, SAR.
 *
 * A byte holds w = b0 + 4*b1 + 16*b2 + 64*b3, each b = value + 1. As unsigned, w >> 6, w >> 4 and w >> 2 are below 43 and fit
 * the signed products: G3 = sum(b3*x), G2 = sum((b2 + 4*b3)*x), G1 = sum((b1 + 4*b2 + 16*b3)*x); b0 is masked.
 * With s = sum(x): S3 = G3 - s, S2 = G2 - 4*G3 - s, S1 = G1 - 4*G2 - s, S0 = G0 - s.
 */
#include "tlm_k_s3_asm.h"

    .set FRAME, 16 + FRAME_TOP
    .set AT_Y, 0
    .set AT_GROUPS, 4

    .section .rodata
    .align 16
.Lt2_tables:
    .long 0x01010101, 0x01010101, 0x01010101, 0x01010101
    .long 0x03030303, 0x03030303, 0x03030303, 0x03030303

/* sum = (w >> shift)*x over the row of codes at a5 and the input at a6; a8 = vectors of 16. */
    .macro SHIFTED sum, shift
    ssai \shift
    mov a3, a5
    mov a4, a6
    ee.vld.128.ip q1, a3, 16
    ee.zero.accx
    loopnez a8, 1f
    ee.vmul.u8.ld.incp q0, a4, q2, q1, q3
    ee.vmulas.s8.accx.ld.ip q1, a3, 16, q2, q0
1:
    rur.accx_0 \sum
    .endm

/* f3..f0 = the four rows at a5 for the input at a6; a13 = s, f4 = ws*as. */
    .macro GROUP
    SHIFTED a9, 6
    SHIFTED a10, 4
    SHIFTED a11, 2
    mov a3, a5
    mov a4, a6
    ee.vld.128.ip q1, a3, 16
    ee.zero.accx
    loopnez a8, 1f
    ee.vld.128.ip q0, a4, 16
    ee.andq q2, q1, q4
    ee.vmulas.s8.accx.ld.ip q1, a3, 16, q2, q0
1:
    addx4 a4, a10, a13          /* 4*G2 + s */
    sub a11, a11, a4
    addx4 a4, a9, a13           /* 4*G3 + s */
    sub a10, a10, a4
    sub a9, a9, a13
    rur.accx_0 a12
    float.s f1, a11, 0
    sub a12, a12, a13
    float.s f2, a10, 0
    float.s f3, a9, 0
    float.s f0, a12, 0
    mul.s f1, f1, f4
    mul.s f2, f2, f4
    mul.s f3, f3, f4
    mul.s f0, f0, f4
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_linear_t2
    .type tlm_k_s3_linear_t2, @function
tlm_k_s3_linear_t2:
    entry a1, FRAME
    movi a9, .Lt2_tables
    ee.vld.128.ip q3, a9, 16
    ee.vld.128.ip q4, a9, 16

    /* scratch[b] = { s, ws*as } */
    l32i a4, a2, ARG_SCALES
    l32i a5, a2, ARG_SUMS
    l32i a7, a2, ARG_SCRATCH
    l32i a9, a2, ARG_NP
    l32i a10, a2, ARG_BLOCK_STRIDE
    l32i a15, a2, ARG_BATCH
    lsi f0, a2, ARG_SCALE
    srli a8, a9, 4
    addi a9, a9, 16
    srli a9, a9, 5              /* blocks */
.Lvector:
    movi a13, 0
    mov a11, a5
    loopnez a9, .Lsummed
    l32i a12, a11, 0
    addi a11, a11, 4
    add a13, a13, a12
.Lsummed:
    lsi f4, a4, 0
    mul.s f4, f0, f4
    s32i a13, a7, 0
    ssi f4, a7, 4
    addi a7, a7, 8
    add a4, a4, a10
    add a5, a5, a10
    addi a15, a15, -1
    bnez a15, .Lvector

    l32i a5, a2, ARG_TILES
    l32i a6, a2, ARG_CODES
    l32i a7, a2, ARG_Y
    l32i a14, a2, ARG_N_TILES
    l32i a15, a2, ARG_BATCH
    slli a14, a14, 1            /* groups */
    addi a15, a15, -1
    bnez a15, .Lbatch
    slli a15, a8, 4
.Lgroup:
    GROUP
    add a5, a5, a15
    ee.stf.128.ip f3, f2, f1, f0, a7, 16
    addi a14, a14, -1
    bnez a14, .Lgroup
    retw.n

.Lbatch:
    s32i a14, a1, AT_GROUPS
    s32i a7, a1, AT_Y
.Lbatch_group:
    l32i a6, a2, ARG_CODES
    l32i a7, a1, AT_Y
    l32i a14, a2, ARG_SCRATCH
    l32i a15, a2, ARG_BATCH
.Lbatch_vector:
    l32i a13, a14, 0
    lsi f4, a14, 4
    GROUP
    l32i a3, a2, ARG_CODE_STRIDE
    l32i a4, a2, ARG_Y_STRIDE
    add a6, a6, a3
    addi a14, a14, 8
    addi a15, a15, -1
    ee.stf.128.xp f3, f2, f1, f0, a7, a4
    bnez a15, .Lbatch_vector
    l32i a3, a1, AT_Y
    l32i a14, a1, AT_GROUPS
    addi a3, a3, 16
    s32i a3, a1, AT_Y
    slli a3, a8, 4
    add a5, a5, a3
    addi a14, a14, -1
    s32i a14, a1, AT_GROUPS
    bnez a14, .Lbatch_group
    retw.n
    .size tlm_k_s3_linear_t2, . - tlm_k_s3_linear_t2
