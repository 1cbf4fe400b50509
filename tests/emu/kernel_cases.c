/* The reference kernels on small inputs, a mark before and after each: kernel_counts.py lists the cases in cases.h. */
#include "kernels/ref/tlm_k_ref.h"
#include "tlm_math.h"

enum { ROWS = 16, COLS = 512, BATCH = 4, HEADS = 2, DIM = 8, POSITIONS = 48, PAGES = POSITIONS / TLM_PAGE };

#define ROOM __attribute__((aligned(64)))
static uint8_t data[ROWS * COLS * 4] ROOM, pages[TLM_KV_COUNT][PAGES][4096] ROOM, scratch[8192] ROOM;
static float x[COLS] ROOM, y[COLS] ROOM, gain[COLS] ROOM;
static int8_t codes[BATCH * COLS] ROOM;
static float scales[BATCH * COLS / 32];
static int32_t sums[BATCH * COLS / 32];
static const tlm_bound bound = {0.01f, 0.2f, 0.2f, 0x1p-14f, 1.0f};

__attribute__((noinline)) void mark(void)
{
    __asm__ volatile("" ::: "memory");
}

static uint32_t rnd(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static float value(void)
{
    return (float)((int32_t)(rnd() % 2001u) - 1000) * 0x1p-9f;
}

static void fill(void)
{
    for (uint32_t i = 0; i < COLS; i++) {
        x[i] = value();
        y[i] = value();
        gain[i] = value();
    }
}

/* Bytes that are codes of any integer type; halves with a small exponent wherever scales or f16 are read. */
static void linear(uint8_t type, tlm_linear_fn *fn, uint32_t n, uint32_t batch)
{
    static const uint32_t TILE[] = TLM_TILE_ROWS_INIT;
    const tlm_weight w = {data, ROWS, n, 0.01f, type, false};
    const tlm_input in = {x, codes, scales, sums, n, batch, 0, n, COLS / 32};
    static float out[BATCH * ROWS];
    fn(&w, &in, 0, (ROWS + TILE[type] - 1u) / TILE[type], out, ROWS);
}

static void row(uint8_t type, tlm_row_fn *fn)
{
    const tlm_weight w = {data, ROWS, 128, 0.01f, type, false};
    fn(&w, 3, y);
}

static size_t region(tlm_kv_type kind, uint32_t part)
{
    return part * (size_t)HEADS * DIM * TLM_PAGE * (kind == TLM_KV_F32 ? 4u : 2u);
}

static void store(tlm_kv_type kind, tlm_kv_store_fn *fn, uint32_t t, bool is_v)
{
    uint8_t *page = pages[kind][t / TLM_PAGE];
    uint16_t *scale = (uint16_t *)(void *)(page + region(kind, 2) + (is_v ? 32u : 0u));
    (void)fn(x, HEADS, DIM, is_v, page + region(kind, is_v ? 1 : 0), scale, t % TLM_PAGE);
}

static void feed(tlm_kv_feed_fn *fn)
{
    const tlm_weight w = {data, DIM, HEADS * DIM, 1.0f, TLM_TENSOR_TYPE_Q4_0, false};
    void *const page = pages[TLM_KV_I4][0];
    const tlm_fed_keys keys = {x, 1, HEADS * DIM, 0, HEADS, DIM, &w, &page, 0, region(TLM_KV_I4, 2), 0};
    (void)fn(&keys);
}

static void attend(tlm_kv_type kind, tlm_attn_fn *fn)
{
    void *list[PAGES];
    for (uint32_t p = 0; p < PAGES; p++) {
        list[p] = pages[kind][p];
    }
    const size_t s = region(kind, 2);
    const tlm_attn a = {x, y, list, 0, region(kind, 1), s, s + 32u, DIM, HEADS, HEADS, 0, POSITIONS - 1, 0, HEADS,
                        1.0f, scratch};
    (void)fn(&a);
}

static void prepare(void)
{
    tlm_kv_store_fn *const stores[] = {tlm_k_ref_kv_store_f32, tlm_k_ref_kv_store_f16, tlm_k_ref_kv_store_i8,
                                       tlm_k_ref_kv_store_i4};
    for (uint32_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i % 2u ? 0x21u : rnd() % 243u);
    }
    fill();
    for (uint32_t b = 0; b < BATCH; b++) {
        (void)tlm_k_ref_quant_block(x, COLS, 0.0f, codes + b * COLS, scales + b * COLS / 32, sums + b * COLS / 32);
    }
    for (uint32_t t = 0; t < POSITIONS; t++) {
        fill();
        for (uint32_t kind = 0; kind < TLM_KV_COUNT; kind++) {
            store((tlm_kv_type)kind, stores[kind], t, false);
            store((tlm_kv_type)kind, stores[kind], t, true);
        }
    }
}

int main(void)
{
    prepare();
#define CASE(call) \
    fill(); \
    mark(); \
    call; \
    mark();
#include "cases.h"
    return 0;
}
