/* void tlm_k_s3_linear_q4_0(const tlm_k_s3_linear *args): rule 7 of NUMERICS.md, one input vector, whole tiles.
 *
 * args (tlm_k_s3.h)   tiles and codes 16-aligned; y 16-aligned, 8 floats a tile; scratch 8-aligned, 8 bytes a block;
 *                     every input scale below 2^15 (the caller checks); n_tiles >= 1, np >= 16.
 * reads past the end  nothing where np % 32 = 0; else 16 bytes after the tiles and 16 after the codes (times zero).
 * instructions        87 a block of 8 rows and 32 columns (the first 79), 2 a turn of the inner loop, 11 a tile.
 * registers           a2-a15, f0-f14, q0-q7, ACCX, SAR.
 *
 * A byte w holds rows 2g and 2g+1: w = 16*high + low + 8. With e = w ^ 0xF0 = -16*high + low - 8 the sums over a block
 * are r1 = sum(w*x), r2 = r1 + sum(e*x) = 2*S_low, and 2*r1 - r2 = 32*S_high + 16*sum(x): ACCX starts at zero each time.
 */
#include "tlm_k_s3_single.h"

    /* Frame: 32 bytes of converted scales, the mask of their bits, then what each tile starts from. */
    .set FRAME, 64 + FRAME_TOP
    .set AT_MASK, 32
    .set AT_CODES, 48
    .set AT_SCRATCH, 52
    .set AT_STEPS, 56
    .set AT_SCALES_STEP, 60

    .section .rodata
    .align 16
.Lq4_tables:
    .long 0xF0F0F0F0, 0xF0F0F0F0, 0xF0F0F0F0, 0xF0F0F0F0
    .long 0x8FFFE000, 0x8FFFE000, 0x8FFFE000, 0x8FFFE000
    .long 0x77800000 /* 2^112 */

/* a9 = 32*S_high + 16*sum(x), a10 = 2*S_low of the pair of rows in q3, q4 (inputs q0, q1; 0xF0 in q2). q3 and q4 get the
 * next pair's weights; `next` is the step after those. Before a sum is read stands what does not wait for it: the products
 * ws*as in ws_low and ws_high; in the first pair of a block a11 = 16*sum(x) and f12 = as, and its loads are those of the
 * block's scales and their mask. `fetch`: the next inputs. */
    .macro SUMS next, ws_low, ws_high, begin=0, fetch=0, last=0
    ee.zero.accx
    ee.xorq q5, q3, q2
    ee.xorq q6, q4, q2
    ee.vmulas.s8.accx.ld.ip q3, a3, 16, q3, q0
    ee.vmulas.s8.accx.ld.xp q4, a3, \next, q4, q1
    .if \begin
    l32i a11, a5, 4
    rur.accx_0 a9
    .if \last
    l32i a10, a1, AT_SCALES_STEP
    ee.vmulas.s8.accx.ld.xp q7, a6, a10, q5, q0
    .else
    ee.vmulas.s8.accx.ld.ip q7, a6, 16, q5, q0
    .endif
    ee.vmulas.s8.accx.ld.ip q5, a7, -AT_MASK, q6, q1
    lsip f12, a5, 8
    .else
    mul.s \ws_low, \ws_low, f12
    rur.accx_0 a9
    .if \fetch
    ee.vmulas.s8.accx.ld.ip q0, a4, 16, q5, q0
    ee.vmulas.s8.accx.ld.ip q1, a4, 16, q6, q1
    .else
    ee.vmulas.s8.accx q5, q0
    ee.vmulas.s8.accx q6, q1
    .endif
    mul.s \ws_high, \ws_high, f12
    .endif
    rur.accx_0 a10
    .endm

/* acc = acc + (float)S * (ws*as) for both rows, without acc in the first block. */
    .macro ACCUMULATE acc_low, acc_high, ws_low, ws_high, first
    float.s f13, a10, 1
    subx2 a9, a9, a10
    sub a9, a9, a11
    float.s f14, a9, 5
    ADD_TERMS \acc_low, \acc_high, \ws_low, \ws_high, \first
    .endm

/* Eight rows of one block. `wrap` is the step from the last pair of this block to the first one of the next. */
    .macro BLOCK wrap, first, last
    SUMS a13, f8, f9, begin=1, last=\last
    CONVERT q6, q7, q5
    ee.vst.128.ip q6, a7, 16
    ee.vst.128.ip q7, a7, -16
    ee.ldf.128.ip f11, f10, f9, f8, a7, 16
    mul.s f8, f8, f12
    mul.s f9, f9, f12
    ACCUMULATE f0, f1, f8, f9, \first
    SUMS a13, f10, f11
    ACCUMULATE f2, f3, f10, f11, \first
    ee.ldf.128.ip f11, f10, f9, f8, a7, 16
    SUMS \wrap, f8, f9
    ACCUMULATE f4, f5, f8, f9, \first
    SUMS a13, f10, f11, fetch=1
    ACCUMULATE f6, f7, f10, f11, \first
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_linear_q4_0
    .type tlm_k_s3_linear_q4_0, @function
tlm_k_s3_linear_q4_0:
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

    movi a8, .Lq4_tables
    ee.vld.128.ip q2, a8, 16
    ee.vld.128.ip q6, a8, 16
    lsi f15, a8, 0
    addi a7, a1, AT_MASK
    ee.vst.128.ip q6, a7, 0
    ssai 3

    /* scratch[k] = { as_k * 2^112, 16 * sum_k } */
    l32i a9, a2, ARG_SCALES
    l32i a10, a2, ARG_SUMS
    loopnez a12, .Lprepared
    lsip f12, a9, 4
    l32i a11, a10, 0
    mul.s f12, f12, f15
    addi a10, a10, 4
    slli a11, a11, 4
    ssi f12, a5, 0
    s32i a11, a5, 4
    addi a5, a5, 8
.Lprepared:
    l32i a5, a1, AT_SCRATCH

    l32i a6, a2, ARG_TILES
    slli a9, a12, 4             /* bytes of a tile's scales */
    add a3, a6, a9
    sub a8, a13, a9
    addi a8, a8, 16             /* np - 16*blocks + 16: to the next tile */
    slli a10, a13, 2
    addi a10, a10, 16
    s32i a10, a1, AT_SCALES_STEP
    addx2 a14, a13, a13
    movi a10, 16
    sub a14, a10, a14           /* 16 - 3*np: to the next block */
    addi a13, a13, -16          /* to the next pair */
    l32i a15, a2, ARG_N_TILES
    l32i a2, a2, ARG_Y
    ee.vld.128.ip q0, a4, 16
    ee.vld.128.ip q1, a4, 16
    ee.vld.128.ip q3, a3, 16
    ee.vld.128.xp q4, a3, a13
    TILES
    .size tlm_k_s3_linear_q4_0, . - tlm_k_s3_linear_q4_0
