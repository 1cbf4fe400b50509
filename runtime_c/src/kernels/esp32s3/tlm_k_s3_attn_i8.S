/* The two products of rule 17 of NUMERICS.md over an int8 cache, for one query head.
 *
 * void tlm_k_s3_score_i8(const tlm_k_s3_score *args)
 *     scores[16*p + s] = (float)S * (qa * ks[16*p + s]) for all 16 slots of pages 0..n_pages-1, S = sum of q*k over the
 *     head's dims. q any alignment, dims + 1 bytes readable; ks and scores 16-aligned; dims 1..32 (32*127*127 < 2^19: no
 *     lane of QACC saturates); n_pages >= 1. Slots outside of the window give values that nobody uses.
 *     111 instructions and 2 a dim for 16 positions, 12 a call. a2-a15, f0-f8, q0, q1, QACC, SAR.
 *
 * void tlm_k_s3_mix_i8(const int8_t *w, const int8_t *v0, const int8_t *v1, uint32_t dims, const float *scale, float *out)
 *     out[d] = out[d] + (float)S * *scale, S = sum over 32 positions of w*v; v0, v1: the head's [dims][16] in the block's two
 *     pages. w, v0, v1 16-aligned; dims >= 1. The caller starts out with -0.0, which leaves the first term as it is.
 *     Nothing is read past an end. 10 instructions a dim, 6 a call. a2-a8, f0-f2, q0-q3, ACCX.
 */
    .set SCORE_PAGES, 0
    .set SCORE_OFFSET, 4
    .set SCORE_Q, 8
    .set SCORE_KS, 12
    .set SCORE_OUT, 16
    .set SCORE_DIMS, 20
    .set SCORE_N_PAGES, 24
    .set SCORE_QA, 28
    .set FRAME, 48 + 48

/* Lanes 8*half.. of QACC as the words at a1 + `low`.. (four) and a1 + `high`, to floats times (f8*ks), stored at a5. */
    .macro EIGHT low, high
    l32i a8, a1, \low
    l32i a9, a1, \low + 4
    l32i a10, a1, \low + 8
    l32i a11, a1, \low + 12
    l32i a12, a1, \high
    ee.ldf.128.ip f3, f2, f1, f0, a4, 16
    ssai 20
    slli a13, a8, 12            /* bits 19..0 */
    src a8, a9, a8              /* 39..20 */
    slli a8, a8, 12
    srli a14, a9, 8             /* 59..40 */
    slli a14, a14, 12
    float.s f4, a13, 12
    float.s f5, a8, 12
    float.s f6, a14, 12
    ssai 28
    src a9, a10, a9             /* 79..60 */
    slli a9, a9, 12
    float.s f7, a9, 12
    SCALE
    ee.ldf.128.ip f3, f2, f1, f0, a4, 16
    ssai 16
    src a10, a11, a10           /* 99..80 */
    slli a10, a10, 12
    float.s f4, a10, 12
    srli a14, a11, 4            /* 119..100 */
    slli a14, a14, 12
    float.s f5, a14, 12
    ssai 24
    src a11, a12, a11           /* 139..120 */
    slli a11, a11, 12
    float.s f6, a11, 12
    srli a12, a12, 12           /* 159..140 */
    slli a12, a12, 12
    float.s f7, a12, 12
    SCALE
    .endm

    .macro SCALE
    mul.s f0, f0, f8
    mul.s f1, f1, f8
    mul.s f2, f2, f8
    mul.s f3, f3, f8
    mul.s f4, f4, f0
    mul.s f5, f5, f1
    mul.s f6, f6, f2
    mul.s f7, f7, f3
    ee.stf.128.ip f7, f6, f5, f4, a5, 16
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_score_i8
    .type tlm_k_s3_score_i8, @function
tlm_k_s3_score_i8:
    entry a1, FRAME
    l32i a3, a2, SCORE_PAGES
    l32i a4, a2, SCORE_KS
    l32i a5, a2, SCORE_OUT
    l32i a6, a2, SCORE_DIMS
    l32i a7, a2, SCORE_N_PAGES
    l32i a15, a2, SCORE_OFFSET
    lsi f8, a2, SCORE_QA
    l32i a2, a2, SCORE_Q
.Lpage:
    l32i a8, a3, 0
    mov a9, a2
    addi a3, a3, 4
    add a8, a8, a15
    ee.zero.qacc
    ee.vldbc.8 q1, a9
    loopnez a6, .Ldims
    ee.vld.128.ip q0, a8, 16
    ee.vmulas.s8.qacc.ldbc.incp q1, a9, q0, q1
.Ldims:
    mov a9, a1
    ee.st.qacc_l.l.128.ip a9, 16
    ee.st.qacc_h.l.128.ip a9, 16
    ee.st.qacc_l.h.32.ip a9, 4
    ee.st.qacc_h.h.32.ip a9, 4
    EIGHT 0, 32
    EIGHT 16, 36
    addi a7, a7, -1
    bnez a7, .Lpage
    retw.n
    .size tlm_k_s3_score_i8, . - tlm_k_s3_score_i8

    .align 4
    .global tlm_k_s3_mix_i8
    .type tlm_k_s3_mix_i8, @function
tlm_k_s3_mix_i8:
    entry a1, 32
    ee.vld.128.ip q0, a2, 16
    ee.vld.128.ip q1, a2, 16
    lsi f2, a6, 0
    loopnez a5, .Lmixed
    ee.vld.128.ip q2, a3, 16
    ee.zero.accx
    ee.vmulas.s8.accx.ld.ip q3, a4, 16, q2, q0
    ee.vmulas.s8.accx q3, q1
    lsi f0, a7, 0
    rur.accx_0 a8
    float.s f1, a8, 0
    mul.s f1, f1, f2
    add.s f0, f0, f1
    ssip f0, a7, 4
.Lmixed:
    retw.n
    .size tlm_k_s3_mix_i8, . - tlm_k_s3_mix_i8
