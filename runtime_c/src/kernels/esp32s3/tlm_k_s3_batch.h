/* The batched kernels' common part: two rows of int8 weights against four input vectors (assembler only).
 *
 * Registers in a block: a3 weights, a4 inputs, a5 input scales ([block][4], times 2^112), a6 weight scales, a7 = 32 (bytes
 * of a block's weight scales), a8 to the next vector, a9 and a10 sums, a11 to the next block of the first vector, a12 and a13
 * steps of a3 after the first and the second row, a14 to the next four vectors; q0, q1 first row, q2, q3 second row, q4-q7
 * inputs; f0-f7 results (two rows of vector 0, of 1, ...), f8, f9 weight scales, f10-f13 input scales, f14, f15. Every block
 * fetches what the next one begins with: its weights and its first vector.
 *
 * TELESCOPED 1: the second row holds (row 2) - (row 1), so that its sum goes on top of the first one.
 */
#include "tlm_k_s3_asm.h"

    .set FRAME, 64 + FRAME_TOP
    .set AT_SCALES, 0           /* of the weights, converted: this pair's */
    .set AT_INPUT_SCALES, 4
    .set AT_ROWS, 8
    .set AT_BLOCKS, 12
    .set AT_TURNS, 16           /* blocks between the first and the last */
    .set AT_HALF, 20            /* 1: the last block has 16 columns */
    .set AT_QUADS, 24           /* batch / 4 */
    .set AT_TILES, 28
    .set AT_NEXT, 32            /* from the end of four vectors to the next four */
    .set AT_BACK, 36            /* from the end of the last four to the first ones */
    .set AT_Y_STEP, 40
    .set AT_Y_BACK, 44          /* from the last vector's results to the first one's, two rows on */
    .set AT_W, 48
    .set AT_NP, 52
    .set AT_TABLE, 56

/* The sum of a row to a9 (1) or a10 (2); before it is read stands the product ws*as, in f14 (1) or in `as` itself (2). */
    .macro READ_FIRST as
    mul.s f14, f8, \as
    rur.accx_0 a9
    .endm

    .macro READ_SECOND as
    mul.s \as, f9, \as
    rur.accx_0 a10
    .endm

/* acc = acc + (float)S * (ws*as) of both rows, without acc in the first block. */
    .macro ADD_PRODUCTS acc0, acc1, as, first
    float.s f15, a9, 0
    .if \first
    mul.s \acc0, f15, f14
    float.s f14, a10, 0
    mul.s \acc1, f14, \as
    .else
    mul.s f15, f15, f14
    float.s f14, a10, 0
    add.s \acc0, \acc0, f15
    mul.s f14, f14, \as
    add.s \acc1, \acc1, f14
    .endif
    .endm

    .macro SECOND_ROW
    .if TELESCOPED
    .else
    ee.zero.accx
    .endif
    .endm

/* Vectors 0 and 1: `x` and `y` are this vector's codes, `nx` and `ny` get the next one's. */
    .macro VECTOR x, y, nx, ny, acc0, acc1, as, first
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip \nx, a4, 16, q0, \x
    ee.vmulas.s8.accx.ld.xp \ny, a4, a8, q1, \y
    READ_FIRST \as
    SECOND_ROW
    ee.vmulas.s8.accx q2, \x
    ee.vmulas.s8.accx q3, \y
    READ_SECOND \as
    ADD_PRODUCTS \acc0, \acc1, \as, \first
    .endm

/* One block of 32 columns. Vector 2 also fetches vector 0 of the next block, vector 3 its weights; `wrap` is the step to that
 * vector 0. */
    .macro BLOCK wrap, first
    ee.ldf.64.xp f9, f8, a6, a7
    ee.ldf.128.ip f13, f12, f11, f10, a5, 16
    VECTOR q4, q5, q6, q7, f0, f1, f10, \first
    VECTOR q6, q7, q4, q5, f2, f3, f11, \first
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q6, a4, 16, q0, q4
    ee.vmulas.s8.accx.ld.xp q7, a4, \wrap, q1, q5
    READ_FIRST f12
    SECOND_ROW
    ee.vmulas.s8.accx.ld.ip q4, a4, 16, q2, q4
    ee.vmulas.s8.accx.ld.xp q5, a4, a8, q3, q5
    READ_SECOND f12
    ADD_PRODUCTS f4, f5, f12, \first
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q0, a3, 16, q0, q6
    ee.vmulas.s8.accx.ld.xp q1, a3, a12, q1, q7
    READ_FIRST f13
    SECOND_ROW
    ee.vmulas.s8.accx.ld.ip q2, a3, 16, q2, q6
    ee.vmulas.s8.accx.ld.xp q3, a3, a13, q3, q7
    READ_SECOND f13
    ADD_PRODUCTS f6, f7, f13, \first
    .endm

/* A vector of a block of 16 columns; q4 holds its codes and gets the next one's, `next` bytes before a4's new place. */
    .macro HALF_VECTOR acc0, acc1, as, next
    ee.zero.accx
    ee.vmulas.s8.accx q0, q4
    READ_FIRST \as
    SECOND_ROW
    ee.vmulas.s8.accx.ld.xp q4, a4, \next, q2, q4
    READ_SECOND \as
    ADD_PRODUCTS \acc0, \acc1, \as, 0
    .endm

/* The last block, of 16 columns; a14 leads to the second 16 bytes of the next four vectors. */
    .macro HALF_BLOCK
    ee.ldf.64.xp f9, f8, a6, a7
    ee.ldf.128.ip f13, f12, f11, f10, a5, 16
    addi a7, a8, 16
    HALF_VECTOR f0, f1, f10, a7
    HALF_VECTOR f2, f3, f11, a7
    HALF_VECTOR f4, f5, f12, a14
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q5, a4, -16, q0, q4
    READ_FIRST f13
    SECOND_ROW
    ee.vmulas.s8.accx.ld.xp q4, a4, a7, q2, q4
    READ_SECOND f13
    ADD_PRODUCTS f6, f7, f13, 0
    movi a7, 32
    FETCH_ROWS
    .endm

/* The way of shapes with a half block, after the function's end. */
    .macro HALF_WAY
.Lhalf:
    HALF_BLOCK
    j .Lstore
    .endm

    .macro FETCH_ROWS
    ee.vld.128.ip q0, a3, 16
    ee.vld.128.xp q1, a3, a12
    ee.vld.128.ip q2, a3, 16
    ee.vld.128.xp q3, a3, a13
    .endm

/* Two rows at AT_ROWS against all vectors. q4, q5 and a4 stand at the first vector, before and after; a2, at the results,
 * moves on by two rows. */
    .macro ROWS_BY_QUADS
    l32i a3, a1, AT_ROWS
    l32i a5, a1, AT_INPUT_SCALES
    l32i a15, a1, AT_QUADS
    FETCH_ROWS
.Lquad:
    l32i a6, a1, AT_SCALES
    l32i a14, a1, AT_NEXT
    addi a15, a15, -1
    BLOCK a11, 1
    l32i a10, a1, AT_TURNS
    loopnez a10, .Lblocks
    BLOCK a11, 0
.Lblocks:
    l32i a9, a1, AT_HALF
    l32i a3, a1, AT_ROWS
    bnez a15, .Lon
    l32i a14, a1, AT_BACK
.Lon:
    bnez a9, .Lhalf
    BLOCK a14, 0
.Lstore:
    l32i a9, a1, AT_Y_STEP
    ee.stf.64.xp f1, f0, a2, a9
    ee.stf.64.xp f3, f2, a2, a9
    ee.stf.64.xp f5, f4, a2, a9
    ee.stf.64.xp f7, f6, a2, a9
    bnez a15, .Lquad
    l32i a9, a1, AT_Y_BACK
    add a2, a2, a9
    .endm

/* To the scales of the next pair; a3 = 0 after the last one: a block's scales begin at a multiple of 32. */
    .macro NEXT_PAIR
    l32i a6, a1, AT_SCALES
    addi a6, a6, 8
    s32i a6, a1, AT_SCALES
    extui a3, a6, 3, 2
    .endm

/* Start of a function: a2 = args, then the results. Fills the frame, converts the input scales, leaves a7, a8, a11, a4, q4
 * and q5 as BLOCK expects them. scratch: [blocks][8] weight scales, [batch/4][blocks][4] input scales, then what is left. */
    .macro PREPARE tables
    movi a9, \tables
    lsi f15, a9, 0
    l32i a13, a2, ARG_NP
    l32i a15, a2, ARG_BATCH
    s32i a13, a1, AT_NP
    extui a14, a13, 4, 1
    s32i a14, a1, AT_HALF
    srli a10, a13, 5
    slli a4, a10, 5             /* bytes of whole blocks */
    add a12, a10, a14
    s32i a12, a1, AT_BLOCKS
    addi a10, a12, -2
    s32i a10, a1, AT_TURNS
    srli a14, a15, 2
    s32i a14, a1, AT_QUADS
    l32i a5, a2, ARG_SCRATCH
    s32i a5, a1, AT_TABLE
    slli a9, a12, 5
    add a5, a5, a9
    s32i a5, a1, AT_INPUT_SCALES
    l32i a6, a2, ARG_SCALES
    l32i a7, a2, ARG_BLOCK_STRIDE
    slli a8, a12, 4             /* bytes of 4 vectors' scales */
    addi a8, a8, -12
.Lscales:                       /* vector by vector; every fourth one moves on */
    mov a10, a5
    mov a11, a6
    loopnez a12, .Lscaled
    lsip f14, a11, 4
    mul.s f14, f14, f15
    ssi f14, a10, 0
    addi a10, a10, 16
.Lscaled:
    add a6, a6, a7
    addi a15, a15, -1
    addi a9, a5, 4
    extui a11, a15, 0, 2
    add a5, a5, a8
    movnez a5, a9, a11
    bnez a15, .Lscales
    s32i a5, a1, AT_ROWS
    l32i a9, a2, ARG_TILES
    l32i a10, a2, ARG_N_TILES
    l32i a11, a2, ARG_Y_STRIDE
    l32i a15, a2, ARG_BATCH
    l32i a8, a2, ARG_CODE_STRIDE
    s32i a9, a1, AT_W
    s32i a10, a1, AT_TILES
    s32i a11, a1, AT_Y_STEP
    mull a10, a11, a15
    movi a9, 8
    sub a9, a9, a10
    s32i a9, a1, AT_Y_BACK
    movi a9, 16
    sub a9, a9, a4
    add a10, a9, a8
    s32i a10, a1, AT_NEXT       /* code_stride + 16 - bytes of whole blocks */
    mull a10, a8, a15
    sub a10, a8, a10
    add a10, a10, a9
    s32i a10, a1, AT_BACK       /* (1 - batch)*code_stride + 16 - bytes of whole blocks */
    addx2 a10, a8, a8
    movi a11, 16
    sub a11, a11, a10           /* 16 - 3*code_stride */
    addi a8, a8, -16
    l32i a4, a2, ARG_CODES
    l32i a2, a2, ARG_Y
    ee.vld.128.ip q4, a4, 16
    ee.vld.128.xp q5, a4, a8
    .endm

/* The f16 scales of the tile at AT_W to AT_TABLE; a3 stands at the codes. a9 -> mask. SAR = 3. */
    .macro TILE_SCALES
    l32i a3, a1, AT_W
    l32i a7, a1, AT_TABLE
    l32i a10, a1, AT_BLOCKS
    s32i a7, a1, AT_SCALES
    ee.vld.128.ip q3, a9, 0
    ssai 3
    loopnez a10, .Lconverted
    ee.vld.128.ip q7, a3, 16
    CONVERT q3, step=16
.Lconverted:
    movi a7, 32
    .endm
