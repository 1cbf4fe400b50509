/* void tlm_k_s3_batch_q8_0(const tlm_k_s3_linear *args): rule 7 of NUMERICS.md, 4, 6, ... or 16 vectors, whole tiles.
 *
 * args (tlm_k_s3.h)   tiles and codes 16-aligned, code_stride a multiple of 16; y 16-aligned, its stride a multiple of 16
 *                     bytes; scratch 16-aligned, blocks*(4*batch + 32) bytes; every input scale below 2^15; n_tiles >= 1,
 *                     np >= 48.
 * reads past the end  nothing where np % 32 = 0; else 16 bytes after the tiles and 16 after the codes (not used).
 * instructions        four rows and two vectors: 66 a block of 32 columns (the first 58) and 10; four rows: 13; a tile: 8 a
 *                     block and 12; a vector: 3 a block and 8.
 * registers           a2-a15, f0-f15, q0-q7, ACCX, SAR.
 *
 * Row by row: q0, q1 and q2, q3 in turn hold a row, q4-q7 both vectors. Every block fetches what the next one begins with.
 */
#include "tlm_k_s3_batch.h"

    .section .rodata
    .align 16
.Lbatch_mask:
    .long 0x8FFFE000, 0x8FFFE000, 0x8FFFE000, 0x8FFFE000
.Lbatch_factor:
    .long 0x77800000 /* 2^112 */

/* A row in `w0`, `w1` against both vectors; `n0`, `n1` get the next row, `step` follows. acc of the sum before and of this row's. */
    .macro ROW w0, w1, n0, n1, before, ws, acc, first
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip \n0, a3, 16, \w0, q4
    TERM
    ee.vmulas.s8.accx.ld.xp \n1, a3, a12, \w1, q5
    SCALE \before, \first
    READ \ws, f12
    SUM \before, \first
    ee.zero.accx
    ee.vmulas.s8.accx \w0, q6
    TERM
    ee.vmulas.s8.accx \w1, q7
    SCALE \acc, \first
    READ \ws, f13
    SUM \acc, \first
    .endm

/* One block of 32 columns. `last`: back to the first block's weights, on to the next pair's codes. */
    .macro BLOCK first, last
    BLOCK_SCALES
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q2, a3, 16, q0, q4
    ee.vmulas.s8.accx.ld.xp q3, a3, a12, q1, q5
    READ f8, f12
    ee.zero.accx
    ee.vmulas.s8.accx q0, q6
    TERM
    ee.vmulas.s8.accx q1, q7
    SCALE f0, \first
    READ f8, f13
    SUM f0, \first
    ROW q2, q3, q0, q1, f4, f9, f1, \first
    .if \last
    add a4, a4, a10
    .endif
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q2, a3, 16, q0, q4
    TERM
    .if \last
    ee.vmulas.s8.accx.ld.xp q3, a3, a14, q1, q5
    .else
    ee.vmulas.s8.accx.ld.xp q3, a3, a13, q1, q5
    .endif
    SCALE f5, \first
    READ f10, f12
    SUM f5, \first
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q0, a3, 16, q0, q6
    TERM
    ee.vmulas.s8.accx.ld.xp q1, a3, a12, q1, q7
    SCALE f2, \first
    READ f10, f13
    SUM f2, \first
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q4, a4, 16, q2, q4
    TERM
    ee.vmulas.s8.accx.ld.xp q5, a4, a8, q3, q5
    SCALE f6, \first
    READ f11, f12
    SUM f6, \first
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q6, a4, 16, q2, q6
    TERM
    ee.vmulas.s8.accx.ld.xp q7, a4, a11, q3, q7
    SCALE f3, \first
    READ f11, f13
    SUM f3, \first
    TERM
    SCALE f7, \first
    SUM f7, \first
    .endm

    .macro HALF_ROW ws, acc0, acc1
    ee.zero.accx
    ee.vmulas.s8.accx q0, q4
    READ \ws, f12
    TERM
    SCALE \acc0, 0
    SUM \acc0, 0
    ee.zero.accx
    ee.vmulas.s8.accx q0, q6
    READ \ws, f13
    TERM
    SCALE \acc1, 0
    SUM \acc1, 0
    .endm

    .macro NEXT_HALF_ROW
    ee.vld.128.ip q0, a3, 16
    add a3, a3, a12
    .endm

/* The last block, of 16 columns; then as after a whole one. */
    .macro HALF_BLOCK
    BLOCK_SCALES
    HALF_ROW f8, f0, f4
    NEXT_HALF_ROW
    HALF_ROW f9, f1, f5
    NEXT_HALF_ROW
    HALF_ROW f10, f2, f6
    NEXT_HALF_ROW
    HALF_ROW f11, f3, f7
    l32i a9, a1, AT_NP
    sub a3, a3, a12
    slli a9, a9, 2
    sub a3, a3, a9
    FETCH_ROW
    add a4, a4, a10
    FETCH_VECTORS
    .endm

    .macro FETCH_ROW
    ee.vld.128.ip q0, a3, 16
    ee.vld.128.xp q1, a3, a12
    .endm

    .macro FETCH_VECTORS
    ee.vld.128.ip q4, a4, 16
    ee.vld.128.xp q5, a4, a8
    ee.vld.128.ip q6, a4, 16
    ee.vld.128.xp q7, a4, a11
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_batch_q8_0
    .type tlm_k_s3_batch_q8_0, @function
tlm_k_s3_batch_q8_0:
    entry a1, FRAME
    PREPARE .Lbatch_factor
    slli a9, a12, 5
    addi a10, a8, 16
    slli a10, a10, 1
    sub a10, a10, a9            /* 2*code_stride - 32*blocks */
    s32i a10, a1, AT_NEXT
    sub a10, a10, a14
    s32i a10, a1, AT_BACK
    movi a10, 16
    addi a12, a13, -16          /* to the next row */
    slli a14, a13, 2
    sub a14, a10, a14           /* 16 - 4*np: to the first row's first block */
    add a13, a14, a13           /* 16 - 3*np: to the first row's next block */
    FETCH_VECTORS
    ssai 3
.Ltile:
    TILE_SCALES .Lbatch_mask
.Lrows:
    FETCH_ROW
    ROWS_BY_PAIRS
    sub a3, a3, a13             /* a3 stood at the second row */
    addi a3, a3, 16
    MORE_ROWS
    MORE_TILES
    HALF_WAY
    .size tlm_k_s3_batch_q8_0, . - tlm_k_s3_batch_q8_0
