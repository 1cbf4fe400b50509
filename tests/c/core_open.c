/* Every cut and every changed bit of a blob is refused by its name. Usage: core_open BLOB (a small one) */
#include "check.h"
#include "tlm.h"

static tlm_err open_copy(const uint8_t *blob, size_t n)
{
    tlm_model m;
    uint8_t *exact = guarded(n);
    memcpy(exact, blob, n);
    const tlm_err err = tlm_model_open(&m, exact, n);
    free(exact);
    return err;
}

static void cuts(const uint8_t *blob, size_t bytes)
{
    for (size_t n = 0; n < bytes; n++) {
        CHECK(open_copy(blob, n) == TLM_ERR_TRUNCATED);
    }
}

static void flips(uint8_t *blob, size_t bytes)
{
    for (size_t at = 0; at < bytes; at++) {
        for (uint32_t bit = 0; bit < 8u; bit++) {
            tlm_model m;
            blob[at] = (uint8_t)(blob[at] ^ 1u << bit);
            const tlm_err err = tlm_model_open(&m, blob, bytes);
            const bool length = at >= offsetof(tlm_header_rec, file_bytes) &&
                                at < offsetof(tlm_header_rec, file_bytes) + sizeof(uint32_t);
            const bool version = at >= offsetof(tlm_header_rec, version_major) &&
                                 at < offsetof(tlm_header_rec, version_major) + sizeof(uint16_t);
            CHECK(err == (at < 4u ? TLM_ERR_MAGIC : version ? TLM_ERR_VERSION : TLM_ERR_CRC) ||
                  (length && (err == TLM_ERR_TRUNCATED || err == TLM_ERR_FORMAT)));
            blob[at] = (uint8_t)(blob[at] ^ 1u << bit);
        }
    }
}

/* A partition is larger than the blob in it; its rest may be anything. Alignment and arguments are checked. */
static void places(const uint8_t *blob, size_t bytes)
{
    tlm_model m;
    uint8_t *room = guarded(bytes + 200u);
    memcpy(room, blob, bytes);
    CHECK(tlm_model_open(&m, room, bytes + 200u) == TLM_OK && m.bytes == bytes);
    memmove(room + 16, room, bytes);
    CHECK(tlm_model_open(&m, room + 16, bytes) == TLM_OK);
    CHECK(tlm_model_open(&m, room + 8, bytes) == TLM_ERR_ALIGN);
    CHECK(tlm_model_open(&m, NULL, bytes) == TLM_ERR_ARG && tlm_model_open(NULL, room + 16, bytes) == TLM_ERR_ARG);
    free(room);
}

int main(int argc, char **argv)
{
    size_t bytes;
    CHECK(argc == 2);
    uint8_t *blob = read_file(argv[1], &bytes);
    CHECK(open_copy(blob, bytes) == TLM_OK);
    cuts(blob, bytes);
    flips(blob, bytes);
    places(blob, bytes);
    free(blob);
    printf("ok\n");
    return 0;
}
