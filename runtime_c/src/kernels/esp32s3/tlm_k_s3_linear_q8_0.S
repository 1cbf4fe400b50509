/* void tlm_k_s3_linear_q8_0(const tlm_k_s3_linear *args): rule 7 of NUMERICS.md, one input vector, whole tiles.
 *
 * args (tlm_k_s3.h)   tiles and codes 16-aligned; y 16-aligned, 8 floats a tile; scratch 4-aligned, 4 bytes a block;
 *                     every input scale below 2^15 (the caller checks); n_tiles >= 1, np >= 16.
 * reads past the end  nothing where np % 32 = 0; else 16 bytes after the tiles and 16 after the codes (times zero).
 * instructions        77 a block of 8 rows and 32 columns (the first 69), 2 a turn of the inner loop, 11 a tile.
 * registers           a2-a10, a12-a15, f0-f15, q0, q1, q3-q7, ACCX, SAR.
 */
#include "tlm_k_s3_single.h"

    /* Frame: 32 bytes of converted scales, then what each tile starts from. */
    .set FRAME, 48 + FRAME_TOP
    .set AT_CODES, 32
    .set AT_SCRATCH, 36
    .set AT_STEPS, 40
    .set AT_SCALES_STEP, 44

    .section .rodata
    .align 16
.Lq8_tables:
    .long 0x8FFFE000, 0x8FFFE000, 0x8FFFE000, 0x8FFFE000
    .long 0x77800000 /* 2^112 */

/* sum = w*x of the row in q3, q4 (inputs q0, q1), which get the next row's weights; `next` is the step after those. Before the
 * sum is read stands the product ws = ws*as. */
    .macro SUM sum, next, ws
    MULTIPLY \next
    mul.s \ws, \ws, f12
    rur.accx_0 \sum
    .endm

    .macro MULTIPLY next
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q3, a3, 16, q3, q0
    ee.vmulas.s8.accx.ld.xp q4, a3, \next, q4, q1
    .endm

/* acc = acc + (float)S * (ws*as) for the two rows of a9 and a10, without acc in the first block. */
    .macro ACCUMULATE acc0, acc1, ws0, ws1, first
    float.s f13, a9, 0
    float.s f14, a10, 0
    ADD_TERMS \acc0, \acc1, \ws0, \ws1, \first
    .endm

/* Eight rows of one block. `wrap` is the step from its last row to the first row of the next block. */
    .macro BLOCK wrap, first, last
    .if \last
    l32i a10, a1, AT_SCALES_STEP
    ee.vld.128.xp q7, a6, a10
    .else
    ee.vld.128.ip q7, a6, 16
    .endif
    MULTIPLY a13
    lsip f12, a5, 4
    rur.accx_0 a9
    CONVERT q6, q7, q5
    ee.vst.128.ip q6, a7, 16
    ee.vst.128.ip q7, a7, -16
    ee.ldf.128.ip f11, f10, f9, f8, a7, 16
    SUM a10, a13, f8
    mul.s f9, f9, f12
    ACCUMULATE f0, f1, f8, f9, \first
    SUM a9, a13, f10
    SUM a10, a13, f11
    ACCUMULATE f2, f3, f10, f11, \first
    ee.ldf.128.ip f11, f10, f9, f8, a7, -16
    SUM a9, a13, f8
    SUM a10, a13, f9
    ACCUMULATE f4, f5, f8, f9, \first
    SUM a9, \wrap, f10
    SUM a10, a13, f11
    ee.vld.128.ip q0, a4, 16
    ee.vld.128.ip q1, a4, 16
    ACCUMULATE f6, f7, f10, f11, \first
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_linear_q8_0
    .type tlm_k_s3_linear_q8_0, @function
tlm_k_s3_linear_q8_0:
    entry a1, FRAME
    l32i a13, a2, ARG_NP
    l32i a4, a2, ARG_CODES
    l32i a5, a2, ARG_SCRATCH
    addi a12, a13, 16
    srli a12, a12, 5            /* blocks */
    s32i a4, a1, AT_CODES
    s32i a5, a1, AT_SCRATCH
    addi a9, a12, -2
    s32i a9, a1, AT_STEPS

    movi a8, .Lq8_tables
    ee.vld.128.ip q5, a8, 16
    lsi f15, a8, 0
    mov a7, a1
    ssai 3

    /* scratch[k] = as_k * 2^112 */
    l32i a9, a2, ARG_SCALES
    loopnez a12, .Lprepared
    lsip f12, a9, 4
    mul.s f12, f12, f15
    ssip f12, a5, 4
.Lprepared:
    l32i a5, a1, AT_SCRATCH

    l32i a6, a2, ARG_TILES
    slli a9, a12, 4             /* bytes of a tile's scales */
    add a3, a6, a9
    sub a8, a13, a9
    addi a8, a8, 16             /* np - 16*blocks + 16: to the next tile */
    slli a10, a13, 3
    movi a14, 16
    add a9, a10, a14
    s32i a9, a1, AT_SCALES_STEP
    sub a10, a10, a13
    sub a14, a14, a10           /* 16 - 7*np: to the next block */
    addi a13, a13, -16          /* to the next row */
    l32i a15, a2, ARG_N_TILES
    l32i a2, a2, ARG_Y
    ee.vld.128.ip q0, a4, 16
    ee.vld.128.ip q1, a4, 16
    ee.vld.128.ip q3, a3, 16
    ee.vld.128.xp q4, a3, a13
    TILES
    .size tlm_k_s3_linear_q8_0, . - tlm_k_s3_linear_q8_0
