/* The batched kernels' common part: four rows of int8 weights against two input vectors (assembler only).
 *
 * Registers in a block: a3 weights, a4 inputs, a5 input scales ([pair][block][2], times 2^112), a6 weight scales
 * ([half tile][block][4]), a7 stride of the results, a8 from a vector's codes to the second vector's, a9 the sum, a10 to the
 * next two vectors, a11 to the next block of the first vector, a15 pairs left; f0-f3 results of the first vector, f4-f7 of
 * the second, f8-f11 weight scales, f12, f13 input scales, f14 their product, f15 a term.
 */
#include "tlm_k_s3_terms.h"

    .set FRAME, 64 + FRAME_TOP
    .set AT_TABLE, 0            /* of the tile's weight scales */
    .set AT_INPUT_SCALES, 4     /* and the end of that table */
    .set AT_SCALES, 8           /* this half tile's in the table */
    .set AT_BLOCKS, 12
    .set AT_TURNS, 16           /* blocks between the first and the last */
    .set AT_PAIRS, 20           /* batch / 2 */
    .set AT_TILES, 24
    .set AT_NEXT, 28            /* a10 */
    .set AT_BACK, 32            /* the same after the last pair, to the first one */
    .set AT_Y_BACK, 36          /* from after the last vector's results to the first one's, four rows on */
    .set AT_NP, 40
    .set AT_CODES, 44
    .set AT_W, 48

    .macro BLOCK_SCALES
    ee.ldf.128.ip f11, f10, f9, f8, a6, 16
    ee.ldf.64.ip f13, f12, a5, 8
    .endm

/* Four rows against all vectors, by the kernel's BLOCK and HALF_BLOCK; a5 stands at the first pair's scales. a2, at the
 * results, moves on by four rows. Bit 4 of a12 is set where the last block is whole. */
    .macro ROWS_BY_PAIRS
    l32i a15, a1, AT_PAIRS
    l32i a10, a1, AT_NEXT
.Lpair:
    addi a15, a15, -1
    l32i a6, a1, AT_SCALES
    BLOCK first=1, last=0
    l32i a9, a1, AT_TURNS
    loopnez a9, .Lblocks
    BLOCK first=0, last=0
.Lblocks:
    bnez a15, .Lon
    l32i a10, a1, AT_BACK
.Lon:
    bbsi a12, 4, .Lwhole
    j .Lhalf
.Lwhole:
    BLOCK first=0, last=1
.Lstore:
    ee.stf.128.xp f3, f2, f1, f0, a2, a7
    ee.stf.128.xp f7, f6, f5, f4, a2, a7
    bnez a15, .Lpair
    l32i a9, a1, AT_Y_BACK
    s32i a6, a1, AT_SCALES
    add a2, a2, a9
    .endm

/* The way of shapes with a half block, after the function's end. */
    .macro HALF_WAY
.Lhalf:
    HALF_BLOCK
    j .Lstore
    .endm

/* The tile's second half, with a5 back at the first pair's scales. */
    .macro MORE_ROWS
    l32i a5, a1, AT_INPUT_SCALES
    sub a9, a5, a6
    bnez a9, .Lrows
    .endm

/* The f16 scales of the tile at a3 to the table; a3 then stands at the codes, a5 at the first pair's scales. q0-q2; SAR is 3. */
    .macro TILE_SCALES mask
    movi a9, \mask
    l32i a6, a1, AT_TABLE
    l32i a10, a1, AT_BLOCKS
    s32i a6, a1, AT_SCALES
    slli a5, a10, 4
    add a5, a5, a6
    ee.vld.128.ip q2, a9, 0
    loopnez a10, .Lconverted
    ee.vld.128.ip q1, a3, 16
    CONVERT q0, q1, q2
    ee.vst.128.ip q0, a6, 16
    ee.vst.128.ip q1, a5, 16
.Lconverted:
    .endm

/* Start of a function: a2 = args, then the results. Fills the frame but for AT_NEXT and AT_BACK, converts the input scales;
 * leaves a7, a8, a11 as BLOCK expects them, a3 at the tiles, a5 after the input scales, a12 = blocks, a13 = np, a14 =
 * batch * code_stride. scratch: [2][blocks][4] weight scales, [batch/2][blocks][2] input scales, then what is left. */
    .macro PREPARE factor
    movi a9, \factor
    lsi f15, a9, 0
    l32i a13, a2, ARG_NP
    l32i a15, a2, ARG_BATCH
    l32i a5, a2, ARG_SCRATCH
    addi a12, a13, 16
    srli a12, a12, 5
    addi a9, a12, -2
    s32i a13, a1, AT_NP
    s32i a12, a1, AT_BLOCKS
    s32i a9, a1, AT_TURNS
    srli a9, a15, 1
    s32i a5, a1, AT_TABLE
    s32i a9, a1, AT_PAIRS
    slli a9, a12, 5
    add a5, a5, a9
    s32i a5, a1, AT_INPUT_SCALES
    l32i a6, a2, ARG_SCALES
    l32i a7, a2, ARG_BLOCK_STRIDE
    slli a14, a12, 3            /* bytes of two vectors' scales */
    movi a4, 4
    movi a8, 8
.Lscales:                       /* vector by vector; every second one moves on */
    mov a10, a5
    mov a11, a6
    loopnez a12, .Lscaled
    lsip f14, a11, 4
    mul.s f14, f14, f15
    ssxp f14, a10, a8
.Lscaled:
    add a6, a6, a7
    add a5, a5, a4
    sub a4, a14, a4
    addi a15, a15, -1
    bnez a15, .Lscales
    l32i a10, a2, ARG_N_TILES
    l32i a4, a2, ARG_CODES
    l32i a8, a2, ARG_CODE_STRIDE
    l32i a15, a2, ARG_BATCH
    l32i a7, a2, ARG_Y_STRIDE
    l32i a3, a2, ARG_TILES
    l32i a2, a2, ARG_Y
    s32i a10, a1, AT_TILES
    s32i a4, a1, AT_CODES
    mull a14, a8, a15
    mull a9, a7, a15
    movi a11, 16
    sub a9, a11, a9
    s32i a9, a1, AT_Y_BACK
    sub a11, a11, a8            /* 16 - code_stride */
    addi a8, a8, -16
    .endm
