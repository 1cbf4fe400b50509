/* Inputs of kernels for tests and measurements: weights, activations and vectors from a fixed random sequence. */
#ifndef KERNEL_CASES_H
#define KERNEL_CASES_H

#include <stdlib.h>
#include <string.h>

#include "tlm_kernels.h"
#include "tlm_math.h"

static uint64_t state = 88172645463325252u;

static inline uint32_t rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static inline uint32_t below(uint32_t n)
{
    return rnd() % n;
}

/* Mostly ordinary, now and then zero, -0, subnormal or large. */
static inline float value(void)
{
    const uint32_t kind = below(24);
    const float v = ((float)(int32_t)rnd()) * 0x1p-31f;
    if (kind == 0) {
        return -0.0f;
    }
    if (kind == 1) {
        return v * 0x1p-130f;
    }
    return kind == 2 ? v * 1000.0f : v * 4.0f;
}

static inline void *aligned(size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes + 64u) != 0) {
        exit(2);
    }
    memset(p, 0xa5, bytes + 64u);
    return p;
}

static inline void fill(float *x, uint32_t n, uint32_t room)
{
    memset(x, 0, sizeof(float) * room);
    for (uint32_t i = 0; i < n; i++) {
        x[i] = value();
    }
}

static inline uint8_t random_code(uint8_t type)
{
    if (type == TLM_TENSOR_TYPE_Q8_0) {
        return (uint8_t)(int8_t)((int32_t)below(255) - 127);
    }
    if (type == TLM_TENSOR_TYPE_T2) {
        return (uint8_t)(below(3) | below(3) << 2 | below(3) << 4 | below(3) << 6);
    }
    if (type == TLM_TENSOR_TYPE_T1) {
        return (uint8_t)((256u * below(243) + 242u) / 243u);
    }
    return (uint8_t)rnd();
}

static inline uint8_t pad_code(uint8_t type)
{
    switch (type) {
    case TLM_TENSOR_TYPE_Q4_0: return 0x08;
    case TLM_TENSOR_TYPE_T2: return 0x55;
    case TLM_TENSOR_TYPE_T1: return (uint8_t)((256u * 121u + 242u) / 243u);
    default: return 0;
    }
}

static const uint32_t GROUP[] = TLM_GROUP_ROWS_INIT, TILE[] = TLM_TILE_ROWS_INIT;

/* f32 and f16 weights, pads zero. */
static inline tlm_weight random_floats(uint8_t type, uint32_t rows, uint32_t cols)
{
    const uint32_t np = tlm_padded(cols), size = type == TLM_TENSOR_TYPE_F16 ? 2u : 4u;
    uint8_t *data = aligned((size_t)rows * np * size);
    memset(data, 0, (size_t)rows * np * size);
    for (uint32_t i = 0; i < rows * np; i++) {
        const float v = i % np < cols ? value() : 0.0f;
        uint16_t h = 0;
        (void)tlm_to_f16(v, &h);
        memcpy(data + (size_t)i * size, size == 2u ? (const void *)&h : (const void *)&v, size);
    }
    const tlm_weight w = {data, rows, cols, 0.0f, type, false};
    return w;
}

/* A weight with random codes; pads as BLOB.md wants them (pad rows keep random codes under scale 0: never read). */
static inline tlm_weight random_weight(uint8_t type, uint32_t rows, uint32_t cols)
{
    if (type == TLM_TENSOR_TYPE_F32 || type == TLM_TENSOR_TYPE_F16) {
        return random_floats(type, rows, cols);
    }
    const uint32_t np = tlm_padded(cols), blocks = (np + 31u) / 32u, tiles = (rows + TILE[type] - 1u) / TILE[type];
    const bool scaled = type == TLM_TENSOR_TYPE_Q8_0 || type == TLM_TENSOR_TYPE_Q4_0;
    const uint32_t groups = TILE[type] / GROUP[type];
    const size_t tile = (scaled ? 16u * blocks : 0u) + (size_t)groups * np;
    uint8_t *data = aligned(tile * tiles);
    for (uint32_t t = 0; t < tiles; t++) {
        uint8_t *at = data + t * tile;
        for (uint32_t i = 0; scaled && i < 8u * blocks; i++) {
            uint16_t h = 0;
            (void)tlm_to_f16(value() * 0.01f, &h);
            memcpy(at + 2u * i, &h, 2);
        }
        at += scaled ? 16u * blocks : 0u;
        for (uint32_t i = 0; i < groups * np; i++) {
            at[i] = i % np < cols ? random_code(type) : pad_code(type);
        }
    }
    tlm_weight w = {data, rows, cols, 0.0371f, type, false};
    return w;
}

static inline tlm_input random_input(const tlm_kernels *ref, uint32_t n, uint32_t batch, bool per_vector)
{
    const uint32_t np = tlm_padded(n), blocks = (np + 31u) / 32u;
    int8_t *codes = aligned((size_t)np * batch);
    float *scales = aligned(sizeof(float) * blocks * batch), *x = aligned(sizeof(float) * np * batch);
    int32_t *sums = aligned(sizeof(int32_t) * blocks * batch);
    for (uint32_t b = 0; b < batch; b++) {
        fill(x + (size_t)b * np, n, np);
        (void)(per_vector ? ref->quant_vector : ref->quant_block)(x + (size_t)b * np, n, 0.0f, codes + (size_t)b * np,
                                                                  scales + (size_t)b * blocks, sums + (size_t)b * blocks);
    }
    const tlm_input in = {x, codes, scales, sums, n, batch, np, np, blocks};
    return in;
}

#endif
