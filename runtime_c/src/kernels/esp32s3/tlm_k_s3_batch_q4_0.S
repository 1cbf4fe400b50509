/* void tlm_k_s3_batch_q4_0(const tlm_k_s3_linear *args): rule 7 of NUMERICS.md, 4, 8, 12 or 16 vectors, whole tiles.
 *
 * args (tlm_k_s3.h)   tiles and codes 16-aligned, code_stride a multiple of 16; y 8-aligned, its stride even; scratch
 *                     32-aligned, blocks*(4*batch + 96) bytes; every input scale below 2^15; n_tiles >= 1, np >= 48.
 * reads past the end  nothing where np % 32 = 0; else 16 bytes after the tiles (not used).
 * instructions        two rows and four vectors: 62 a block of 32 columns and 7; two rows: 10 a block and 26; a tile: 8 a
 *                     block and 20; a vector: 4 a block and 9.
 * registers           a2-a15, f0-f15, q0-q7, ACCX, SAR.
 *
 * A byte holds 16*high + low + 8. Unpacked once for all vectors, a block is 64 bytes: low (32 columns), high - low.
 */
    .set TELESCOPED, 1
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

/* The pair of rows at AT_W to AT_ROWS; AT_W moves to the next pair. high = (8*w) >> 7. */
    .macro UNPACK
    movi a9, .Lbatch_nibbles
    l32i a3, a1, AT_W
    l32i a10, a1, AT_BLOCKS
    l32i a15, a1, AT_NP
    l32i a14, a1, AT_ROWS
    ee.vld.128.ip q6, a9, 16
    ee.vld.128.ip q7, a9, 16
    add a15, a15, a3
    s32i a15, a1, AT_W
    ssai 7
    loopnez a10, .Lunpacked
    ee.vld.128.ip q0, a3, 16
    ee.andq q2, q0, q6
    ee.vsubs.s8.ld.incp q1, a3, q2, q2, q7
    ee.vmul.s8.st.incp q2, a14, q0, q0, q7
    ee.andq q3, q1, q6
    ee.vsubs.s8 q3, q3, q7
    ee.vsubs.s8.st.incp q3, a14, q0, q0, q2
    ee.vmul.s8.st.incp q0, a14, q1, q1, q7
    ee.vsubs.s8 q1, q1, q3
    ee.vst.128.ip q1, a14, 16
.Lunpacked:
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_batch_q4_0
    .type tlm_k_s3_batch_q4_0, @function
tlm_k_s3_batch_q4_0:
    entry a1, FRAME
    PREPARE .Lbatch_factor
    movi a12, 16
    movi a13, 16
.Ltile:
    movi a9, .Lbatch_mask
    TILE_SCALES
    s32i a3, a1, AT_W
.Lpair:
    UNPACK
    ROWS_BY_QUADS
    NEXT_PAIR
    bnez a3, .Lpair
    l32i a3, a1, AT_TILES
    addi a3, a3, -1
    s32i a3, a1, AT_TILES
    bnez a3, .Ltile
    retw.n
    HALF_WAY
    .size tlm_k_s3_batch_q4_0, . - tlm_k_s3_batch_q4_0
