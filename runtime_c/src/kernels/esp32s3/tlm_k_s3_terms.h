/* What the kernels of several vectors share (assembler only): what becomes of a sum, f14 the product of its scales and f15 a
 * term; the walk over the tiles.
 *
 * What follows a sum waits for nothing: its conversion and products stand between the integer products of the next sum.
 */
#include "tlm_k_s3_asm.h"

/* The sum of row `ws` to a9; the product of its scales. */
    .macro READ ws, as
    mul.s f14, \ws, \as
    rur.accx_0 a9
    .endm

/* The three steps from a sum to its result, spread over what comes next: acc = acc + (float)S * (ws*as), without acc in the
 * first block. */
    .macro TERM
    float.s f15, a9, 0
    .endm

    .macro SCALE acc, first
    .if \first
    mul.s \acc, f15, f14
    .else
    mul.s f15, f15, f14
    .endif
    .endm

    .macro SUM acc, first
    .if \first
    .else
    add.s \acc, \acc, f15
    .endif
    .endm

/* The next tile, or the end. */
    .macro MORE_TILES
    l32i a9, a1, AT_TILES
    addi a9, a9, -1
    s32i a9, a1, AT_TILES
    bnez a9, .Ltile
    retw.n
    .endm
