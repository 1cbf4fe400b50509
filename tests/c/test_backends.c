/* Every slot of a backend against the reference kernels, bit for bit: random and extreme values, odd shapes, batches,
 * row splits. Usage: test_backends BACKEND; prints "ok N checks" or the first difference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_cases.h"
#include "tlm_math.h"

static uint32_t checks;

static void same(const void *a, const void *b, size_t bytes, const char *what, uint32_t x, uint32_t y)
{
    checks++;
    if (memcmp(a, b, bytes) != 0) {
        printf("FAIL %s (%u, %u)\n", what, (unsigned)x, (unsigned)y);
        exit(1);
    }
}

static const uint32_t WIDTHS[] = {8, 16, 17, 31, 32, 33, 48, 64, 100, 128, 172, 272, 336, 384, 400};
enum { N_WIDTHS = sizeof WIDTHS / sizeof WIDTHS[0] };

/* ---- linear layers ------------------------------------------------------------------------------- */

static void check_linear(const tlm_kernels *ref, const tlm_kernels *k, uint8_t type, bool repacked)
{
    const bool ternary = type == TLM_TENSOR_TYPE_T2 || type == TLM_TENSOR_TYPE_T1;
    for (uint32_t round = 0; round < 60u; round++) {
        const uint32_t cols = WIDTHS[below(N_WIDTHS)], rows = 1u + below(70), batch = 1u + below(TLM_MAX_BATCH);
        tlm_weight w = random_weight(type, rows, cols), packed = w;
        tlm_input in = random_input(ref, cols, batch, ternary);
        const size_t out = sizeof(float) * batch * (rows + 3u);
        float *want = aligned(out), *got = aligned(out);
        const uint32_t tiles = (rows + TILE[type] - 1u) / TILE[type], cut = below(tiles + 1u);
        ref->linear[type](&w, &in, 0, tiles, want, rows + 3u);
        void *copy = NULL;
        if (repacked) {
            copy = aligned(k->repack_bytes(&w));
            k->repack(&w, copy);
            packed.data = copy;
            packed.repacked = true;
        }
        tlm_linear_fn *fn = repacked ? k->linear_repacked[type] : k->linear[type];
        fn(&packed, &in, 0, cut, got, rows + 3u);
        fn(&packed, &in, cut, tiles, got, rows + 3u);
        same(want, got, out, repacked ? "linear repacked" : "linear", type, cols);
        free((void *)(uintptr_t)w.data);
        free(copy);
        free((void *)(uintptr_t)in.x);
        free((void *)(uintptr_t)in.codes);
        free((void *)(uintptr_t)in.scales);
        free((void *)(uintptr_t)in.sums);
        free(want);
        free(got);
    }
}

/* ---- elementwise --------------------------------------------------------------------------------- */

static void check_quant(tlm_quant_fn *ref, tlm_quant_fn *fn, uint32_t n)
{
    float x[512], ws[32], gs[32];
    int8_t wc[512], gc[512];
    int32_t wn[32], gn[32];
    fill(x, n, 512);
    memset(wc, 0x5a, sizeof wc);
    memset(gc, 0x5a, sizeof gc);
    memset(ws, 0, sizeof ws);
    memset(gs, 0, sizeof gs);
    memset(wn, 0, sizeof wn);
    memset(gn, 0, sizeof gn);
    const float floor = below(2) ? 1e-5f : 0.0f;
    if (below(10) == 0) {
        x[below(n)] = tlm_float(0x7f800000u | below(2));
    }
    if (below(10) == 0) {
        memset(x, 0, sizeof x);
    }
    const bool want = ref(x, n, floor, wc, ws, wn), got = fn(x, n, floor, gc, gs, gn);
    checks++;
    if (want != got) {
        printf("FAIL quant verdict %u\n", (unsigned)n);
        exit(1);
    }
    if (want) {
        same(wc, gc, sizeof wc, "quant codes", n, 0);
        same(ws, gs, sizeof ws, "quant scales", n, 0);
        same(wn, gn, sizeof wn, "quant sums", n, 0);
    }
}

/* v + more, and the same tiles live: with bars among the sums, beyond them and NaN. */
static void check_bound(const tlm_kernels *ref, const tlm_kernels *k, uint32_t n, const float *v, const float *more, float c)
{
    const float bars[] = {v[0] + more[0], v[n - 1u], 0.0f, -3e38f, 3e38f, tlm_float(0x7fc00000u), tlm_float(TLM_MINUS_INF_BITS)};
    uint8_t norms[256 + 8];
    const uint32_t rows = n < 256u ? n : 256u;
    for (uint32_t i = 0; i < sizeof norms; i++) {
        norms[i] = (uint8_t)below(256);
    }
    for (uint32_t i = 0; i < sizeof bars / sizeof bars[0]; i++) {
        const tlm_bound b = {i % 2u ? 0.01f : 0.0f, c, tlm_float(tlm_bits(c) & TLM_ABS_MASK), 0x1p-14f, bars[i]};
        float want[256], got[256];
        memcpy(want, v, rows * sizeof *v);
        memcpy(got, v, rows * sizeof *v);
        const uint32_t a = ref->bound(&b, more, norms, rows, want), z = k->bound(&b, more, norms, rows, got);
        same(want, got, rows * sizeof *v, "bound", rows, i);
        same(&a, &z, sizeof a, "bound: tiles", rows, i);
    }
}

static void check_elementwise(const tlm_kernels *ref, const tlm_kernels *k)
{
    float x[512], y[512], g[512], b[512], want[512], got[512];
    for (uint32_t round = 0; round < 400u; round++) {
        const uint32_t n = round < 64u ? round + 1u : WIDTHS[below(N_WIDTHS)];
        check_quant(ref->quant_block, k->quant_block, n);
        check_quant(ref->quant_vector, k->quant_vector, n);
        fill(x, n, 512);
        fill(y, n, 512);
        fill(g, n, 512);
        fill(b, n, 512);
        for (uint32_t kind = 0; kind < TLM_NORM_KIND_COUNT; kind++) {
            memset(want, 0, sizeof want);
            memset(got, 0, sizeof got);
            const float *gain = below(4) ? g : NULL, *bias = below(2) ? b : NULL;
            ref->norm[kind](x, n, 1e-5f, gain, bias, want);
            k->norm[kind](x, n, 1e-5f, gain, bias, got);
            same(want, got, sizeof want, "norm", kind, n);
        }
        for (uint32_t act = 0; act < TLM_ACT_COUNT; act++) {
            memcpy(want, x, sizeof x);
            memcpy(got, x, sizeof x);
            const float *up = below(2) ? y : NULL;
            ref->act[act](want, up, n);
            k->act[act](got, up, n);
            same(want, got, sizeof want, "act", act, n);
        }
        memcpy(want, x, sizeof x);
        memcpy(got, x, sizeof x);
        ref->add(want, y, n);
        k->add(got, y, n);
        same(want, got, sizeof want, "add", n, 0);
        ref->mul(want, y, n);
        k->mul(got, y, n);
        same(want, got, sizeof want, "mul", n, 0);
        check_bound(ref, k, n, x, y, g[0]);
    }
    for (uint32_t round = 0; round < 300u; round++) {
        const uint32_t small[] = {2, 4, 8, 16}, heads = 1u + below(9);
        const uint32_t half = round % 2u ? small[below(4)] / 2u : 1u + below(40), dim = 2u * half + (round % 2u ? 0u : below(3));
        if (heads * dim > 512u) {
            continue;
        }
        fill(x, heads * dim, 512);
        fill(g, 2u * half, 512);
        memcpy(want, x, sizeof x);
        memcpy(got, x, sizeof x);
        ref->rope(want, heads, dim, 2u * half, g);
        k->rope(got, heads, dim, 2u * half, g);
        same(want, got, sizeof want, "rope", dim, half);
    }
}

/* Keys near their centres and far away, zeros of both signs and centres that are none. */
static void check_centre(const tlm_kernels *ref, const tlm_kernels *k)
{
    for (uint32_t round = 0; round < 300u; round++) {
        const uint32_t dims = WIDTHS[below(N_WIDTHS)], n = 1u + below(TLM_MAX_BATCH), stride = tlm_padded(dims);
        const size_t row = sizeof(float) * stride;
        float *want = aligned(n * row), *got = aligned(n * row), *centre = aligned(row), *scale = aligned(row);
        fill(want, n * stride, n * stride);
        fill(centre, dims, stride);
        for (uint32_t i = 0; i < dims; i++) {
            scale[i] = tlm_float(tlm_bits(1.0f) + (below(41) << 23) - (20u << 23)) * (1.0f + (float)below(2) * 0.37f);
            scale[i] = scale[i] > (float)TLM_KEY_SCALE_MAX ? 1.0f : scale[i];
            centre[i] = below(8) ? centre[i] : below(2) ? 0.0f : 0x1p-80f;
            for (uint32_t b = 0; b < n; b++) {
                want[b * stride + i] = below(8) ? want[b * stride + i] : below(2) ? centre[i] : -0.0f;
            }
        }
        memcpy(got, want, n * row);
        ref->centre(want, n, dims, stride, centre, scale);
        k->centre(got, n, dims, stride, centre, scale);
        same(want, got, n * row, "centre", dims, n);
        free(want);
        free(got);
        free(centre);
        free(scale);
    }
}

/* ---- the cache ----------------------------------------------------------------------------------- */

static void check_kv_store(const tlm_kernels *ref, const tlm_kernels *k, uint32_t kv_type)
{
    float x[512], same_x[512];
    for (uint32_t round = 0; round < 200u; round++) {
        const uint32_t kvh = 1u + below(4), kd = 1u + below(100), slot = below(TLM_PAGE);
        const size_t region = sizeof(float) * TLM_PAGE * kvh * (kd + 1u);
        uint8_t *want = aligned(region), *got = aligned(region);
        uint16_t want_scales[TLM_PAGE] = {0}, got_scales[TLM_PAGE] = {0};
        fill(x, kvh * kd, 512);
        if (below(10) == 0) {
            x[below(kvh * kd)] = tlm_float(TLM_INF_BITS | below(2));
        }
        memcpy(same_x, x, sizeof x);
        const bool is_v = below(2) != 0, ok = ref->kv_store[kv_type](x, kvh, kd, is_v, want, want_scales, slot);
        checks++;
        if (ok != k->kv_store[kv_type](same_x, kvh, kd, is_v, got, got_scales, slot)) {
            printf("FAIL kv_store verdict (kv %u)\n", (unsigned)kv_type);
            exit(1);
        }
        if (ok) {
            same(want, got, region, "kv_store", kv_type, kd);
            same(want_scales, got_scales, sizeof want_scales, "kv_store scales", kv_type, kd);
        }
        free(want);
        free(got);
    }
}

/* Fed keys: the same codes, scales and verdict; what is left of the keys is free. */
static void check_kv_feed(const tlm_kernels *ref, const tlm_kernels *k)
{
    static const uint32_t DIMS[] = {1, 2, 3, 4, 6, 8, 8, 8, 12, 16, 16, 20, 32, 33};
    for (uint32_t round = 0; round < 200u; round++) {
        const uint32_t kvh = below(2) ? 4u * (1u + below(4)) : 1u + below(7), kd = DIMS[below(14)], n = 1u + below(TLM_MAX_BATCH);
        const uint32_t dim = kvh * kd, stride = tlm_padded(dim), position = below(40);
        const size_t codes = (size_t)kvh * ((kd + 1u) / 2u) * TLM_PAGE, page = 32u + codes, row = sizeof(float) * stride;
        const uint32_t head0 = below(2) ? 0 : below(9); /* of a group of heads */
        const tlm_weight f = random_weight(TLM_TENSOR_TYPE_Q4_0, kd, (head0 + kvh + below(2)) * kd);
        float *x[2] = {aligned(n * row), aligned(n * row)};
        bool ok[2];
        void *pages[2][4];
        fill(x[0], n * stride, n * stride);
        if (below(10) == 0) {
            x[0][below(n) * stride + below(dim)] = tlm_float(TLM_INF_BITS | below(2));
        }
        if (below(10) == 0) {
            memset(x[0], 0, row);
        }
        memcpy(x[1], x[0], n * row);
        for (uint32_t way = 0; way < 2u; way++) {
            for (uint32_t p = 0; p < 4u; p++) {
                pages[way][p] = aligned(page);
            }
            const tlm_fed_keys keys = {x[way], n, stride, position, kvh, kd, &f, pages[way], 32, 0, head0};
            ok[way] = (way ? k : ref)->kv_feed(&keys);
            free(x[way]);
        }
        checks++;
        if (ok[0] != ok[1]) {
            printf("FAIL kv_feed verdict\n");
            exit(1);
        }
        for (uint32_t p = 0; p < 4u; p++) {
            if (ok[0]) {
                same(pages[0][p], pages[1][p], page, "kv_feed", kvh, kd);
            }
            free(pages[0][p]);
            free(pages[1][p]);
        }
        free((void *)(uintptr_t)f.data);
    }
}

/* ---- attention ----------------------------------------------------------------------------------- */

static void verdict(bool want, bool got, uint32_t kv_type)
{
    checks++;
    if (want != got) {
        printf("FAIL attention verdict (kv %u)\n", (unsigned)kv_type);
        exit(1);
    }
}

/* A batch of 1..TLM_MAX_BATCH tokens from a.last on: the reference token by token, the backend in two parts of the heads,
 * each token alone and, where it has that, all together. */
static void check_tokens(const tlm_kernels *ref, const tlm_kernels *k, uint32_t kv_type, tlm_attn a, uint32_t n, uint32_t window)
{
    const uint32_t width = a.n_heads * a.head_dim, stride = width + below(20), cut = below(a.n_heads + 1u), context = a.last + n;
    float *q = aligned(sizeof(float) * stride * n), *out[3];
    fill(q, stride * n, stride * n);
    if (below(20) == 0) {
        q[below(n) * stride] = tlm_float(TLM_INF_BITS);
    }
    bool ok[3] = {true, true, true};
    for (uint32_t way = 0; way < 3u; way++) {
        const tlm_kernels *kernels = way == 0 ? ref : k;
        const bool together = way == 2u && k->attn_batch[kv_type] != NULL;
        out[way] = aligned(sizeof(float) * stride * n);
        tlm_attn at = a;
        at.scratch = aligned(kernels->attn_scratch(context, a.head_dim));
        for (uint32_t part = 0; part < 2u; part++) {
            at.head0 = part ? cut : 0;
            at.head1 = part ? a.n_heads : cut;
            for (uint32_t b = 0; b < (together ? 1u : n); b++) {
                at.q = q + b * stride;
                at.out = out[way] + b * stride;
                at.last = a.last + b;
                at.first = tlm_window_first(at.last, window);
                ok[way] = (together ? k->attn_batch[kv_type](&at, n, window, stride) : kernels->attn[kv_type](&at)) && ok[way];
            }
        }
        free(at.scratch);
        verdict(ok[0], ok[way], kv_type);
        if (ok[0]) {
            same(out[0], out[way], sizeof(float) * stride * n, way == 2u ? "attention of a batch" : "attention", kv_type,
                 a.head_dim);
        }
    }
    for (uint32_t way = 0; way < 3u; way++) {
        free(out[way]);
    }
    free(q);
}

static void check_attention(const tlm_kernels *ref, const tlm_kernels *k, uint32_t kv_type)
{
    for (uint32_t round = 0; round < 120u; round++) {
        const uint32_t dims[] = {1, 3, 4, 8, 12, 16, 24, 32, 64, 68, 96}, share = 1u + below(3), kvh = 1u + below(4);
        const uint32_t kd = dims[below(11)], heads = share * kvh, last = below(150), n = 1u + below(TLM_MAX_BATCH);
        const uint32_t window = below(2) ? 0 : 1u + below(last + n), rows = kvh * ((kd + 1u) & ~1u);
        const size_t region = (size_t)rows * TLM_PAGE * sizeof(float), page = 2u * region + 64u;
        void *list[16];
        for (uint32_t p = 0; p < 16u; p++) {
            list[p] = aligned(page); /* bytes never written stay 0xa5 */
        }
        float *x = aligned(sizeof(float) * rows);
        const tlm_attn a = {NULL, NULL, list, 0, region, 2u * region, 2u * region + 32u, kd, heads, kvh, 0, last, 0, heads, 0.25f, NULL};
        for (uint32_t t = tlm_window_first(last, window); t < last + n; t++) {
            for (uint32_t v = 0; v < 2u; v++) {
                fill(x, kvh * kd, rows);
                uint8_t *at = list[t / TLM_PAGE];
                (void)ref->kv_store[kv_type](x, kvh, kd, v == 1u, at + (v ? a.v : a.k), (uint16_t *)(void *)(at + (v ? a.vs : a.ks)),
                                             t % TLM_PAGE);
            }
        }
        check_tokens(ref, k, kv_type, a, n, window);
        for (uint32_t p = 0; p < 16u; p++) {
            free(list[p]);
        }
        free(x);
    }
}

int main(int argc, char **argv)
{
    tlm_kernels ref, k;
    tlm_kernels_ref(&ref);
    if (argc < 2 || !tlm_kernels_select(&k, argv[1])) {
        printf("SKIP no backend %s on this CPU\n", argc < 2 ? "?" : argv[1]);
        return 0;
    }
    for (uint8_t type = TLM_TENSOR_TYPE_F32; type <= TLM_TENSOR_TYPE_T1; type++) {
        check_linear(&ref, &k, type, false);
        if (k.repack_bytes && k.linear_repacked[type]) {
            check_linear(&ref, &k, type, true);
        }
    }
    check_elementwise(&ref, &k);
    check_centre(&ref, &k);
    check_kv_feed(&ref, &k);
    for (uint32_t kv = 0; kv < TLM_KV_COUNT; kv++) {
        check_kv_store(&ref, &k, kv);
        check_attention(&ref, &k, kv);
    }
    printf("ok %u checks\n", (unsigned)checks);
    return 0;
}
