/* Calls every kernel of a backend, case by case. Plain, once each, for callgrind to count: tests/c/x86_counts.py runs it and
 * reads the dumps. With -DTIMES it prints the least time of many calls instead, in ticks of the clock that never changes
 * speed: tests/bench/kernel_times.py. Usage: kernel_costs BACKEND; prints SKIP where this CPU lacks it. */
#include <stdio.h>

#include "kernel_cases.h"

#ifdef TIMES
#include <x86intrin.h>

enum { TRIES = 400, CALLS = 16 }; /* the clock's grain is that of a short call */

#define COST(prepare, call, ...)                                  \
    do {                                                          \
        uint64_t best = UINT64_MAX;                               \
        for (uint32_t try = 0; try < TRIES; try++) {              \
            unsigned core;                                        \
            prepare;                                              \
            const uint64_t start = __rdtscp(&core);               \
            for (uint32_t i_ = 0; i_ < CALLS; i_++) {             \
                call;                                             \
            }                                                     \
            const uint64_t ticks = __rdtscp(&core) - start;       \
            best = ticks < best ? ticks : best;                   \
        }                                                         \
        printf(__VA_ARGS__);                                      \
        printf(" %llu\n", (unsigned long long)best);              \
    } while (0)
#else
#include <valgrind/callgrind.h>

#define COST(prepare, call, ...)                                        \
    do {                                                                \
        char name[64];                                                  \
        (void)snprintf(name, sizeof name, __VA_ARGS__);                 \
        prepare;                                                        \
        CALLGRIND_ZERO_STATS;                                           \
        CALLGRIND_TOGGLE_COLLECT;                                       \
        call;                                                           \
        CALLGRIND_TOGGLE_COLLECT;                                       \
        CALLGRIND_DUMP_STATS_AT(name);                                  \
    } while (0)

/* The C library's own pick their form by the CPU: with these, counts are the same on every machine. */
void *memset(void *to, int value, size_t n)
{
    unsigned char *at = to;
    while (n-- != 0) {
        *at++ = (unsigned char)value;
    }
    return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
    unsigned char *at = to;
    const unsigned char *source = from;
    while (n-- != 0) {
        *at++ = *source++;
    }
    return to;
}
#endif

static tlm_kernels ref, k;
static bool all; /* every slot, or only those that the backend does not share with the reference kernels */

static const char *const TYPES[] = {"f32", "f16", "q8_0", "q4_0", "t2", "t1"}; /* by TLM_TENSOR_TYPE_* */
static const char *const NORMS[] = {"layer", "rms"};
static const char *const ACTS[] = {"silu", "gelu_tanh", "gelu_erf", "relu", "relu2"};
static const char *const CACHES[] = {"f32", "f16", "i8", "i4"};
static const uint32_t WIDTHS[] = {128, 172}; /* a plain one, one with a tail */
enum { MAX = 512, ROWS = 24, HEADS = 4, KV_HEADS = 2, DIM = 16, LAST = 40 };

static void linear(uint8_t type, uint32_t cols, uint32_t batch)
{
    static const uint8_t tile[] = TLM_TILE_ROWS_INIT;
    static float y[ROWS * TLM_MAX_BATCH], row[MAX];
    tlm_weight w = random_weight(type, ROWS, cols);
    const tlm_input in = random_input(&ref, cols, batch, type == TLM_TENSOR_TYPE_T2 || type == TLM_TENSOR_TYPE_T1);
    const uint32_t tiles = (ROWS + tile[type] - 1u) / tile[type];
    if (all || k.linear[type] != ref.linear[type]) {
        COST(, k.linear[type](&w, &in, 0, tiles, y, ROWS), "linear_%s/%ux%u*%u", TYPES[type], ROWS, cols, batch);
        if (all && batch == 1u) {
            COST(, k.row[type](&w, ROWS - 1u, row), "row_%s/%u", TYPES[type], cols);
        }
    } else if (k.linear_repacked[type] != NULL) {
        void *copy = aligned(k.repack_bytes(&w));
        k.repack(&w, copy);
        w.data = copy;
        w.repacked = true;
        COST(, k.linear_repacked[type](&w, &in, 0, tiles, y, ROWS), "linear_%s/%ux%u*%u", TYPES[type], ROWS, cols, batch);
    }
}

static void elementwise(uint32_t n)
{
    static float x[MAX], y[MAX], gain[MAX], out[MAX], scales[MAX];
    static int8_t codes[MAX];
    static int32_t sums[MAX];
    fill(x, n, MAX);
    fill(y, n, MAX);
    fill(gain, n, MAX);
    if (all || k.quant_block != ref.quant_block) {
        COST(, k.quant_block(x, n, 0.0f, codes, scales, sums), "quant_block/%u", n);
    }
    if (all || k.quant_vector != ref.quant_vector) {
        COST(, k.quant_vector(x, n, 0.0f, codes, scales, sums), "quant_vector/%u", n);
    }
    for (uint32_t i = 0; i < TLM_NORM_KIND_COUNT; i++) {
        if (all || k.norm[i] != ref.norm[i]) {
            COST(, k.norm[i](x, n, 1e-5f, gain, NULL, out), "norm_%s/%u", NORMS[i], n);
        }
    }
    for (uint32_t i = 0; i < TLM_ACT_COUNT; i++) {
        if (all || k.act[i] != ref.act[i]) {
            COST(memcpy(out, x, sizeof x), k.act[i](out, y, n), "act_%s/%u", ACTS[i], n);
        }
    }
    if (all || k.add != ref.add) {
        COST(, k.add(out, x, n), "add/%u", n);
    }
    if (all || k.mul != ref.mul) {
        COST(, k.mul(out, x, n), "mul/%u", n);
    }
    if (all || k.centre != ref.centre) {
        COST(, k.centre(out, 1, n, MAX, x, gain), "keys/%u", n);
    }
    if (all || k.bound != ref.bound) {
        static const tlm_bound bound = {0.01f, 0.2f, 0.2f, 0x1p-14f, 1.0f};
        COST(, (void)k.bound(&bound, x, (const uint8_t *)codes, n, out), "bound/%u", n);
    }
}

static void rope(void)
{
    static float x[HEADS * DIM], turns[DIM];
    fill(turns, DIM, DIM);
    if (all || k.rope != ref.rope) {
        COST(fill(x, HEADS * DIM, HEADS * DIM), k.rope(x, HEADS, DIM, DIM, turns), "rope/%ux%u", HEADS, DIM);
    }
}

/* A cache of LAST + 1 positions: one more k, one more v, the attention over all. */
static void attention(uint32_t kv)
{
    const size_t region = KV_HEADS * DIM * TLM_PAGE * sizeof(float);
    void *pages[LAST / TLM_PAGE + 1];
    float x[KV_HEADS * DIM], q[HEADS * DIM], out[HEADS * DIM];
    for (uint32_t p = 0; p <= LAST / TLM_PAGE; p++) {
        pages[p] = aligned(2u * region + 64u);
    }
    for (uint32_t t = 0; t <= LAST; t++) {
        uint8_t *page = pages[t / TLM_PAGE];
        uint16_t *scales = (void *)(page + 2u * region);
        fill(x, KV_HEADS * DIM, KV_HEADS * DIM);
        (void)ref.kv_store[kv](x, KV_HEADS, DIM, true, page + region, scales + TLM_PAGE, t % TLM_PAGE);
        if (t == LAST && (all || k.kv_store[kv] != ref.kv_store[kv])) {
            COST(, (void)k.kv_store[kv](x, KV_HEADS, DIM, false, page, scales, t % TLM_PAGE), "kv_store_%s/%ux%u", CACHES[kv],
                  KV_HEADS, DIM);
        } else {
            (void)ref.kv_store[kv](x, KV_HEADS, DIM, false, page, scales, t % TLM_PAGE);
        }
    }
    fill(q, HEADS * DIM, HEADS * DIM);
    void *scratch = aligned(k.attn_scratch(LAST + 1u, DIM));
    const tlm_attn a = {q,     out,      pages, 0,    region, 2u * region, 2u * region + 2u * TLM_PAGE, DIM,
                        HEADS, KV_HEADS, 0,     LAST, 0,      HEADS,       0.25f,                       scratch};
    if (all || k.attn[kv] != ref.attn[kv]) {
        COST(, (void)k.attn[kv](&a), "attn_%s/%ux%u*%u", CACHES[kv], HEADS, DIM, LAST + 1u);
    }
}

int main(int argc, char **argv)
{
    tlm_kernels_ref(&ref);
    if (argc != 2 || !tlm_kernels_select(&k, argv[1])) {
        printf("SKIP no backend %s on this CPU\n", argc == 2 ? argv[1] : "?");
        return 0;
    }
    all = strcmp(argv[1], ref.name) == 0;
    for (uint32_t i = 0; i < sizeof WIDTHS / sizeof WIDTHS[0]; i++) {
        for (uint8_t type = 0; type < sizeof TYPES / sizeof TYPES[0]; type++) {
            linear(type, WIDTHS[i], 1);
            linear(type, WIDTHS[i], TLM_MAX_BATCH);
        }
        elementwise(WIDTHS[i]);
    }
    rope();
    for (uint32_t kv = 0; kv < TLM_KV_COUNT; kv++) {
        attention(kv);
    }
    return 0;
}
