/* Codes of one position into the KV cache, rule 15 of NUMERICS.md: rows of 16 positions, the next dimension's (or pair's) 16 bytes
 * on. x 16-aligned, n a multiple of 4; out any alignment; |x[i] * *inv| <= 127 and 7.
 *
 * void tlm_k_s3_store_i8(const float *x, int8_t *out, const float *inv, uint32_t n)
 *     out[16*i] = code of x[i]. 18 instructions for 4 values, 7 a call. a2-a9, f0-f5.
 *
 * void tlm_k_s3_store_i4(const float *x, int8_t *out, const float *inv, uint32_t n)
 *     out[16*i]: code of x[2*i] + 8, and that of x[2*i + 1] in the high nibble. 20 instructions for 4 values, 9 a call. a2-a9,
 *     f0-f6.
 */
    .macro FOUR_CODES low, high
    ee.ldf.128.ip f3, f2, f1, f0, a2, 16
    mul.s f0, f0, f4
    mul.s f1, f1, f4
    mul.s f2, f2, f4
    mul.s f3, f3, f4
    add.s f0, f0, \low
    add.s f1, f1, \high
    add.s f2, f2, \low
    add.s f3, f3, \high
    rfr a6, f0
    rfr a7, f1
    rfr a8, f2
    rfr a9, f3
    .endm

    .text
    .literal_position
    .align 4
    .global tlm_k_s3_store_i8
    .type tlm_k_s3_store_i8, @function
tlm_k_s3_store_i8:
    entry a1, 32
    lsi f4, a4, 0
    movi a6, 0x4B400000         /* 12582912.0f: the code is left in the low byte */
    wfr f5, a6
    srli a5, a5, 2
    loopnez a5, .Lstored_8
    FOUR_CODES f5, f5
    s8i a6, a3, 0
    s8i a7, a3, 16
    s8i a8, a3, 32
    s8i a9, a3, 48
    addi a3, a3, 64
.Lstored_8:
    retw.n
    .size tlm_k_s3_store_i8, . - tlm_k_s3_store_i8

    .align 4
    .global tlm_k_s3_store_i4
    .type tlm_k_s3_store_i4, @function
tlm_k_s3_store_i4:
    entry a1, 32
    lsi f4, a4, 0
    movi a6, 0x4B400000
    wfr f5, a6
    addi a6, a6, 8              /* 8 more; an even number keeps the ties */
    wfr f6, a6
    srli a5, a5, 2
    loopnez a5, .Lstored_4
    FOUR_CODES f6, f5
    slli a7, a7, 4
    slli a9, a9, 4
    add a6, a6, a7
    add a8, a8, a9
    s8i a6, a3, 0
    s8i a8, a3, 16
    addi a3, a3, 32
.Lstored_4:
    retw.n
    .size tlm_k_s3_store_i4, . - tlm_k_s3_store_i4
