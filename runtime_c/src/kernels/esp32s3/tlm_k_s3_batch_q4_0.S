/* void tlm_k_s3_batch_q4_0(const tlm_k_s3_linear *args): rule 7 of NUMERICS.md, 4, 6, ... or 16 vectors, whole tiles.
 *
 * args (tlm_k_s3.h)   tiles and codes 16-aligned, code_stride a multiple of 16; y 16-aligned, its stride a multiple of 16
 *                     bytes; scratch 16-aligned, blocks*(4*batch + 160) + 96 bytes; every input scale below 2^15; n_tiles >=
 *                     1, np >= 48.
 * reads past the end  16 bytes after the tiles; 16 after the codes where np % 32 = 16 (not used).
 * instructions        four rows and two vectors: 60 a block of 32 columns (the first 52) and 10; four rows: 16 a block and
 *                     31; a tile: 8 a block and 15; a vector: 3 a block and 8.
 * registers           a2-a15, f0-f15, q0-q7, ACCX, SAR.
 *
 * A byte holds 16*high + low + 8. Unpacked once for all vectors, 16 columns of four rows are 64 bytes, each row as the
 * difference from the one before it, so that a sum goes on top of the last one: high0, high1 - high0, low1 - high1,
 * low0 - low1, which are the rows 1, 3, 2, 0. A block's 128 bytes are 16 columns of each, then 16 more.
 * Vector by vector: q0, q1 and q2, q3 hold the first two of the rows, q6, q7 the others in turn, q4, q5 the vector.
 */
#include "tlm_k_s3_batch.h"

    .section .rodata
    .align 16
.Lbatch_mask:
    .long 0x8FFFE000, 0x8FFFE000, 0x8FFFE000, 0x8FFFE000
.Lbatch_nibbles:
    .long 0x0F0F0F0F, 0x0F0F0F0F, 0x0F0F0F0F, 0x0F0F0F0F
    .long 0x08080808, 0x08080808, 0x08080808, 0x08080808
.Lbatch_factor:
    .long 0x77800000 /* 2^112 */

/* The four rows at AT_W to a12 - 16; AT_W moves on. high = (8*w) >> 7. The last two rows of 16 columns are stored in the next
 * turn; the first turn's stores, 32 bytes before the place, mean nothing. */
    .macro UNPACK
    movi a9, .Lbatch_nibbles
    l32i a3, a1, AT_W
    l32i a10, a1, AT_NP
    ee.vld.128.ip q6, a9, 16
    ee.vld.128.ip q7, a9, 0
    add a6, a3, a10
    add a9, a6, a10
    s32i a9, a1, AT_W
    srli a10, a10, 4
    addi a15, a12, -48
    ssai 7
    ee.vld.128.ip q0, a3, 16
    ee.vld.128.ip q1, a6, 16
    loopnez a10, .Lunpacked
    ee.andq q2, q0, q6
    ee.andq q3, q1, q6
    ee.vmul.s8.st.incp q4, a15, q0, q0, q7
    ee.vmul.s8.st.incp q5, a15, q1, q1, q7
    ee.vsubs.s8.st.incp q0, a15, q4, q1, q0
    ee.vsubs.s8.st.incp q4, a15, q5, q2, q3
    ee.vsubs.s8.ld.incp q0, a3, q3, q3, q7
    ee.vsubs.s8.ld.incp q1, a6, q4, q3, q1
.Lunpacked:
    ee.vst.128.ip q4, a15, 16
    ee.vst.128.ip q5, a15, 16
    .endm

/* One block of 32 columns; a3 stands at its second row. `last`: back to the first block, on to the next pair's codes. */
    .macro BLOCK first, last
    .if \first
    mov a3, a12
    .endif
    BLOCK_SCALES
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q2, a3, 64, q0, q4
    ee.vmulas.s8.accx.ld.ip q3, a3, -48, q1, q5
    READ f9, f12
    ee.vmulas.s8.accx.ld.ip q6, a3, 64, q2, q4
    TERM
    ee.vmulas.s8.accx.ld.ip q7, a3, -48, q3, q5
    SCALE f1, \first
    READ f11, f12
    SUM f1, \first
    ee.vmulas.s8.accx.ld.ip q6, a3, 64, q6, q4
    TERM
    .if \last
    ee.vmulas.s8.accx.ld.xp q7, a3, a13, q7, q5
    .else
    ee.vmulas.s8.accx.ld.ip q7, a3, 16, q7, q5
    .endif
    SCALE f3, \first
    READ f10, f12
    SUM f3, \first
    ee.vmulas.s8.accx.ld.ip q4, a4, 16, q6, q4
    TERM
    .if \last
    ee.vmulas.s8.accx.ld.xp q5, a4, a10, q7, q5
    .else
    ee.vmulas.s8.accx.ld.xp q5, a4, a11, q7, q5
    .endif
    SCALE f2, \first
    READ f8, f12
    SUM f2, \first
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q0, a3, 64, q0, q4
    TERM
    .if \last
    ee.vmulas.s8.accx.ld.xp q1, a3, a14, q1, q5
    .else
    ee.vmulas.s8.accx.ld.ip q1, a3, -160, q1, q5
    .endif
    SCALE f0, \first
    READ f9, f13
    SUM f0, \first
    ee.vmulas.s8.accx.ld.ip q6, a3, 64, q2, q4
    TERM
    ee.vmulas.s8.accx.ld.ip q7, a3, -48, q3, q5
    SCALE f5, \first
    READ f11, f13
    SUM f5, \first
    ee.vmulas.s8.accx.ld.ip q6, a3, 64, q6, q4
    TERM
    ee.vmulas.s8.accx.ld.ip q7, a3, 32, q7, q5
    SCALE f7, \first
    READ f10, f13
    SUM f7, \first
    ee.vmulas.s8.accx.ld.ip q4, a4, 16, q6, q4
    TERM
    ee.vmulas.s8.accx.ld.xp q5, a4, a8, q7, q5
    SCALE f6, \first
    READ f8, f13
    SUM f6, \first
    TERM
    SCALE f4, \first
    SUM f4, \first
    .endm

/* A row of 16 columns in `w`, on top of the ACCX before. */
    .macro HALF_ROW w, ws, as, acc
    ee.vmulas.s8.accx \w, q4
    READ \ws, \as
    TERM
    SCALE \acc, 0
    SUM \acc, 0
    .endm

/* The last block, of 16 columns; then as after a whole one. */
    .macro HALF_BLOCK
    BLOCK_SCALES
    ee.vld.128.ip q1, a3, 16
    ee.vld.128.ip q2, a3, 16
    ee.vld.128.ip q3, a3, 16
    ee.zero.accx
    HALF_ROW q0, f9, f12, f1
    HALF_ROW q1, f11, f12, f3
    HALF_ROW q2, f10, f12, f2
    HALF_ROW q3, f8, f12, f0
    ee.vld.128.xp q4, a4, a10
    ee.zero.accx
    HALF_ROW q0, f9, f13, f5
    HALF_ROW q1, f11, f13, f7
    HALF_ROW q2, f10, f13, f6
    HALF_ROW q3, f8, f13, f4
    FETCH
    .endm

/* The first row's first block and the codes at a4. */
    .macro FETCH
    addi a3, a12, -16
    ee.vld.128.ip q0, a3, 64
    ee.vld.128.ip q1, a3, 0
    ee.vld.128.ip q4, a4, 16
    ee.vld.128.xp q5, a4, a8
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_batch_q4_0
    .type tlm_k_s3_batch_q4_0, @function
tlm_k_s3_batch_q4_0:
    entry a1, FRAME
    PREPARE .Lbatch_factor
    addi a9, a8, 32
    sub a9, a9, a13             /* code_stride + 16 - np */
    s32i a9, a1, AT_NEXT
    sub a9, a9, a14
    s32i a9, a1, AT_BACK
    addi a5, a5, 63             /* a multiple of 32, 16 more where the last block is half of one, 32 for the first stores */
    srli a5, a5, 5
    slli a5, a5, 5
    extui a9, a13, 4, 1
    slli a9, a9, 4
    add a5, a5, a9
    addi a12, a5, 16
    slli a9, a13, 2             /* 128*blocks where np % 32 = 0 */
    movi a10, 16
    sub a13, a10, a9            /* from the last row's last block to the first row's first */
    addi a14, a9, -80
    addi a14, a14, -80          /* and back, to the third row's last */
.Ltile:
    ssai 3
    TILE_SCALES .Lbatch_mask
    s32i a3, a1, AT_W
.Lrows:
    UNPACK
    l32i a4, a1, AT_CODES
    FETCH
    ROWS_BY_PAIRS
    MORE_ROWS
    l32i a3, a1, AT_W
    MORE_TILES
    HALF_WAY
    .size tlm_k_s3_batch_q4_0, . - tlm_k_s3_batch_q4_0
