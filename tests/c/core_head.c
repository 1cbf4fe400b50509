/* A certified head under sanitizers: the candidates of a search are those of all logits, in every chunking and for any
 * number of parts, run backwards. */
#include "check.h"
#include "tlm.h"

enum { TOKENS = 12 };

static uint32_t parts_now;

/* Parts share no result, so their order does not matter. */
static void backwards(void *ctx, void (*job)(void *arg, uint32_t part, uint32_t parts), void *arg)
{
    (void)ctx;
    for (uint32_t part = parts_now; part-- != 0;) {
        job(arg, part, parts_now);
    }
}

static tlm_session *open_session(const tlm_model *m, uint32_t head_rows, uint32_t parts, void **memory)
{
    tlm_config config;
    tlm_need need;
    tlm_config_default(&config, m);
    config.head_rows = head_rows;
    config.context = TOKENS;
    parts_now = parts;
    config.parallel.parts = parts;
    config.parallel.run = backwards;
    CHECK(tlm_session_need(m, &config, &need) == TLM_OK);
    *memory = guarded(need.total);
    tlm_session *s = guarded(sizeof *s);
    const tlm_mem piece = {*memory, need.total};
    CHECK(tlm_session_init(s, m, &config, &piece, 1) == TLM_OK);
    return s;
}

/* Steps through some tokens; `full` reads every logit, which a log-probability over the vocabulary needs. */
static void choices(const tlm_model *m, const tlm_sampling *p, bool full, uint32_t head_rows, uint32_t parts,
                    tlm_choice out[TOKENS])
{
    void *memory;
    tlm_session *s = open_session(m, head_rows, parts, &memory);
    tlm_sampler sampler;
    CHECK(tlm_sampler_init(&sampler, p) == TLM_OK);
    sampler.want_all_logprob = full;
    for (uint32_t i = 0; i < TOKENS; i++) {
        const uint32_t id = i * 5u % m->spec->vocab;
        const tlm_sink sink = tlm_sampler_sink(&sampler);
        CHECK((sink.best == NULL) == full);
        CHECK(tlm_eval(s, &id, 1, NULL, &sink) == TLM_OK);
        CHECK(tlm_sample(&sampler, &out[i]) == TLM_OK);
        out[i].logprob_all = 0.0f;
    }
    free(s);
    free(memory);
}

int main(int argc, char **argv)
{
    static const uint32_t rows[] = {0, 16, 32};
    CHECK(argc == 2);
    size_t bytes;
    uint8_t *blob = read_file(argv[1], &bytes);
    tlm_model m;
    CHECK(tlm_model_open(&m, blob, bytes) == TLM_OK && m.head != NULL);
    for (uint32_t k = 0; k < 4u; k++) {
        tlm_sampling p;
        tlm_choice all[TOKENS], best[TOKENS];
        tlm_sampling_default(&p, NULL);
        p.top_k = k == 3u ? 256u : k + 1u;
        p.temperature = k == 0 ? 0.0f : 0.9f;
        p.repeat_penalty = k == 2u ? 1.3f : 1.0f;
        p.repeat_window = k == 2u ? 8u : 0;
        memset(all, 0, sizeof all);
        memset(best, 0, sizeof best);
        choices(&m, &p, true, 0, 1, all);
        for (uint32_t r = 0; r < 3u; r++) {
            for (uint32_t parts = 1; parts <= 3u; parts++) {
                choices(&m, &p, false, rows[r], parts, best);
                CHECK(memcmp(all, best, sizeof all) == 0);
            }
        }
    }
    free(blob);
    printf("ok\n");
    return 0;
}
