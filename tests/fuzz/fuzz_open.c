/* Lies to tlm_model_open: a blob with changed bytes and a right checksum, or cut off. What it accepts must also run.
 *
 * Usage: fuzz_open BLOB SEED ROUNDS. Prints how many blobs each error refused. Every read outside the blob's own bytes
 * ends the program under AddressSanitizer; memory pieces have exactly the bytes that were asked for.
 */
#include "../c/check.h"
#include "tlm.h"

static uint32_t tally[TLM_ERR_COUNT];

/* Bit by bit, apart from the library's own. */
static uint32_t crc32(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    while (n-- != 0) {
        crc ^= *p++;
        for (uint32_t i = 0; i < 8u; i++) {
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

static tlm_err ignore_rows(void *ctx, uint32_t index, uint32_t row0, uint32_t rows, const float *logits)
{
    (void)ctx, (void)index, (void)row0;
    volatile float last = logits[rows - 1u];
    (void)last;
    return TLM_OK;
}

/* A text of mixed bytes through the tokenizer and back. */
static void use_tokenizer(const tlm_model *m, uint64_t *seed)
{
    static const char text[] = "Once upon\xe2\x96\x81 a time, <s> 123 don't\n\xff\xc3 \xf0\x9f\x98\x80 tok\0en";
    const size_t len = rnd(seed) % sizeof text;
    uint32_t ids[64];
    size_t n = 0, bytes;
    char out[3 * TLM_MAX_PIECE + 16];
    void *work = guarded(TLM_ENCODE_WORK(len));
    char *exact = guarded(len);
    memcpy(exact, text, len);
    const tlm_err err = tlm_encode(m, exact, len, rnd(seed) % 8u, work, ids, 64, &n);
    tlm_decoder decoder;
    tlm_decoder_init(&decoder, true);
    for (size_t i = 0; err == TLM_OK && i < n; i++) {
        CHECK(ids[i] < m->spec->vocab);
        (void)tlm_decode(&decoder, m, ids[i], out, sizeof out, &bytes);
    }
    (void)tlm_decode_end(&decoder, out, sizeof out);
    (void)tlm_token_id(m, exact, len);
    free(work);
    free(exact);
}

/* Some byte leads nowhere from every state. */
static uint16_t any_step(const void *ctx, uint16_t state, uint8_t byte)
{
    (void)ctx;
    return byte % 5u == state % 5u ? 0u : (uint16_t)(1u + (state * 7u + byte) % 100u);
}

/* Ids asked about in rising order, as a sampler does, and one of those allowed taken. */
static void use_walk(const tlm_model *m, uint64_t *seed)
{
    const size_t bytes = rnd(seed) % 4u ? tlm_walk_work(m) : 0;
    const uint32_t first = rnd(seed) % m->spec->vocab;
    void *work = guarded(bytes);
    tlm_walk walk;
    tlm_walk_init(&walk, m, any_step, NULL, 1, rnd(seed) % 2u != 0, work, bytes);
    for (uint32_t step = 0; step < 3u; step++) {
        uint32_t last = TLM_NO_TOKEN;
        for (uint32_t id = first; id < m->spec->vocab && id < first + 300u; id++) {
            last = tlm_walk_allows(&walk, id) ? id : last;
        }
        CHECK(last == TLM_NO_TOKEN || tlm_walk_take(&walk, last) != 0);
    }
    free(work);
}

static void use_texts(const tlm_model *m)
{
    char out[TLM_MAX_PIECE];
    size_t n = 0;
    for (uint32_t i = 0; m->chat != NULL && i <= m->chat->n_strings; i++) {
        const char *text = tlm_chat_string(m, i, &n);
        CHECK((text == NULL) == (i == m->chat->n_strings));
    }
    (void)tlm_model_info(m, "name");
    for (uint32_t id = 0; id < m->spec->vocab && id < 40u; id++) {
        (void)tlm_is_stop_id(m, id);
        (void)tlm_piece(m, id, out, sizeof out, &n);
    }
}

/* An accepted model evaluates; its numbers may overflow, nothing else may happen. */
static void use(const tlm_model *m, uint64_t *seed)
{
    tlm_config c;
    tlm_need need;
    tlm_session s;
    uint32_t ids[24];
    const tlm_sink sink = {ignore_rows, NULL, NULL};
    use_texts(m);
    if (m->section[TLM_SECTION_TOKENIZER] != NULL) {
        use_tokenizer(m, seed);
        use_walk(m, seed);
    }
    tlm_config_default(&c, m);
    c.context = c.context < 40u ? c.context : 40u;
    c.kv_type = (tlm_kv_type)(rnd(seed) % TLM_KV_COUNT);
    c.kv_groups = rnd(seed) % 4u;
    c.batch = 1u + rnd(seed) % 8u;
    c.backend = "ref";
    if (tlm_session_need(m, &c, &need) == TLM_ERR_ARG) { /* heads that do not fall into so many groups */
        c.kv_groups = 1;
    }
    CHECK(tlm_session_need(m, &c, &need) == TLM_OK);
    if (need.total > (4u << 20)) { /* a header may ask for much; that is the caller's decision */
        return;
    }
    const tlm_mem piece = {guarded(need.total), need.total};
    CHECK(tlm_session_init(&s, m, &c, &piece, 1) == TLM_OK);
    const uint32_t n = c.context < 24u ? c.context : 24u;
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = rnd(seed) % m->spec->vocab;
    }
    const tlm_err err = tlm_eval(&s, ids, n, NULL, &sink);
    CHECK(err == TLM_OK || err == TLM_ERR_NUMERIC);
    free(piece.base);
}

static void put32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* One lie. Most go where the structure is: header, tables, records, text sections. */
static void change(uint8_t *blob, size_t bytes, size_t data0, size_t data1, uint64_t *seed)
{
    static const uint32_t odd[] = {0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 0x7fff, 0xffff, 0x10000,
                                   0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff, 0x3f800000, 0x7f800000, 0x7fc00000};
    size_t at = rnd(seed) % bytes;
    if (rnd(seed) % 8u != 0 && at >= data0 && at < data1) {
        at = rnd(seed) % 2u ? rnd(seed) % data0 : data1 + rnd(seed) % (bytes - data1 + 1u);
        at = at < bytes ? at : bytes - 1u;
    }
    switch (rnd(seed) % 5u) {
    case 0:
        blob[at] = (uint8_t)(blob[at] ^ 1u << rnd(seed) % 8u);
        break;
    case 1:
        blob[at] = (uint8_t)rnd(seed);
        break;
    case 2:
        at = at & ~(size_t)3 & ((size_t)0 - (at + 4u <= bytes));
        put32(blob + at, odd[rnd(seed) % (sizeof odd / sizeof odd[0])]);
        break;
    case 3:
        at = at & ~(size_t)3 & ((size_t)0 - (at + 4u <= bytes));
        put32(blob + at, get32(blob + at) + rnd(seed) % 5u - 2u);
        break;
    default:
        at = at & ~(size_t)1 & ((size_t)0 - (at + 2u <= bytes));
        blob[at] = (uint8_t)odd[rnd(seed) % 16u];
        blob[at + 1u] = (uint8_t)(odd[rnd(seed) % 16u] >> 8);
    }
}

static void try_blob(uint8_t *blob, size_t bytes, uint64_t *seed)
{
    tlm_model m;
    const tlm_err err = tlm_model_open(&m, blob, bytes);
    CHECK((uint32_t)err < (uint32_t)TLM_ERR_COUNT);
    tally[err]++;
    if (err == TLM_OK) {
        use(&m, seed);
    }
}

/* Offset and end of a section of the right blob. */
static void section(const uint8_t *blob, uint32_t kind, size_t *at, size_t *end)
{
    for (uint32_t i = 0; i < get32(blob + offsetof(tlm_header_rec, n_sections)); i++) {
        const uint8_t *record = blob + sizeof(tlm_header_rec) + i * sizeof(tlm_section_rec);
        if (get32(record) == kind) {
            *at = get32(record + 4);
            *end = *at + get32(record + 8);
        }
    }
}

int main(int argc, char **argv)
{
    size_t bytes, data0 = 0, data1 = 0;
    CHECK(argc == 4);
    uint8_t *right = read_file(argv[1], &bytes);
    uint64_t seed = strtoull(argv[2], NULL, 0) * 0x9e3779b97f4a7c15u + 1u;
    const uint32_t rounds = (uint32_t)strtoul(argv[3], NULL, 0);
    section(right, TLM_SECTION_DATA, &data0, &data1);
    try_blob(right, bytes, &seed);
    CHECK(tally[TLM_OK] == 1u);
    for (uint32_t i = 0; i < rounds; i++) {
        const bool cut = rnd(&seed) % 10u == 0;
        const size_t n = cut ? rnd(&seed) % bytes : bytes;
        uint8_t *blob = guarded(n);
        memcpy(blob, right, n);
        for (uint32_t k = 1u + rnd(&seed) % 3u; !cut && k != 0; k--) {
            change(blob, n, data0, data1, &seed);
        }
        if (cut && n >= sizeof(tlm_header_rec) && rnd(&seed) % 2u) {
            put32(blob + offsetof(tlm_header_rec, file_bytes), (uint32_t)n); /* cut off, and it says so */
        }
        if (n >= sizeof(tlm_header_rec) && get32(blob + offsetof(tlm_header_rec, file_bytes)) == n) {
            put32(blob + offsetof(tlm_header_rec, crc32), crc32(blob + TLM_CRC_START, n - TLM_CRC_START));
        }
        try_blob(blob, n, &seed);
        free(blob);
    }
    for (uint32_t i = 0; i < TLM_ERR_COUNT; i++) {
        printf("%s %u\n", tlm_err_name((tlm_err)i), (unsigned)tally[i]);
    }
    free(right);
    return 0;
}
