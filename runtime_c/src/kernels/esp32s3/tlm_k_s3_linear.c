/* Linear layers: cuts a call into what the assembly kernels take, and leaves the rest to the reference.
 *
 * Four vectors and more share a pass over the weights; one to three are done singly. Rows of a last tile that is not
 * whole, and results that are not aligned, go through a buffer. */
#include <string.h>

#include "tlm_k_s3.h"
#include "tlm_math.h"

/* Stack bytes of a call; it bounds the columns (14,720 for one vector) and the vectors of a pass (q4_0: 16 up to 512 columns,
 * 8 up to 576, 4 up to 1,472). Results do not depend on it. One to three vectors of up to 2,048 columns need FEW_SCRATCH
 * only: the certified head calls from deep in the stack. */
#ifndef TLM_K_S3_SCRATCH
#define TLM_K_S3_SCRATCH 3680u
#endif

enum { ROWS = 8, QUAD = 4, BATCH_PAD = 96, SCALE_TABLE = 32, FOUR_BLOCK = 80, SINGLE_BLOCK = 8, FEW_SCRATCH = 512 };

typedef void kernel_fn(const tlm_k_s3_linear *args);

typedef struct forms {
    kernel_fn *single, *four, *batch; /* four: may be NULL */
    tlm_linear_fn *ref;
    size_t tile_bytes;
    uint32_t unpacked; /* bytes of a block of four rows that `batch` keeps */
} forms;

static uint32_t blocks_of(uint32_t np)
{
    return (np + TLM_BLOCK - 1u) / TLM_BLOCK;
}

static bool aligned(const void *p, uintptr_t to)
{
    return (uintptr_t)p % to == 0;
}

/* The kernels carry 2^112 in the input scales. */
static bool scales_fit(const tlm_input *in, uint32_t blocks)
{
    for (uint32_t b = 0; b < in->batch; b++) {
        for (uint32_t k = 0; k < blocks; k++) {
            if (!(in->scales[(size_t)b * in->block_stride + k] < 0x1p15f)) {
                return false;
            }
        }
    }
    return true;
}

static void take_vectors(tlm_k_s3_linear *args, const tlm_input *in, uint32_t first, uint32_t count)
{
    args->codes = in->codes + (size_t)first * in->code_stride;
    args->scales = in->scales + (size_t)first * in->block_stride;
    args->sums = in->sums + (size_t)first * in->block_stride;
    args->batch = count;
}

/* One vector into results of any alignment. */
static void single(const forms *f, const tlm_k_s3_linear *whole, float *y)
{
    tlm_k_s3_linear args = *whole;
    args.y = y;
    if (aligned(y, 16)) {
        f->single(&args);
        return;
    }
    float out[ROWS] __attribute__((aligned(16)));
    args.y = out;
    args.n_tiles = 1;
    for (uint32_t tile = 0; tile < whole->n_tiles; tile++) {
        args.tiles = (const uint8_t *)whole->tiles + tile * f->tile_bytes;
        f->single(&args);
        memcpy(y + (size_t)tile * ROWS, out, sizeof out);
    }
}

/* How many of the `left` vectors a pass takes: as many as the scratch holds, not leaving two or three; 0: no batch. */
static uint32_t vectors_of_pass(const forms *f, uint32_t blocks, uint32_t left)
{
    const uint32_t a_block = (TLM_K_S3_SCRATCH - BATCH_PAD) / blocks, fixed = SCALE_TABLE + f->unpacked;
    const uint32_t room = a_block > fixed ? (a_block - fixed) / (uint32_t)sizeof(float) : 0u;
    const uint32_t count = tlm_min_u32(tlm_min_u32(room, left), TLM_MAX_BATCH) & ~1u;
    if (blocks < 2u) {
        return 0;
    }
    if (count < QUAD) {
        return f->four != NULL && left >= QUAD && blocks <= TLM_K_S3_SCRATCH / FOUR_BLOCK ? QUAD : 0u;
    }
    return count > QUAD && left - count >= 2u && left - count < QUAD ? count - 2u : count;
}

/* Whole tiles, all vectors: y holds ROWS*n_tiles results of each. */
static void tiles(const forms *f, tlm_k_s3_linear *args, const tlm_input *in, float *y, uint32_t y_stride)
{
    const uint32_t blocks = blocks_of(args->np);
    const bool fits = aligned(y, 16) && y_stride % 4u == 0 && in->code_stride % 16u == 0;
    uint32_t b = 0, count;
    args->y_stride = y_stride * (uint32_t)sizeof(float);
    while (fits && (count = vectors_of_pass(f, blocks, in->batch - b)) != 0) {
        take_vectors(args, in, b, count);
        args->y = y + (size_t)b * y_stride;
        (count == QUAD && f->four != NULL ? f->four : f->batch)(args);
        b += count;
    }
    for (; b < in->batch; b++) {
        take_vectors(args, in, b, 1);
        single(f, args, y + (size_t)b * y_stride);
    }
}

static tlm_input vectors(const tlm_input *in, uint32_t first, uint32_t count)
{
    tlm_input part = *in;
    part.codes += (size_t)first * in->code_stride;
    part.scales += (size_t)first * in->block_stride;
    part.sums += (size_t)first * in->block_stride;
    part.batch = count;
    return part;
}

/* Calls `run` for the whole tiles, then for a last tile that is not whole with the results in a buffer. */
static void rows(const forms *f, tlm_k_s3_linear *args, const tlm_weight *w, const tlm_input *in, uint32_t tile0,
                 uint32_t tile1, float *y, uint32_t y_stride,
                 void (*run)(const forms *, tlm_k_s3_linear *, const tlm_input *, float *, uint32_t))
{
    const uint32_t end = tlm_min_u32(tile1, w->rows / ROWS);
    if (tile0 < end) {
        args->tiles = (const uint8_t *)w->data + tile0 * f->tile_bytes;
        args->n_tiles = end - tile0;
        run(f, args, in, y + (size_t)tile0 * ROWS, y_stride);
    }
    if (end < tile1 && end * ROWS < w->rows) {
        args->tiles = (const uint8_t *)w->data + end * f->tile_bytes;
        args->n_tiles = 1;
        for (uint32_t b = 0; b < in->batch; b += QUAD) {
            float out[ROWS * QUAD] __attribute__((aligned(16)));
            const tlm_input part = vectors(in, b, tlm_min_u32(in->batch - b, QUAD));
            run(f, args, &part, out, ROWS);
            for (uint32_t i = 0; i < part.batch; i++) {
                memcpy(y + (size_t)(b + i) * y_stride + (size_t)end * ROWS, out + (size_t)i * ROWS,
                       (w->rows - end * ROWS) * sizeof(float));
            }
        }
    }
}

/* One function each: the frame of a common one would always hold the larger buffer. */
#define LINEAR_WITH(name, bytes)                                                                                    \
    __attribute__((noinline)) static void name(const forms *f, tlm_k_s3_linear *args, const tlm_weight *w,          \
                                               const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,       \
                                               uint32_t y_stride)                                                   \
    {                                                                                                               \
        uint8_t scratch[bytes] __attribute__((aligned(32)));                                                        \
        args->scratch = scratch;                                                                                    \
        rows(f, args, w, in, tile0, tile1, y, y_stride, tiles);                                                     \
    }
LINEAR_WITH(with_few, FEW_SCRATCH)
LINEAR_WITH(with_many, TLM_K_S3_SCRATCH)

static void linear(const forms *f, const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                   uint32_t y_stride)
{
    tlm_k_s3_linear args = {0};
    args.np = tlm_padded(w->cols);
    args.code_stride = in->code_stride;
    args.block_stride = in->block_stride * (uint32_t)sizeof(float);
    const uint32_t blocks = blocks_of(args.np), least = blocks * SINGLE_BLOCK;
    if (least > TLM_K_S3_SCRATCH || in->batch > TLM_MAX_BATCH || !scales_fit(in, blocks)) {
        f->ref(w, in, tile0, tile1, y, y_stride);
    } else if (in->batch < QUAD && least <= FEW_SCRATCH) {
        with_few(f, &args, w, in, tile0, tile1, y, y_stride);
    } else {
        with_many(f, &args, w, in, tile0, tile1, y, y_stride);
    }
}

void tlm_k_s3_q4_0(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                   uint32_t y_stride)
{
    const uint32_t np = tlm_padded(w->cols);
    const forms f = {tlm_k_s3_linear_q4_0, tlm_k_s3_four_q4_0, tlm_k_s3_batch_q4_0, tlm_k_ref_linear_q4_0,
                     (size_t)blocks_of(np) * 16u + (size_t)np * 4u, 128};
    linear(&f, w, in, tile0, tile1, y, y_stride);
}

void tlm_k_s3_q8_0(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y,
                   uint32_t y_stride)
{
    const uint32_t np = tlm_padded(w->cols);
    const forms f = {tlm_k_s3_linear_q8_0, NULL, tlm_k_s3_batch_q8_0, tlm_k_ref_linear_q8_0,
                     (size_t)blocks_of(np) * 16u + (size_t)np * 8u, 0};
    linear(&f, w, in, tile0, tile1, y, y_stride);
}

static void tiles_t2(const forms *f, tlm_k_s3_linear *args, const tlm_input *in, float *y, uint32_t y_stride)
{
    take_vectors(args, in, 0, in->batch);
    args->y = y;
    args->y_stride = y_stride * (uint32_t)sizeof(float);
    f->single(args);
}

void tlm_k_s3_t2(const tlm_weight *w, const tlm_input *in, uint32_t tile0, uint32_t tile1, float *y, uint32_t y_stride)
{
    float scratch[2u * TLM_MAX_BATCH] __attribute__((aligned(16)));
    tlm_k_s3_linear args = {0};
    args.np = tlm_padded(w->cols);
    args.scratch = scratch;
    args.code_stride = in->code_stride;
    args.block_stride = in->block_stride * (uint32_t)sizeof(float);
    args.scale = w->scale;
    const forms f = {tlm_k_s3_linear_t2, NULL, NULL, tlm_k_ref_linear_t2, (size_t)args.np * 2u, 0};
    if (!aligned(y, 16) || (in->batch > 1u && y_stride % 4u != 0) || in->batch > TLM_MAX_BATCH) {
        f.ref(w, in, tile0, tile1, y, y_stride);
        return;
    }
    rows(&f, &args, w, in, tile0, tile1, y, y_stride, tiles_t2);
}
