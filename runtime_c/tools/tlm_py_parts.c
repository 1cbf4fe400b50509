/* Single functions and kernels for the tests that compare them with the oracle bit for bit. */
#include <stdlib.h>
#include <string.h>

#include "tlm_kernels.h"
#include "tlm_math.h"

enum { PART_EXP, PART_LOG, PART_SQRT, PART_SIGMOID, PART_F16 };

static float one(uint32_t part, float x)
{
    uint16_t half;
    switch (part) {
    case PART_EXP: return tlm_exp(x);
    case PART_LOG: return tlm_log(x);
    case PART_SQRT: return tlm_sqrt(x);
    case PART_SIGMOID: return tlm_sigmoid(x);
    default: return tlm_to_f16(x, &half) ? tlm_from_f16(half) : tlm_float(TLM_INF_BITS);
    }
}

/* y[i] = part(x[i]); F16 is there and back, +Inf where it does not fit. */
void tlm_py_math(uint32_t part, const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = one(part, x[i]);
    }
}

void tlm_py_sincos(const uint32_t *turns, float *sine, float *cosine, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        tlm_sincos(turns[i], &sine[i], &cosine[i]);
    }
}

/* bf16 scale and inverse of a KV group (rule 15); top is 127 or 7. */
bool tlm_py_kv_scale(const float *x, uint32_t n, uint32_t top, uint16_t *scale, float *inv)
{
    return tlm_kv_scale(x, n, top == 127 ? TLM_KV_INV_127 : TLM_KV_INV_7, scale, inv);
}

bool tlm_py_has_backend(const char *backend)
{
    tlm_kernels k;
    return tlm_kernels_select(&k, backend);
}

/* Kernels want 16-byte aligned vectors with zero pads: a copy of x in `stride` floats a row. */
static void *aligned(size_t bytes)
{
    char *memory = calloc(1, bytes + 192);
    if (memory == NULL) {
        abort();
    }
    char *at = (char *)(((uintptr_t)memory + 64u + 63u) & ~(uintptr_t)63u);
    memcpy(at - sizeof memory, &memory, sizeof memory);
    return at;
}

static void release(void *at)
{
    void *memory;
    memcpy(&memory, (char *)at - sizeof memory, sizeof memory);
    free(memory);
}

static float *padded(const float *x, uint32_t n, uint32_t batch)
{
    const uint32_t np = tlm_padded(n);
    float *out = aligned((size_t)np * batch * sizeof *out + 64);
    for (uint32_t b = 0; b < batch; b++) {
        memcpy(out + (size_t)b * np, x + (size_t)b * n, n * sizeof *out);
    }
    return out;
}

bool tlm_py_quant(const char *backend, bool per_vector, const float *x, uint32_t n, float floor, int8_t *codes,
                  float *scales, int32_t *sums)
{
    tlm_kernels k;
    if (!tlm_kernels_select(&k, backend)) {
        return false;
    }
    const uint32_t np = tlm_padded(n), blocks = (np + 31u) / 32u;
    float *in = padded(x, n, 1);
    int8_t *c = aligned(np + 64);
    float *s = aligned(blocks * sizeof *s);
    int32_t *t = aligned(blocks * sizeof *t);
    const bool ok = (per_vector ? k.quant_vector : k.quant_block)(in, n, floor, c, s, t);
    memcpy(codes, c, np);
    memcpy(scales, s, (per_vector ? 1u : blocks) * sizeof *s);
    memcpy(sums, t, blocks * sizeof *t);
    release(in);
    release(c);
    release(s);
    release(t);
    return ok;
}

/* Elementwise kernels in place: g[i] = act(g[i]) * up[i]; up may be NULL. */
bool tlm_py_act(const char *backend, uint32_t act, float *g, const float *up, uint32_t n)
{
    tlm_kernels k;
    if (!tlm_kernels_select(&k, backend)) {
        return false;
    }
    float *a = padded(g, n, 1), *b = up != NULL ? padded(up, n, 1) : NULL;
    k.act[act](a, b, n);
    memcpy(g, a, n * sizeof *g);
    release(a);
    if (b != NULL) {
        release(b);
    }
    return true;
}

bool tlm_py_norm(const char *backend, uint32_t kind, const float *x, uint32_t n, float eps, const float *g,
                 const float *b, float *y)
{
    tlm_kernels k;
    if (!tlm_kernels_select(&k, backend)) {
        return false;
    }
    float *in = padded(x, n, 1), *out = aligned(tlm_padded(n) * sizeof *out);
    float *gain = g != NULL ? padded(g, n, 1) : NULL, *bias = b != NULL ? padded(b, n, 1) : NULL;
    k.norm[kind](in, n, eps, gain, bias, out);
    memcpy(y, out, n * sizeof *y);
    release(in);
    release(out);
    if (gain != NULL) {
        release(gain);
    }
    if (bias != NULL) {
        release(bias);
    }
    return true;
}

/* Aligned copies of the inputs of a linear layer, quantised as its type wants. */
typedef struct prepared {
    float *x;
    int8_t *codes;
    float *scales;
    int32_t *sums;
    tlm_input input;
    bool finite;
} prepared;

static prepared prepare(const tlm_kernels *k, uint8_t type, const float *x, uint32_t n, uint32_t batch)
{
    const uint32_t np = tlm_padded(n), blocks = (np + 31u) / 32u;
    const bool per_vector = type == TLM_TENSOR_TYPE_T2 || type == TLM_TENSOR_TYPE_T1;
    tlm_quant_fn *quant = per_vector ? k->quant_vector : k->quant_block;
    prepared p;
    p.x = padded(x, n, batch);
    p.codes = aligned((size_t)np * batch + 64);
    p.scales = aligned((size_t)blocks * batch * sizeof *p.scales + 64);
    p.sums = aligned((size_t)blocks * batch * sizeof *p.sums + 64);
    p.finite = true;
    for (uint32_t b = 0; b < batch; b++) {
        const size_t at = (size_t)b * blocks;
        p.finite = quant(p.x + (size_t)b * np, n, 0.0f, p.codes + (size_t)b * np, p.scales + at, p.sums + at) && p.finite;
    }
    const tlm_input input = {p.x, p.codes, p.scales, p.sums, n, batch, np, np, blocks};
    p.input = input;
    return p;
}

static void release_prepared(prepared *p)
{
    release(p->x);
    release(p->codes);
    release(p->scales);
    release(p->sums);
}

/* Replaces w by the backend's own copy, where it makes one; the caller releases what is returned. */
static void *repacked(const tlm_kernels *k, tlm_weight *w)
{
    const size_t bytes = k->repack_bytes != NULL ? k->repack_bytes(w) : 0;
    if (bytes == 0) {
        return NULL;
    }
    void *copy = aligned(bytes + 64);
    k->repack(w, copy);
    w->data = copy;
    w->repacked = true;
    return copy;
}

/* One linear layer: quantises x [batch][cols] as its type wants, then y [batch][rows] in two ranges of tiles. `repack`
 * uses the backend's own copy of the weights. */
bool tlm_py_linear(const char *backend, uint32_t type, const void *packed, size_t bytes, uint32_t rows, uint32_t cols,
                   float scale, bool repack, const float *x, uint32_t batch, uint32_t split, float *y)
{
    static const uint8_t tile_rows[TLM_TENSOR_TYPE_LIMIT] = TLM_TILE_ROWS_INIT;
    tlm_kernels k;
    if (!tlm_kernels_select(&k, backend)) {
        return false;
    }
    void *data = aligned(bytes + 64);
    memcpy(data, packed, bytes);
    tlm_weight w = {data, rows, cols, scale, (uint8_t)type, false};
    void *copy = repack ? repacked(&k, &w) : NULL;
    tlm_linear_fn *linear = copy != NULL ? k.linear_repacked[type] : k.linear[type];
    prepared in = prepare(&k, (uint8_t)type, x, cols, batch);
    float *out = aligned((size_t)rows * batch * sizeof *out + 64);
    const uint32_t tiles = (rows + tile_rows[type] - 1u) / tile_rows[type], cut = split < tiles ? split : tiles;
    if (cut > 0) {
        linear(&w, &in.input, 0, cut, out, rows);
    }
    if (cut < tiles) {
        linear(&w, &in.input, cut, tiles, out, rows);
    }
    memcpy(y, out, (size_t)rows * batch * sizeof *y);
    if (copy != NULL) {
        release(copy);
    }
    release(data);
    release(out);
    release_prepared(&in);
    return in.finite;
}
