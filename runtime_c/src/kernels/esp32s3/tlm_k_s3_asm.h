/* What the .S kernels of this folder share: for the assembler only.
 *
 * Scales. An f16 h becomes the float whose bit 31 is the sign and whose bits 27..13 are the rest: exactly h * 2^-112,
 * subnormals too. The input scales carry the 2^112, so that a product rounds as (ws*as) does.
 */
    /* tlm_k_s3_linear (tlm_k_s3.h) */
    .set ARG_TILES, 0
    .set ARG_CODES, 4
    .set ARG_SCALES, 8
    .set ARG_SUMS, 12
    .set ARG_Y, 16
    .set ARG_SCRATCH, 20
    .set ARG_N_TILES, 24
    .set ARG_NP, 28
    .set ARG_BATCH, 32
    .set ARG_CODE_STRIDE, 36
    .set ARG_BLOCK_STRIDE, 40
    .set ARG_Y_STRIDE, 44
    .set ARG_SCALE, 48

    /* The top of every frame belongs to the window exceptions. */
    .set FRAME_TOP, 48

/* Eight f16 in `high` to floats times 2^-112, the first four in `low`, which may hold anything; `mask` is 0x8FFFE000 in each
 * lane. SAR = 3. */
    .macro CONVERT low, high, mask
    ee.vzip.16 \low, \high
    ee.vsr.32 \low, \low
    ee.vsr.32 \high, \high
    ee.andq \low, \low, \mask
    ee.andq \high, \high, \mask
    .endm
