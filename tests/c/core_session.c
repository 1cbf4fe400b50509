/* Memory and eval through tlm.h and the core's test door, on one blob. Usage: core_session BLOB */
#include "core_session.h"

/* ---- memory ---- */

static size_t own_bytes(const tlm_need *need)
{
    return need->own[0] + need->own[1] + need->own[2];
}

/* Nobody else's. */
static void fill_own(const tlm_session *s, const tlm_config *c)
{
    for (uint32_t i = 0; i < TLM_OWN_BLOCKS; i++) {
        uint8_t *own = tlm_own(s, i);
        CHECK((own == NULL) == (c->own[i] == 0));
        for (size_t k = 0; k < c->own[i]; k++) {
            own[k] = 0xee;
        }
    }
}

static void exact_need(const tlm_model *m, tlm_config c)
{
    tlm_need need;
    tlm_session s;
    CHECK(tlm_session_need(m, &c, &need) == TLM_OK);
    CHECK(need.total == need.state + need.batch_scratch + need.page * need.pages + need.repack + own_bytes(&need));
    CHECK(need.pages == (c.context + 15u) / 16u * m->spec->n_layers);
    CHECK((need.batch_scratch == 0) == (c.batch == 1u || c.batch_in_pages));
    tlm_mem piece = {guarded(need.total), need.total};
    CHECK(tlm_session_init(&s, m, &c, &piece, 1) == TLM_OK);
    (void)run_random(&s, m, c.context, 3);
    piece.bytes--;
    CHECK(tlm_session_init(&s, m, &c, &piece, 1) == TLM_ERR_MEMORY);
    piece.bytes = 0;
    CHECK(tlm_session_init(&s, m, &c, &piece, 1) == TLM_ERR_MEMORY);
    free(piece.base);
}

/* What a session in one piece computes. */
static uint32_t in_one_piece(const tlm_model *m, tlm_config c, uint64_t seed)
{
    tlm_need need;
    tlm_session s;
    CHECK(tlm_session_need(m, &c, &need) == TLM_OK);
    const tlm_mem piece = {guarded(need.total), need.total};
    CHECK(tlm_session_init(&s, m, &c, &piece, 1) == TLM_OK);
    const uint32_t hash = run_random(&s, m, c.context, seed);
    free(piece.base);
    return hash;
}

/* Any pieces: either the session works within them as in one, or it says that they do not do. */
static void random_pieces(const tlm_model *m, tlm_config c, uint64_t seed)
{
    tlm_need need;
    tlm_session s;
    CHECK(tlm_session_need(m, &c, &need) == TLM_OK);
    uint32_t worked = 0, refused = 0;
    for (uint32_t round = 0; round < 60u; round++) {
        tlm_mem pieces[TLM_MAX_PIECES];
        uint8_t *raw[TLM_MAX_PIECES];
        const uint32_t n = 1u + rnd(&seed) % TLM_MAX_PIECES;
        for (uint32_t i = 0; i < n; i++) {
            const size_t skip = rnd(&seed) % 3u == 0 ? rnd(&seed) % 64u : 0;
            pieces[i].bytes = rnd(&seed) % (need.total * 3u / n + 1u);
            raw[i] = guarded(pieces[i].bytes + skip);
            pieces[i].base = raw[i] + skip;
        }
        const tlm_err fits = tlm_session_fits(m, &c, pieces, n), err = tlm_session_init(&s, m, &c, pieces, n);
        CHECK(fits == err && (err == TLM_OK || err == TLM_ERR_MEMORY));
        if (err == TLM_OK) {
            fill_own(&s, &c);
            CHECK(run_random(&s, m, c.context, round) == in_one_piece(m, c, round));
        }
        worked += err == TLM_OK;
        refused += err != TLM_OK;
        for (uint32_t i = 0; i < n; i++) {
            free(raw[i]);
        }
    }
    CHECK(worked >= 5u && refused >= 5u);
}

/* Four pieces with not a byte too much: the state, and the pages in three parts. */
static void exact_pieces(const tlm_model *m, tlm_config c)
{
    tlm_need need;
    tlm_session s;
    tlm_mem pieces[4];
    c.batch = 1;
    c.repack = false;
    CHECK(tlm_session_need(m, &c, &need) == TLM_OK && need.pages >= 3u);
    const size_t bytes[4] = {need.page, need.state, need.page * (need.pages - 2u), need.page};
    for (uint32_t i = 0; i < 4u; i++) {
        pieces[i].bytes = bytes[i];
        pieces[i].base = guarded(bytes[i]);
    }
    CHECK(tlm_session_init(&s, m, &c, pieces, 4) == TLM_OK);
    CHECK(run_random(&s, m, c.context, 9) == in_one_piece(m, c, 9));
    pieces[3].bytes--;
    CHECK(tlm_session_init(&s, m, &c, pieces, 4) == TLM_ERR_MEMORY);
    for (uint32_t i = 0; i < 4u; i++) {
        free(pieces[i].base);
    }
}

static size_t all_pinned(const tlm_session *s, const tlm_model *m)
{
    size_t sum = 0;
    for (uint32_t id = 0; id < m->n_tensors; id++) {
        CHECK(tlm_pinned(s, id) <= m->tensors[id].bytes);
        sum += tlm_pinned(s, id);
    }
    return sum;
}

/* Weights in what the pieces have left: none, some, all; the same bits, and what has a copy is not read again. */
static void pinned(const tlm_model *m, tlm_config c)
{
    tlm_need need;
    tlm_session s;
    tlm_model other;
    size_t before = 0;
    uint8_t *blob = guarded(m->bytes);
    c.repack = false;
    c.pin = true;
    CHECK(tlm_session_need(m, &c, &need) == TLM_OK);
    const uint32_t want = in_one_piece(m, c, 5);
    for (uint32_t part = 0; part <= 16u; part++) {
        tlm_mem pieces[2] = {{NULL, need.total}, {NULL, (m->bytes + 65536u) * part / 16u}};
        memcpy(blob, m->blob, m->bytes);
        CHECK(tlm_model_open(&other, blob, m->bytes) == TLM_OK);
        for (uint32_t i = 0; i < 2u; i++) {
            pieces[i].base = guarded(pieces[i].bytes + 1u); /* not NULL when empty */
        }
        CHECK(tlm_session_init(&s, &other, &c, pieces, 2) == TLM_OK);
        const size_t now = all_pinned(&s, m);
        CHECK(now >= before && (part != 0 || now == 0));
        before = now;
        for (uint32_t id = 0; id < m->n_tensors; id++) {
            const bool read_by_row = id == m->spec->tok_embed; /* even where it is the head, too */
            memset(blob + m->tensors[id].offset, 0x55, read_by_row ? 0 : tlm_pinned(&s, id));
        }
        CHECK(run_random(&s, &other, c.context, 5) == want);
        free(pieces[0].base);
        free(pieces[1].base);
    }
    const size_t rows = m->spec->head == m->spec->tok_embed ? 0 : m->tensors[m->spec->tok_embed].bytes;
    const size_t positions = m->spec->pos_embed == TLM_NO_TENSOR ? 0 : m->tensors[m->spec->pos_embed].bytes;
    size_t weights = 0;
    for (uint32_t id = 0; id < m->n_tensors; id++) {
        weights += m->tensors[id].bytes;
    }
    CHECK(before == weights - rows - positions);
    free(blob);
}

static void bad_config(const tlm_model *m)
{
    tlm_config good, c;
    tlm_need need;
    tlm_session s;
    tlm_config_default(&good, m);
    CHECK(tlm_session_need(m, &good, &need) == TLM_OK);
    CHECK(tlm_session_need(NULL, &good, &need) == TLM_ERR_ARG && tlm_session_need(m, NULL, &need) == TLM_ERR_ARG);
    c = good, c.context = 0;
    CHECK(tlm_session_need(m, &c, &need) == TLM_ERR_ARG);
    c = good, c.context = m->spec->context + 1u;
    CHECK(tlm_session_need(m, &c, &need) == TLM_ERR_ARG);
    c = good, c.batch = 0;
    CHECK(tlm_session_need(m, &c, &need) == TLM_ERR_ARG);
    c = good, c.batch = TLM_MAX_BATCH + 1u;
    CHECK(tlm_session_need(m, &c, &need) == TLM_ERR_ARG);
    c = good, c.kv_type = (tlm_kv_type)TLM_KV_COUNT;
    CHECK(tlm_session_need(m, &c, &need) == TLM_ERR_ARG);
    for (uint32_t kv = 0; kv < TLM_KV_COUNT; kv++) {
        const bool scaled = kv == TLM_KV_I8 || kv == TLM_KV_I4;
        const uint32_t groups[] = {0, 1, 2, 3, 4, 8, UINT32_MAX}; /* layers of 2 and of 4 kv heads */
        for (uint32_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
            c = good, c.kv_type = (tlm_kv_type)kv, c.kv_groups = groups[i];
            const bool taken = groups[i] == 1u || (groups[i] == 2u && scaled);
            CHECK(tlm_session_need(m, &c, &need) == (taken ? TLM_OK : TLM_ERR_ARG));
        }
    }
    c = good, c.parallel.parts = 2;
    CHECK(tlm_session_need(m, &c, &need) == TLM_ERR_ARG);
    c = good, c.own[2] = SIZE_MAX;
    CHECK(tlm_session_need(m, &c, &need) == TLM_ERR_LIMIT);
    c = good, c.backend = "none";
    CHECK(tlm_session_need(m, &c, &need) == TLM_ERR_ARG);
    CHECK(tlm_session_init(&s, m, &good, NULL, 1) == TLM_ERR_ARG);
    tlm_mem pieces[TLM_MAX_PIECES + 1u] = {{NULL, 0}};
    CHECK(tlm_session_init(&s, m, &good, pieces, TLM_MAX_PIECES + 1u) == TLM_ERR_ARG);
    CHECK(tlm_session_init(&s, m, &good, pieces, 0) == TLM_ERR_ARG);
    CHECK(tlm_session_init(&s, m, &good, pieces, 1) == TLM_ERR_MEMORY);
    pieces[0].bytes = 64;
    CHECK(tlm_session_init(&s, m, &good, pieces, 1) == TLM_ERR_ARG);
}

/* ---- eval ---- */

static void bad_calls(const tlm_model *m)
{
    box b = box_new(m, TLM_KV_I8, 1, 4, false, 0, NULL, NULL);
    uint32_t ids[200] = {0};
    const float *before = logits_of(&b, 2);
    const float first = before[0];
    CHECK(tlm_eval(&b.s, ids, 0, NULL, NULL) == TLM_ERR_ARG && tlm_eval(&b.s, NULL, 1, NULL, NULL) == TLM_ERR_ARG);
    ids[6] = m->spec->vocab;
    CHECK(tlm_eval(&b.s, ids, 7, NULL, NULL) == TLM_ERR_TOKEN && tlm_position(&b.s) == 1u);
    ids[6] = 0;
    CHECK(tlm_eval(&b.s, ids, b.config.context, NULL, NULL) == TLM_ERR_CONTEXT && tlm_position(&b.s) == 1u);
    CHECK(tlm_eval(&b.s, ids, b.config.context - 1u, NULL, NULL) == TLM_OK && tlm_next_batch(&b.s) == 0);
    CHECK(tlm_eval(&b.s, ids, 1, NULL, NULL) == TLM_ERR_CONTEXT);
    CHECK(tlm_rewind(&b.s, b.config.context + 1u) == TLM_ERR_ARG && tlm_position(&b.s) == b.config.context);
    CHECK(tlm_rewind(&b.s, 0) == TLM_OK && logits_of(&b, 2)[0] == first);
    box_free(&b);
}

/* Each weight row is read once a batch, in the order of the blob, the head's only where logits are wanted. */
static void reads(const tlm_model *m)
{
    const uint32_t n = 37, batch = 8, batches = 5;
    const tlm_layer_rec *first = m->layers;
    /* matrices that share their input, and do not want it in one form, are read form by form */
    const bool mixed = m->tensors[first->wq].type != m->tensors[first->wk].type;
    box b = box_new(m, TLM_KV_I8, 1, batch, false, 160, NULL, count_linear);
    uint32_t ids[37] = {0};
    uint8_t want[37] = {0};
    const uint64_t layers = layer_rows(m);
    CHECK(tlm_eval(&b.s, ids, n, NULL, NULL) == TLM_OK);
    CHECK(counted.rows == batches * layers && counted.head_rows == 0 && (mixed || counted.back == batches - 1u));
    counted_reset();
    tlm_rewind(&b.s, 0);
    float *out = guarded(sizeof(float) * m->spec->vocab * n);
    tlm_buffer_sink buffer;
    tlm_sink sink = tlm_buffer_sink_init(&buffer, m, out, m->spec->vocab);
    want[3] = 1;
    CHECK(tlm_eval(&b.s, ids, n, want, &sink) == TLM_OK);
    CHECK(counted.rows == batches * layers && counted.head_rows == m->spec->vocab && buffer.wanted == 1u);
    counted_reset();
    tlm_rewind(&b.s, 0);
    want[4] = want[5] = want[16] = want[17] = 1; /* three in the first batch, two in the third */
    sink = tlm_buffer_sink_init(&buffer, m, out, m->spec->vocab);
    CHECK(tlm_eval(&b.s, ids, n, want, &sink) == TLM_OK);
    CHECK(counted.rows == batches * layers && buffer.wanted == 5u);
    /* Room for 160 logits: a chunk of t1 has 80 rows, so that three tokens take two passes. */
    const uint32_t passes = m->tensors[m->spec->head].type == TLM_TENSOR_TYPE_T1 ? 3 : 2;
    CHECK(counted.head_rows == passes * (uint64_t)m->spec->vocab);
    free(out);
    box_free(&b);
}

/* Batch size, pages as scratch, chunks of the head, threads: the same bits. */
static void same_bits(const tlm_model *m)
{
    enum { N = 61 };
    const size_t bytes = sizeof(float) * m->spec->vocab * N;
    uint32_t ids[N];
    uint8_t all[N];
    uint64_t seed = 77;
    float *want = guarded(bytes), *got = guarded(bytes);
    memset(all, 1, sizeof all);
    for (uint32_t i = 0; i < N; i++) {
        ids[i] = rnd(&seed) % m->spec->vocab;
    }
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        box one = box_new(m, kinds[kind].type, kinds[kind].groups, 1, false, 0, NULL, NULL);
        all_logits(&one, ids, N, all, want);
        box_free(&one);
        const uint32_t heads[4] = {0, 1, 48, 80};
        for (uint32_t round = 0; round < 8u; round++) {
            uint32_t parts = 7;
            box b = box_new(m, kinds[kind].type, kinds[kind].groups, 1u + rnd(&seed) % TLM_MAX_BATCH, round & 1u, heads[round / 2u],
                            round % 3u == 1u ? &parts : NULL, NULL);
            memset(got, 0xff, bytes);
            all_logits(&b, ids, N, all, got);
            CHECK(memcmp(want, got, bytes) == 0);
            tlm_rewind(&b.s, 19);
            all_logits(&b, ids + 19, N - 19, all, got);
            CHECK(memcmp(want + (size_t)19 * m->spec->vocab, got, sizeof(float) * m->spec->vocab * (N - 19)) == 0);
            box_free(&b);
        }
    }
    free(want);
    free(got);
}

/* In pages: the batch shrinks as the context fills, and one token always goes. */
static void shrinking_batch(const tlm_model *m)
{
    box b = box_new(m, TLM_KV_I4, 1, TLM_MAX_BATCH, true, 16, NULL, NULL);
    uint32_t last = tlm_next_batch(&b.s), id = 1;
    CHECK(last >= 1u && b.need.batch_scratch == 0);
    while (tlm_position(&b.s) < b.config.context) {
        const uint32_t next = tlm_next_batch(&b.s);
        CHECK(next >= 1u && next <= last);
        last = next;
        CHECK(tlm_eval(&b.s, &id, 1, NULL, NULL) == TLM_OK);
    }
    CHECK(last == 1u);
    box_free(&b);
}

/* A sink that stops, an eval that fails: position and cache afterwards. */
static void faults(const tlm_model *m)
{
    enum { N = 20 };
    uint32_t ids[N], stop_at = 2, failed = 0;
    uint8_t want[N] = {0, 0, 1};
    const tlm_sink stop = {stop_rows, &stop_at, NULL};
    for (uint32_t i = 0; i < N; i++) {
        ids[i] = i % m->spec->vocab;
    }
    box clean = box_new(m, TLM_KV_I8, 1, 4, false, 0, NULL, NULL);
    box b = box_new(m, TLM_KV_I8, 1, 4, false, 0, NULL, fail_quant);
    CHECK(tlm_eval(&clean.s, ids, N, NULL, NULL) == TLM_OK);
    const float *right = logits_of(&clean, 5);
    for (uint32_t at = 1; at < 60u; at += 7u) {
        tlm_rewind(&b.s, 0);
        quant_fails_in = at;
        const tlm_err err = tlm_eval(&b.s, ids, N, NULL, NULL);
        CHECK(err == (quant_fails_in == 0 ? TLM_ERR_NUMERIC : TLM_OK));
        CHECK(tlm_position(&b.s) == (err == TLM_OK ? N : 0u));
        failed += err != TLM_OK;
        quant_fails_in = 0;
    }
    CHECK(failed >= 5u);
    tlm_rewind(&b.s, 0);
    CHECK(tlm_eval(&b.s, ids, N, want, &stop) == TLM_ERR_STOPPED && tlm_position(&b.s) == N);
    CHECK(memcmp(logits_of(&b, 5), right, sizeof(float) * m->spec->vocab) == 0);
    box_free(&clean);
    box_free(&b);
}

static void texts(const tlm_model *m)
{
    size_t n = 0;
    CHECK(strcmp(tlm_model_info(m, "name"), "a small model") == 0 && tlm_model_info(m, "nam") == NULL);
    CHECK(memcmp(tlm_chat_string(m, TLM_CHAT_USER_PREFIX, &n), "User: ", 6) == 0 && n == 6u);
    CHECK(memcmp(tlm_chat_string(m, TLM_CHAT_STOP + 1, &n), "\n\n", 2) == 0 && n == 2u);
    CHECK(tlm_chat_string(m, TLM_CHAT_STOP + 2, &n) == NULL);
    CHECK(tlm_is_stop_id(m, 3) && tlm_is_stop_id(m, 7) && !tlm_is_stop_id(m, 0));
    for (uint32_t i = 0; i <= TLM_ERR_COUNT; i++) {
        for (uint32_t k = 0; k < i; k++) {
            CHECK(strcmp(tlm_err_name((tlm_err)i), tlm_err_name((tlm_err)k)) != 0);
            CHECK(strcmp(tlm_err_text((tlm_err)i), tlm_err_text((tlm_err)k)) != 0);
        }
    }
    CHECK(strcmp(tlm_err_name(TLM_ERR_STOPPED), "TLM_ERR_STOPPED") == 0);
    CHECK(strcmp(tlm_err_text(TLM_ERR_CRC), "the blob is damaged (checksum)") == 0);
}

int main(int argc, char **argv)
{
    size_t bytes;
    tlm_model m;
    tlm_config c;
    CHECK(argc == 2);
    uint8_t *blob = read_file(argv[1], &bytes);
    CHECK(tlm_model_open(&m, blob, bytes) == TLM_OK);
    tlm_config_default(&c, &m);
    for (uint32_t kv = 0; kv < KINDS; kv++) {
        c.kv_type = kinds[kv].type;
        c.kv_groups = kinds[kv].groups;
        c.batch_in_pages = kv & 1u;
        c.repack = kv & 2u;
        c.head_rows = 10u * kv;
        memset(c.own, 0, sizeof c.own);
        c.pin = false;
        exact_need(&m, c);
        exact_pieces(&m, c);
        c.own[0] = 1000u * kv;
        c.own[1] = c.own[2] = 700u * (kv & 1u);
        c.pin = kv & 1u;
        random_pieces(&m, c, 1234u + kv);
        pinned(&m, c);
    }
    bad_config(&m);
    bad_calls(&m);
    reads(&m);
    same_bits(&m);
    shrinking_batch(&m);
    faults(&m);
    texts(&m);
    free(blob);
    printf("ok\n");
    return 0;
}
