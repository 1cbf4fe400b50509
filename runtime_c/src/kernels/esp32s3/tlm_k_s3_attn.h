/* What the two score kernels share (assembler only): tlm_k_s3_score, and 16 lanes of QACC made into scores. */
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

/* QACC to 16 scores: (float)S * (f8*ks), ks from a4, scores to a5, both moving on. a8-a14, f0-f7, SAR. */
    .macro SCORES
    mov a9, a1
    ee.st.qacc_l.l.128.ip a9, 16
    ee.st.qacc_h.l.128.ip a9, 16
    ee.st.qacc_l.h.32.ip a9, 4
    ee.st.qacc_h.h.32.ip a9, 4
    EIGHT 0, 32
    EIGHT 16, 36
    .endm

/* Arguments to registers: a2 q, a3 pages, a4 ks, a5 scores, a6 dims, a7 pages left, a15 offset, f8 qa. */
    .macro SCORE_BEGIN
    entry a1, FRAME
    l32i a3, a2, SCORE_PAGES
    l32i a4, a2, SCORE_KS
    l32i a5, a2, SCORE_OUT
    l32i a6, a2, SCORE_DIMS
    l32i a7, a2, SCORE_N_PAGES
    l32i a15, a2, SCORE_OFFSET
    lsi f8, a2, SCORE_QA
    l32i a2, a2, SCORE_Q
    .endm
