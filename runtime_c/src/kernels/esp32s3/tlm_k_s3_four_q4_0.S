/* void tlm_k_s3_four_q4_0(const tlm_k_s3_linear *args): rule 7 of NUMERICS.md, exactly 4 vectors, whole tiles.
 *
 * args (tlm_k_s3.h)   tiles and codes 16-aligned, code_stride a multiple of 16; y 16-aligned, its stride a multiple of 16
 *                     bytes; scratch 16-aligned, 80 bytes a block; every input scale below 2^15; n_tiles >= 1, np >= 48.
 * reads past the end  32 bytes after the tiles (not used).
 * instructions        two rows: 68 a block of 32 columns (the first 60); four rows: 23; a tile: 6 a block and 23; a call:
 *                     23 a block and 55.
 * registers           a2-a15, f0-f15, q0-q7, ACCX, SAR.
 *
 * Four vectors are too few to pay for rows unpacked into memory. A pass takes two rows and all four vectors; what it unpacks
 * stays in registers. The two rows are nibbles of the same kind, so that one instruction unpacks 16 columns of a row: the
 * low ones of two rows of bytes (rows 0 and 2), then the high ones (3 and 1). The second row is the difference from the
 * first: its sum goes on top. A low nibble is its value + 8, and with all bits above it set its value - 8, so ACCX starts at
 * 8*sum(x); a high one is signed, ACCX starts at zero.
 *
 * Registers in a pass: a3 bytes of its first row, a4 inputs, a5 bytes of its second row, a6 weight scales, a7 stride of the
 * results, a8 records, a9 the sum, a10 to the next vector, a11 to the next block of the first vector, a12 to its first block,
 * a13 blocks between the first and the last, a14 two rows of bytes, a15 from the last scales of the odd rows to the next four
 * rows' first; q0, q1 and q2, q3 weights, q4, q5 inputs, q6 the next bytes at a5, q7 the mask of low nibbles or the factor of
 * high ones; f0-f3 results of the first row, f4-f7 of the second, f8, f9 weight scales, f10-f13 input scales.
 */
#include "tlm_k_s3_terms.h"

    .set FRAME, 96 + FRAME_TOP
    .set AT_EVEN, 0             /* results of the low nibbles: four of the first row, four of the second */
    .set AT_FACTOR, 32
    .set AT_NIBBLES, 48
    .set AT_SCALES, 64          /* [blocks][4] of the even rows */
    .set AT_RECORDS, 68         /* [blocks]: 4 input scales, times 2^112, and 4 starts of ACCX */
    .set AT_ODD, 72             /* [blocks][4] of the odd rows */
    .set AT_STEP, 76            /* np - 16 */
    .set AT_CODES, 80
    .set AT_Y_BACK, 84          /* from the last vector's results to the first one's, four rows on */
    .set AT_TILES, 88
    .set RECORD, 48

    .section .rodata
    .align 16
.Lfour_scales: /* with SAR = 7: h >> 3, h << 7 and << 6 more; what is left of the upper half */
    .short 0x0010, 0x0010, 0x0010, 0x0010, 0x0010, 0x0010, 0x0010, 0x0010
    .short 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000
    .short 0x2000, 0x2000, 0x2000, 0x2000, 0x2000, 0x2000, 0x2000, 0x2000
    .short 0x8FFF, 0x8FFF, 0x8FFF, 0x8FFF, 0x8FFF, 0x8FFF, 0x8FFF, 0x8FFF
.Lfour_nibbles: /* high = (8*w) >> 7 */
    .long 0x08080808, 0x08080808, 0x08080808, 0x08080808
    .long 0xF0F0F0F0, 0xF0F0F0F0, 0xF0F0F0F0, 0xF0F0F0F0
.Lfour_factor:
    .long 0x77800000 /* 2^112 */

/* The eight f16 in q0 to q2, the even rows, and q1, the odd ones; q0 gets the next eight. q2 and q1 as they were are stored. */
    .macro CONVERT_EIGHT store
    .if \store
    ee.vmul.s16.st.incp q2, a6, q2, q0, q4
    ee.vmul.s16.st.incp q1, a5, q1, q0, q3
    .else
    ee.vmul.s16 q2, q0, q4
    ee.vmul.s16 q1, q0, q3
    .endif
    ee.vmul.s16.ld.incp q0, a3, q2, q2, q5
    ee.andq q1, q1, q6
    ee.vzip.16 q2, q1
    ee.vunzip.32 q2, q1
    .endm

/* Weights of 16 columns of a row from its bytes. */
    .macro NIBBLES w, from, low
    .if \low
    ee.orq \w, \from, q7
    .else
    ee.vmul.s8 \w, \from, q7
    .endif
    .endm

    .macro CLEAR low
    .if \low
    ee.ld.accx.ip a8, 8
    .else
    ee.zero.accx
    .endif
    .endm

    .macro ROW_SCALES low, last
    .if \low
    ee.ldf.64.ip f9, f8, a6, 16
    ee.ldf.128.ip f13, f12, f11, f10, a8, 16
    .else
    .if \last
    ee.ldf.64.xp f8, f9, a6, a15
    .else
    ee.ldf.64.ip f8, f9, a6, 16
    .endif
    ee.ldf.128.ip f13, f12, f11, f10, a8, RECORD
    .endif
    .endm

/* The vector in q4, q5 against the second row; they get the next one, `step` follows. acc: of the first row's sum before. */
    .macro SECOND_ROW as, acc, step, first
    ee.vmulas.s8.accx.ld.ip q4, a4, 16, q2, q4
    TERM
    ee.vmulas.s8.accx.ld.xp q5, a4, \step, q3, q5
    SCALE \acc, \first
    READ f9, \as
    SUM \acc, \first
    .endm

/* The vector in q4, q5 against the first row. acc: of the second row's sum before. `fetch`: the next block's bytes. */
    .macro FIRST_ROW as, acc, low, first, fetch=0
    CLEAR \low
    .if \fetch
    ee.vmulas.s8.accx.ld.ip q0, a3, 16, q0, q4
    TERM
    ee.vmulas.s8.accx.ld.ip q1, a3, 16, q1, q5
    .else
    ee.vmulas.s8.accx q0, q4
    TERM
    ee.vmulas.s8.accx q1, q5
    .endif
    SCALE \acc, \first
    READ f8, \as
    SUM \acc, \first
    .endm

/* One block of 32 columns; q0, q1 and q6 hold its bytes. `last`: back to the first block; the pass after the low nibbles has
 * the rows the other way round. */
    .macro BLOCK low, first, last
    ROW_SCALES \low, \last
    NIBBLES q0, q0, \low
    NIBBLES q1, q1, \low
    NIBBLES q2, q6, \low
    ee.vsubs.s8.ld.incp q3, a5, q2, q2, q0
    CLEAR \low
    .if \last * \low
    sub a5, a5, a14
    .endif
    .if \last > \low          /* what follows may lie behind the tiles */
    ee.vmulas.s8.accx q0, q4
    .else
    ee.vmulas.s8.accx.ld.ip q6, a5, 16, q0, q4
    .endif
    NIBBLES q3, q3, \low
    ee.vmulas.s8.accx q1, q5
    ee.vsubs.s8 q3, q3, q1
    READ f8, f10
    SECOND_ROW f10, f0, a10, \first
    FIRST_ROW f11, f4, \low, \first
    SECOND_ROW f11, f1, a10, \first
    FIRST_ROW f12, f5, \low, \first
    .if \last
    SECOND_ROW f12, f2, a12, \first
    .else
    SECOND_ROW f12, f2, a11, \first
    .endif
    FIRST_ROW f13, f6, \low, \first, fetch=1
    SECOND_ROW f13, f3, a10, \first
    TERM
    SCALE f7, \first
    SUM f7, \first
    .endm

    .macro HALF_VECTOR as, acc0, acc1, low
    CLEAR \low
    ee.vmulas.s8.accx q0, q4
    READ f8, \as
    TERM
    SCALE \acc0, 0
    SUM \acc0, 0
    ee.vmulas.s8.accx q2, q4
    READ f9, \as
    TERM
    SCALE \acc1, 0
    SUM \acc1, 0
    .endm

    .macro NEXT_HALF_VECTOR
    ee.vld.128.xp q4, a4, a10
    addi a4, a4, 16
    .endm

/* The last block, of 16 columns; then as after a whole one. */
    .macro HALF_BLOCK low
    ROW_SCALES \low, 1
    NIBBLES q0, q0, \low
    NIBBLES q2, q6, \low
    ee.vsubs.s8 q2, q2, q0
    HALF_VECTOR f10, f0, f4, \low
    NEXT_HALF_VECTOR
    HALF_VECTOR f11, f1, f5, \low
    NEXT_HALF_VECTOR
    HALF_VECTOR f12, f2, f6, \low
    NEXT_HALF_VECTOR
    HALF_VECTOR f13, f3, f7, \low
    addi a3, a3, -16            /* the block before took 32 bytes */
    ee.vld.128.ip q0, a3, 16
    FETCH
    .if \low
    sub a5, a5, a14
    ee.vld.128.ip q6, a5, 16
    .endif
    .endm

/* Bytes 16 to 31 of the first row and the first vector's first codes. */
    .macro FETCH
    l32i a4, a1, AT_CODES
    ee.vld.128.ip q1, a3, 16
    ee.vld.128.ip q4, a4, 16
    ee.vld.128.xp q5, a4, a10
    .endm

/* Two vectors' starts of ACCX, 8*sum: of its upper part, which is zero, only saturation would tell. SAR = 3. */
    .macro STARTS sums0, sums1
    ee.vldbc.32.ip q0, \sums0, 4
    ee.vldbc.32.ip q1, \sums1, 4
    ee.zero.q q2
    ee.vzip.32 q0, q1
    ee.vzip.32 q0, q2
    ee.vsl.32 q0, q0
    ee.vst.128.ip q0, a15, 16
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_four_q4_0
    .type tlm_k_s3_four_q4_0, @function
tlm_k_s3_four_q4_0:
    entry a1, FRAME
    movi a9, .Lfour_nibbles
    addi a10, a1, AT_FACTOR
    ee.vld.128.ip q0, a9, 16
    ee.vld.128.ip q7, a9, 16
    lsi f15, a9, 0
    ee.vst.128.ip q0, a10, 16
    ee.vst.128.ip q7, a10, 0
    l32i a14, a2, ARG_NP
    l32i a15, a2, ARG_SCRATCH
    addi a13, a14, 16
    srli a13, a13, 5            /* blocks */
    addi a9, a14, -16
    s32i a9, a1, AT_STEP
    s32i a15, a1, AT_SCALES
    slli a9, a13, 4
    add a15, a15, a9
    s32i a15, a1, AT_ODD
    add a15, a15, a9
    s32i a15, a1, AT_RECORDS

    l32i a3, a2, ARG_SCALES
    l32i a7, a2, ARG_SUMS
    l32i a9, a2, ARG_BLOCK_STRIDE
    add a4, a3, a9
    add a5, a4, a9
    add a6, a5, a9
    add a8, a7, a9
    add a10, a8, a9
    add a11, a10, a9
    ssai 3
    loopnez a13, .Lrecorded
    lsip f0, a3, 4
    lsip f1, a4, 4
    lsip f2, a5, 4
    lsip f3, a6, 4
    mul.s f0, f0, f15
    mul.s f1, f1, f15
    mul.s f2, f2, f15
    mul.s f3, f3, f15
    ee.stf.128.ip f3, f2, f1, f0, a15, 16
    STARTS a7, a8
    STARTS a10, a11
.Lrecorded:

    l32i a9, a2, ARG_N_TILES
    l32i a4, a2, ARG_CODES
    l32i a10, a2, ARG_CODE_STRIDE
    l32i a7, a2, ARG_Y_STRIDE
    l32i a3, a2, ARG_TILES
    l32i a2, a2, ARG_Y
    s32i a9, a1, AT_TILES
    s32i a4, a1, AT_CODES
    movi a9, 16
    addx2 a11, a7, a7
    sub a11, a9, a11
    s32i a11, a1, AT_Y_BACK     /* 16 - 3*y_stride */
    addx2 a11, a10, a10
    sub a11, a9, a11            /* 16 - 3*code_stride */
    slli a15, a13, 5
    sub a12, a11, a15
    movi a9, 24
    sub a15, a9, a15            /* 24 - 32*blocks */
    addi a10, a10, -16
    addi a13, a13, -2
    slli a14, a14, 1
    ssai 7
    ee.vld.128.ip q0, a3, 32
.Ltile:                         /* q0 holds the first block's scales, a3 stands at the third's */
    movi a9, .Lfour_scales
    l32i a6, a1, AT_SCALES
    ee.vld.128.ip q3, a9, 16
    ee.vld.128.ip q4, a9, 16
    ee.vld.128.ip q5, a9, 16
    ee.vld.128.ip q6, a9, 16
    l32i a5, a1, AT_ODD
    addi a9, a13, 1
    addi a3, a3, -16
    CONVERT_EIGHT 0
    loopnez a9, .Lconverted
    CONVERT_EIGHT 1
.Lconverted:                    /* q0 holds the first bytes of codes */
    ee.vst.128.ip q2, a6, 16
    ee.vst.128.ip q1, a5, 16
    l32i a9, a1, AT_STEP
    l32i a6, a1, AT_SCALES
    add a5, a3, a9
    FETCH
.Lrows:
    l32i a8, a1, AT_RECORDS
    ee.vld.128.ip q6, a5, 16
    BLOCK low=1, first=1, last=0
    loopnez a13, .Llow
    BLOCK low=1, first=0, last=0
.Llow:
    bbci a14, 5, .Llow_whole    /* np % 32 = 0 */
    j .Llow_half
.Llow_whole:
    BLOCK low=1, first=0, last=1
.Leven:
    addi a9, a1, AT_EVEN
    l32i a8, a1, AT_RECORDS
    ee.stf.128.ip f3, f2, f1, f0, a9, 16
    ee.stf.128.ip f7, f6, f5, f4, a9, 16
    ee.vld.128.ip q7, a9, 0
    BLOCK low=0, first=1, last=0
    loopnez a13, .Lhigh
    BLOCK low=0, first=0, last=0
.Lhigh:
    bbci a14, 5, .Lhigh_whole
    j .Lhigh_half
.Lhigh_whole:
    BLOCK low=0, first=0, last=1
.Lstore:
    addi a9, a1, AT_EVEN
    ee.ldf.128.ip f11, f10, f9, f8, a9, 16
    ee.ldf.128.ip f15, f14, f13, f12, a9, 32
    ee.vld.128.ip q7, a9, 0
    l32i a9, a1, AT_Y_BACK
    ee.stf.128.xp f0, f12, f4, f8, a2, a7
    ee.stf.128.xp f1, f13, f5, f9, a2, a7
    ee.stf.128.xp f2, f14, f6, f10, a2, a7
    ee.stf.128.xp f3, f15, f7, f11, a2, a9
    bbci a6, 3, .Ltile_done     /* after the second four rows */
    add a5, a5, a14
    j .Lrows
.Ltile_done:
    MORE_TILES
.Llow_half:
    HALF_BLOCK low=1
    j .Leven
.Lhigh_half:
    HALF_BLOCK low=0
    j .Lstore
    .size tlm_k_s3_four_q4_0, . - tlm_k_s3_four_q4_0
