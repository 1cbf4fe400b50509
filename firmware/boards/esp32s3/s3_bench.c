/* The measurements that decide how fast this chip decodes: `tinychat bench` shows them beside what was modelled. */
#include <math.h>
#include <string.h>

#include "esp_cpu.h"
#include "esp_flash.h"
#include "esp_heap_caps.h"
#include "s3.h"
#include "tlm_kernels.h"

#define STREAM_BYTES (1u << 20)
#define SRAM_BYTES 12288u
#define CALLS 64u
#define ROUNDS 200u

typedef struct table {
    void (*row)(void *to, const board_measure *m);
    void *to;
} table;

static void tell(const table *t, const char *name, const char *unit, const char *note, float value)
{
    const board_measure m = {name, unit, note, value};
    t->row(t->to, &m);
}

static float per(uint32_t cycles, uint32_t things)
{
    return (float)cycles / (float)things;
}

/* ---- 0: cycles to fill a cache line from the mapped model ------------------------------------------- */

typedef struct walk {
    const uint8_t *from;
    uint32_t lines, line;
} walk;

static void walk_part(void *arg, uint32_t part, uint32_t parts)
{
    const walk *w = arg;
    const uint32_t end = w->lines * (part + 1u) / parts;
    for (uint32_t i = w->lines * part / parts; i < end; i++)
        (void)*(const volatile uint32_t *)(const void *)(w->from + (size_t)i * w->line);
}

static bool lines(const app_t *app, const table *t, const board_facts *facts)
{
    const tlm_parallel *p = &app->board->session.parallel;
    const uint32_t line = facts->cache_line;
    if (!app->chat.open || line == 0)
        return true;
    const uint32_t bytes = app->chat.model.bytes < STREAM_BYTES ? (uint32_t)app->chat.model.bytes : STREAM_BYTES;
    walk w = {app->chat.model.blob, bytes / line, line};
    uint32_t start = esp_cpu_get_cycle_count();
    walk_part(&w, 0, 1);
    tell(t, "cache line fill, 1 core", "cycles", facts->flash_mode, per(esp_cpu_get_cycle_count() - start, w.lines));
    if (p->run == NULL)
        return true;
    start = esp_cpu_get_cycle_count();
    p->run(p->ctx, walk_part, &w);
    tell(t, "cache line fill, 2 cores", "cycles", facts->flash_mode, per(esp_cpu_get_cycle_count() - start, w.lines));
    return true;
}

/* ---- 1: the flash bus in force ---------------------------------------------------------------------- */

static bool bus(const table *t, const board_facts *facts)
{
    tell(t, "cache line", "B", facts->flash_mode, facts->cache_line);
    tell(t, "flash clock", "MHz", facts->flash_mode, (float)s3_flash_mhz());
    return true;
}

/* ---- 2: what scalar code costs, and free memory ----------------------------------------------------- */

static float add_one(float x) { return x + 1.0f; }
static float reciprocal(float x) { return 1.0f / x; }

static float cycles_of(float (*f)(float))
{
    volatile float x = 0.7f, y = 0.0f;
    const uint32_t start = esp_cpu_get_cycle_count();
    for (uint32_t i = 0; i < CALLS; i++)
        y = f(x);
    (void)y;
    return per(esp_cpu_get_cycle_count() - start, CALLS);
}

static void nothing(void *arg, uint32_t part, uint32_t parts)
{
    (void)arg;
    (void)part;
    (void)parts;
}

static bool scalar(const app_t *app, const table *t, const board_facts *facts)
{
    const tlm_parallel *p = &app->board->session.parallel;
    const float call = cycles_of(add_one);
    tell(t, "expf", "cycles", "newlib; the runtime has its own", cycles_of(expf) - call);
    tell(t, "tanhf", "cycles", "newlib; the runtime has its own", cycles_of(tanhf) - call);
    tell(t, "divide", "cycles", "float", cycles_of(reciprocal) - call + 1.0f);
    if (p->run != NULL) {
        p->run(p->ctx, nothing, NULL); /* wakes the worker */
        const uint32_t start = esp_cpu_get_cycle_count();
        for (uint32_t i = 0; i < ROUNDS; i++)
            p->run(p->ctx, nothing, NULL);
        tell(t, "barrier", "cycles", "both cores, worker awake", per(esp_cpu_get_cycle_count() - start, ROUNDS));
    }
    tell(t, "free heap", "B", "internal, beside what the model has", (float)facts->heap_free);
    tell(t, "largest free heap block", "B", "internal",
         (float)heap_caps_get_largest_free_block(MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT));
    return true;
}

/* ---- 3: the q4_0 kernel from SRAM and from flash ---------------------------------------------------- */

#define TILE 8u    /* rows of a q4_0 tile */
#define BLOCK 32u  /* columns of a scale */
#define WINDOWS 8u /* calls that are timed */

/* A window of whole tiles that fits SRAM_BYTES, its input and its output. */
typedef struct window {
    tlm_weight w;
    tlm_input in;
    float *y;
    size_t bytes;
} window;

static const tlm_tensor_rec *largest_q4(const tlm_model *m)
{
    const tlm_tensor_rec *best = NULL;
    for (uint32_t i = 0; i < m->n_tensors; i++)
        if (m->tensors[i].type == TLM_TENSOR_TYPE_Q4_0 && (best == NULL || m->tensors[i].bytes > best->bytes))
            best = &m->tensors[i];
    return best;
}

static void *scratch(size_t bytes)
{
    return heap_caps_aligned_alloc(64, bytes, MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT);
}

static bool open_window(window *v, const tlm_tensor_rec *t)
{
    const uint32_t np = (t->cols + 15u) & ~15u, blocks = (np + BLOCK - 1u) / BLOCK;
    const size_t tile = t->bytes / ((t->rows + TILE - 1u) / TILE);
    uint32_t tiles = (uint32_t)(SRAM_BYTES / tile);
    if (tiles > t->rows / TILE / WINDOWS)
        tiles = t->rows / TILE / WINDOWS;
    v->bytes = tiles * tile;
    v->w.rows = tiles * TILE;
    v->w.cols = t->cols;
    v->w.scale = t->scale;
    v->w.type = t->type;
    int8_t *codes = scratch(np + 64u);
    float *scales = scratch(blocks * sizeof *scales);
    int32_t *sums = scratch(blocks * sizeof *sums);
    v->y = scratch((tiles + 1u) * TILE * sizeof *v->y);
    v->in.codes = codes;
    v->in.scales = scales;
    v->in.sums = sums;
    v->in.n = t->cols;
    v->in.batch = 1;
    v->in.code_stride = np;
    v->in.block_stride = blocks;
    if (tiles == 0 || codes == NULL || scales == NULL || sums == NULL || v->y == NULL)
        return false;
    memset(codes, 0, np + 64u);
    memset(sums, 0, blocks * sizeof *sums);
    for (uint32_t i = 0; i < blocks; i++)
        scales[i] = 1.0f;
    return true;
}

static void close_window(window *v)
{
    heap_caps_free((void *)(uintptr_t)v->in.codes);
    heap_caps_free((void *)(uintptr_t)v->in.scales);
    heap_caps_free((void *)(uintptr_t)v->in.sums);
    heap_caps_free(v->y);
}

/* WINDOWS calls, each `step` bytes further on. */
static float cycles_a_weight(window *v, const tlm_kernels *k, const uint8_t *from, size_t step)
{
    const uint32_t start = esp_cpu_get_cycle_count();
    for (uint32_t i = 0; i < WINDOWS; i++) {
        v->w.data = from + i * step;
        k->linear[v->w.type](&v->w, &v->in, 0, v->w.rows / TILE, v->y, v->w.rows);
    }
    return per(esp_cpu_get_cycle_count() - start, WINDOWS * v->w.rows * v->w.cols);
}

static bool kernel(const app_t *app, const table *t, const board_facts *facts)
{
    const tlm_tensor_rec *tensor = app->chat.open ? largest_q4(&app->chat.model) : NULL;
    tlm_kernels k;
    window v;
    memset(&v, 0, sizeof v);
    if (tensor == NULL || !tlm_kernels_select(&k, NULL))
        return true;
    uint8_t *copy = open_window(&v, tensor) ? scratch(v.bytes + 64u) : NULL;
    if (copy != NULL) {
        const uint8_t *flash = app->chat.model.blob + tensor->offset;
        memcpy(copy, flash, v.bytes);
        memset(copy + v.bytes, 0, 64);
        (void)cycles_a_weight(&v, &k, copy, 0); /* code into the cache */
        tell(t, "q4_0 kernel, SRAM", "cycles/weight", "1 core", cycles_a_weight(&v, &k, copy, 0));
        tell(t, "q4_0 kernel, flash", "cycles/weight", facts->flash_mode, cycles_a_weight(&v, &k, flash, v.bytes));
    }
    heap_caps_free(copy);
    close_window(&v);
    return true;
}

/* ---- 4: the flash chip ------------------------------------------------------------------------------ */

static bool chip(const table *t)
{
    uint32_t id = 0, bytes = 0;
    if (esp_flash_read_id(NULL, &id) != ESP_OK || esp_flash_get_physical_size(NULL, &bytes) != ESP_OK)
        return false;
    tell(t, "JEDEC id", "", "manufacturer, type, capacity as one number", (float)id);
    tell(t, "flash chip size", "B", "", (float)bytes);
    return true;
}

bool s3_bench(void *ctx, uint8_t which, uint32_t argument, void (*row)(void *to, const board_measure *m), void *to)
{
    const app_t *app = ctx;
    const table t = {row, to};
    board_facts facts;
    (void)argument;
    memset(&facts, 0, sizeof facts);
    s3_facts(ctx, &facts);
    switch (which) {
    case 0:
        return lines(app, &t, &facts);
    case 1:
        return bus(&t, &facts);
    case 2:
        return scalar(app, &t, &facts);
    case 3:
        return kernel(app, &t, &facts);
    default:
        return chip(&t);
    }
}
