/* What the two matvec kernels with block scales share (assembler only): the end of a block, the walk over the tiles. */
#include "tlm_k_s3_asm.h"

/* acc = acc + f13 * ws0, and f14 * ws1 into the second, without acc in the first block. */
    .macro ADD_TERMS acc0, acc1, ws0, ws1, first
    .if \first
    mul.s \acc0, f13, \ws0
    mul.s \acc1, f14, \ws1
    .else
    mul.s f13, f13, \ws0
    mul.s f14, f14, \ws1
    add.s \acc0, \acc0, f13
    add.s \acc1, \acc1, f14
    .endif
    .endm

/* All tiles by the kernel's BLOCK, which leaves its sums in f0-f7; to the end of the function. a13: the step between rows (bit 4
 * set where np % 32 = 0), a14 to the next block, a8 to the next tile, a15 tiles. */
    .macro TILES
.Ltile:
    l32i a12, a1, AT_STEPS
    bgez a12, .Lblocks
    j .Lonly
.Lblocks:
    BLOCK a14, first=1, last=0
    beqz a12, .Llast
.Lblock:
    BLOCK a14, first=0, last=0
    addi a12, a12, -1
    bnez a12, .Lblock
.Llast:
    TILE_ENDS .Lwhole, .Lmore
    BLOCK a8, first=0, last=1
.Lstore:
    l32i a5, a1, AT_SCRATCH
    ee.stf.128.ip f3, f2, f1, f0, a2, 16
    ee.stf.128.ip f7, f6, f5, f4, a2, 16
    bnez a15, .Ltile
    retw.n
.Lonly:
    TILE_ENDS .Lwhole_only, .Lmore_only
    BLOCK a8, first=1, last=1
    j .Lstore
    .endm

    .macro TILE_ENDS whole, more
    l32i a4, a1, AT_CODES
    addi a15, a15, -1
    bbsi a13, 4, \whole
    ee.zero.q q1
\whole:
    bnez a15, \more
    movi a8, -16                /* after the last tile: read its end again */
\more:
    .endm
