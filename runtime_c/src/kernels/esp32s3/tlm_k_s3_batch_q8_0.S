/* void tlm_k_s3_batch_q8_0(const tlm_k_s3_linear *args): rule 7 of NUMERICS.md, 4, 8, 12 or 16 vectors, whole tiles.
 *
 * args (tlm_k_s3.h)   tiles and codes 16-aligned, code_stride a multiple of 16; y 8-aligned, its stride even; scratch
 *                     32-aligned, blocks*(4*batch + 32) bytes; every input scale below 2^15; n_tiles >= 1, np >= 48.
 * reads past the end  nothing where np % 32 = 0; else 16 bytes after the tiles (not used).
 * instructions        two rows and four vectors: 66 a block of 32 columns and 7; two rows: 19; a tile: 8 a block and 20;
 *                     a vector: 4 a block and 9.
 * registers           a2-a15, f0-f15, q0-q7, ACCX, SAR.
 */
    .set TELESCOPED, 0
#include "tlm_k_s3_batch.h"

    .section .rodata
    .align 16
.Lbatch_mask:
    .long 0x8FFFE000, 0x8FFFE000, 0x8FFFE000, 0x8FFFE000
.Lbatch_factor:
    .long 0x77800000 /* 2^112 */

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_batch_q8_0
    .type tlm_k_s3_batch_q8_0, @function
tlm_k_s3_batch_q8_0:
    entry a1, FRAME
    PREPARE .Lbatch_factor
    addi a12, a13, -16          /* to the second row */
    movi a13, 16
    l32i a9, a1, AT_NP
    sub a13, a13, a9            /* to the next block of the first row */
.Ltile:
    movi a9, .Lbatch_mask
    TILE_SCALES
    s32i a3, a1, AT_ROWS
.Lpair:
    ROWS_BY_QUADS
    l32i a3, a1, AT_NP
    l32i a10, a1, AT_ROWS
    addx2 a10, a3, a10
    s32i a10, a1, AT_ROWS
    NEXT_PAIR
    bnez a3, .Lpair
    l32i a3, a1, AT_TILES
    s32i a10, a1, AT_W
    addi a3, a3, -1
    s32i a3, a1, AT_TILES
    bnez a3, .Ltile
    retw.n
    HALF_WAY
    .size tlm_k_s3_batch_q8_0, . - tlm_k_s3_batch_q8_0
