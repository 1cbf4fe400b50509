/* The sampler against a plain statement of NUMERICS rules 21-24: everything sorted, then the chain step by step. */
#include "check.h"
#include "tlm.h"
#include "tlm_math.h"

enum { VOCAB = 1500 };

typedef struct item {
    float l;
    uint32_t id;
} item;

static int by_rank(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->l != y->l) {
        return x->l > y->l ? -1 : 1;
    }
    return x->id < y->id ? -1 : x->id > y->id;
}

static bool even_ids(void *ctx, uint32_t id)
{
    return (id & 1u) == *(const uint32_t *)ctx;
}

/* PCG32 as published (O'Neill), stream 54. */
typedef struct pcg {
    uint64_t state;
} pcg;

static uint32_t pcg_next(pcg *r)
{
    const uint64_t old = r->state;
    r->state = old * 6364136223846793005ULL + 109u;
    const uint32_t x = (uint32_t)(((old >> 18u) ^ old) >> 27u), rot = (uint32_t)(old >> 59u);
    return (x >> rot) | (x << ((-rot) & 31u));
}

static pcg pcg_seed(uint64_t seed)
{
    pcg r = {0};
    pcg_next(&r);
    r.state += seed;
    pcg_next(&r);
    return r;
}

typedef struct history {
    uint32_t ids[64], n;
} history;

static bool in_window(const history *h, uint32_t window, uint32_t id)
{
    for (uint32_t i = h->n > window ? h->n - window : 0; i < h->n; i++) {
        if (h->ids[i] == id) {
            return true;
        }
    }
    return false;
}

typedef struct expected {
    uint32_t id, n;
    float logprob, logprob_all;
} expected;

static float all_logprob(const float *logits, uint32_t id)
{
    float m = logits[0], z = 1.0f;
    for (uint32_t i = 1; i < VOCAB; i++) {
        if (logits[i] > m) {
            z = z * tlm_exp(m - logits[i]) + 1.0f;
            m = logits[i];
        } else {
            z = z + tlm_exp(logits[i] - m);
        }
    }
    return (logits[id] - m) - tlm_log(z);
}

static expected by_the_book(const float *logits, const tlm_sampling *p, const uint32_t *parity, const history *h,
                            pcg *rng)
{
    static item items[VOCAB];
    static float e[VOCAB];
    expected out;
    uint32_t n = 0;
    for (uint32_t id = 0; id < VOCAB; id++) {
        if (parity != NULL && (id & 1u) != *parity) {
            continue;
        }
        float l = logits[id];
        if (in_window(h, p->repeat_window, id)) {
            l = l > 0.0f ? l / p->repeat_penalty : l * p->repeat_penalty;
        }
        const item it = {l, id};
        items[n++] = it;
    }
    qsort(items, n, sizeof *items, by_rank);
    const uint32_t top = p->top_k == 0 ? 256u : p->top_k;
    n = n < top ? n : top;
    float z = 0.0f;
    for (uint32_t i = 0; i < n; i++) {
        z = i == 0 ? tlm_exp(0.0f) : z + tlm_exp(items[i].l - items[0].l);
    }
    uint32_t pick = 0;
    if (p->temperature != 0.0f) {
        const float inv_t = 1.0f / p->temperature;
        uint32_t kept = 0, keep = 0;
        float total = 0.0f, sum = 0.0f, prefix = 0.0f;
        for (uint32_t i = 0; i < n; i++) {
            e[i] = tlm_exp((items[i].l - items[0].l) * inv_t);
            kept += e[i] >= p->min_p;
        }
        for (uint32_t i = 0; i < kept; i++) {
            total = i == 0 ? e[0] : total + e[i];
        }
        while (keep < kept) {
            sum = keep == 0 ? e[0] : sum + e[keep];
            keep++;
            if (sum >= p->top_p * total) {
                break;
            }
        }
        const float target = (float)(pcg_next(rng) >> 8) * 0x1p-24f * sum;
        for (pick = 0; pick + 1u < keep; pick++) {
            prefix = pick == 0 ? e[0] : prefix + e[pick];
            if (prefix > target) {
                break;
            }
        }
    }
    out.id = items[pick].id;
    out.n = n;
    out.logprob = (items[pick].l - items[0].l) - tlm_log(z);
    out.logprob_all = all_logprob(logits, out.id);
    return out;
}

/* Few different values, so that ties are common; both zeros. */
static void fill(float *logits, uint64_t *seed, uint32_t kinds)
{
    for (uint32_t i = 0; i < VOCAB; i++) {
        const float v = (float)(int32_t)(rnd(seed) % kinds) - (float)(kinds / 2u);
        logits[i] = v == 0.0f && (i & 1u) ? -0.0f : v * 0.125f;
    }
}

static void against_the_book(void)
{
    static float logits[VOCAB];
    static tlm_sampler s;
    uint64_t seed = 42;
    for (uint32_t round = 0; round < 300u; round++) {
        tlm_sampling p;
        uint32_t parity = round & 1u;
        history h = {{0}, 0};
        tlm_sampling_default(&p, NULL);
        p.temperature = round % 5u == 0 ? 0.0f : 0.2f + (float)(round % 7u) * 0.25f;
        p.top_k = round % 3u == 0 ? 0 : 1u + rnd(&seed) % 256u;
        p.top_p = round % 4u == 0 ? 1.0f : 0.3f + (float)(round % 4u) * 0.2f;
        p.min_p = round % 6u == 0 ? 0.05f : 0.0f;
        p.repeat_penalty = round % 2u ? 1.3f : 1.0f;
        p.repeat_window = rnd(&seed) % 40u;
        p.seed = round;
        pcg rng = pcg_seed(p.seed);
        CHECK(tlm_sampler_init(&s, &p) == TLM_OK);
        s.want_all_logprob = true;
        if (round % 3u == 1u) {
            s.allowed = even_ids;
            s.allowed_ctx = &parity;
        }
        for (uint32_t step = 0; step < 20u; step++) {
            tlm_choice got;
            fill(logits, &seed, round % 2u ? 9u : 4001u);
            const tlm_sink sink = tlm_sampler_sink(&s);
            const uint32_t chunk = 1u + rnd(&seed) % VOCAB;
            for (uint32_t row = 0; row < VOCAB; row += chunk) {
                const uint32_t n = VOCAB - row < chunk ? VOCAB - row : chunk;
                CHECK(sink.rows(sink.ctx, 0, row, n, logits + row) == TLM_OK);
            }
            const expected want = by_the_book(logits, &p, s.allowed != NULL ? &parity : NULL, &h, &rng);
            CHECK(tlm_sample(&s, &got) == TLM_OK);
            CHECK(got.id == want.id && got.candidates == want.n);
            CHECK(tlm_bits(got.logprob) == tlm_bits(want.logprob));
            CHECK(tlm_bits(got.logprob_all) == tlm_bits(want.logprob_all));
            h.ids[h.n++] = got.id;
            CHECK(tlm_sample(&s, &got) == TLM_ERR_ARG); /* candidates are used once */
        }
    }
}

/* The published demo of PCG32 (seed 42, stream 54) starts with these outputs. 256 equal logits show the top byte. */
static void published_random_numbers(void)
{
    static const uint8_t top[6] = {0xa1, 0x7b, 0xba, 0x83, 0xbf, 0xcb};
    static float logits[256];
    static tlm_sampler s;
    tlm_sampling p;
    tlm_choice choice;
    tlm_sampling_default(&p, NULL);
    p.temperature = 1.0f;
    p.seed = 42;
    CHECK(tlm_sampler_init(&s, &p) == TLM_OK);
    for (uint32_t i = 0; i < 6u; i++) {
        const tlm_sink sink = tlm_sampler_sink(&s);
        CHECK(sink.rows(sink.ctx, 0, 0, 256, logits) == TLM_OK && tlm_sample(&s, &choice) == TLM_OK);
        CHECK(choice.id == top[i]);
    }
}

static void refusals(void)
{
    static tlm_sampler s;
    tlm_sampling good, p;
    tlm_sampling_default(&good, NULL);
    CHECK(tlm_sampler_init(&s, &good) == TLM_OK);
    const float nan = tlm_float(0x7fc00000u), inf = tlm_float(TLM_INF_BITS);
    const float bad_t[] = {-1.0f, nan, inf, 0x1p-140f, -0.0f}, bad_p[] = {0.0f, -0.5f, 1.5f, nan},
                bad_min[] = {-0.1f, 1.0f, nan}, bad_penalty[] = {0.5f, nan, inf};
    for (uint32_t i = 0; i < 5u; i++) {
        p = good, p.temperature = bad_t[i];
        CHECK(tlm_sampler_init(&s, &p) == TLM_ERR_ARG);
    }
    for (uint32_t i = 0; i < 4u; i++) {
        p = good, p.top_p = bad_p[i];
        CHECK(tlm_sampler_init(&s, &p) == TLM_ERR_ARG);
    }
    for (uint32_t i = 0; i < 3u; i++) {
        p = good, p.min_p = bad_min[i];
        CHECK(tlm_sampler_init(&s, &p) == TLM_ERR_ARG);
        p = good, p.repeat_penalty = bad_penalty[i];
        CHECK(tlm_sampler_init(&s, &p) == TLM_ERR_ARG);
    }
    p = good, p.top_k = TLM_MAX_CANDIDATES + 1u;
    CHECK(tlm_sampler_init(&s, &p) == TLM_ERR_ARG);
    p = good, p.repeat_window = TLM_MAX_REPEAT + 1u;
    CHECK(tlm_sampler_init(&s, &p) == TLM_ERR_ARG);
    p = good, p.top_k = 2;
    for (uint32_t at = 0; at < 5u; at++) { /* a NaN or +inf is found wherever it stands */
        float logits[5] = {5.0f, 4.0f, 3.0f, 2.0f, 1.0f};
        logits[at] = at & 1u ? nan : inf;
        CHECK(tlm_sampler_init(&s, &p) == TLM_OK);
        const tlm_sink sink = tlm_sampler_sink(&s);
        CHECK(sink.rows(sink.ctx, 0, 0, 5, logits) == TLM_ERR_NUMERIC);
    }
    const float logits[2] = {1.0f, 2.0f};
    const tlm_sink sink = tlm_sampler_sink(&s);
    CHECK(sink.rows(sink.ctx, 3, 0, 2, logits) == TLM_OK && sink.rows(sink.ctx, 4, 0, 2, logits) == TLM_OK);
    CHECK(sink.rows(sink.ctx, 4, 2, 2, logits) == TLM_OK && sink.rows(sink.ctx, 3, 2, 2, logits) == TLM_ERR_ARG);
}

int main(void)
{
    against_the_book();
    published_random_numbers();
    refusals();
    printf("ok\n");
    return 0;
}
