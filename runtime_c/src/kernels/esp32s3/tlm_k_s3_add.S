/* void tlm_k_s3_add(float *y, const float *x, uint32_t n): y[i] = y[i] + x[i] (rule 10).
 *
 * y and x 16-aligned; the last n % 4 values singly, nothing outside is read or written. 7 instructions for 4 values, 12 a
 * call. a2-a6, f0-f7.
 */
    .text
    .align 4
    .global tlm_k_s3_add
    .type tlm_k_s3_add, @function
tlm_k_s3_add:
    entry a1, 32
    srli a5, a4, 2
    loopnez a5, .Lfours
    ee.ldf.128.ip f3, f2, f1, f0, a2, 0
    ee.ldf.128.ip f7, f6, f5, f4, a3, 16
    add.s f0, f0, f4
    add.s f1, f1, f5
    add.s f2, f2, f6
    add.s f3, f3, f7
    ee.stf.128.ip f3, f2, f1, f0, a2, 16
.Lfours:
    extui a4, a4, 0, 2
    loopnez a4, .Lones
    lsi f0, a2, 0
    lsip f1, a3, 4
    add.s f0, f0, f1
    ssip f0, a2, 4
.Lones:
    retw.n
    .size tlm_k_s3_add, . - tlm_k_s3_add
