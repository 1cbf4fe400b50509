/* Feeds damaged TOKENIZER sections to the tokenizer. Built with ASan and UBSan by tests/py/test_tok_hostile.py.
 *
 *   tok_fuzz SECTION TEXT ROUNDS SEED
 *
 * Each round changes one to eight bytes of the section (more often in its first record) or cuts it, and
 * opens it in a heap block of exactly its size. What tlm_tok_check lets pass must encode and decode within
 * bounds and end. Prints how many rounds were refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tlm.h"
#include "tlm_tok.h"

static uint64_t state;

static uint32_t draw(uint32_t limit)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % limit;
}

static uint8_t *read_file(const char *path, uint32_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        exit(2);
    }
    *bytes = (uint32_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*bytes + 1u);
    if (data == NULL || fread(data, 1, *bytes, file) != *bytes) {
        exit(2);
    }
    fclose(file);
    return data;
}

static void damage(uint8_t *section, uint32_t bytes)
{
    static const uint8_t telling[] = {0, 1, 2, 0x7f, 0x80, 0xfe, 0xff};
    for (uint32_t n = 1 + draw(8); n > 0; n--) {
        uint32_t at = draw(3) == 0 ? draw(bytes < 160 ? bytes : 160) : draw(bytes);
        switch (draw(3)) {
        case 0:
            section[at] = telling[draw(sizeof telling)];
            break;
        case 1:
            section[at] ^= (uint8_t)(1u << draw(8));
            break;
        default:
            section[at] = (uint8_t)draw(256);
        }
    }
}

static void use(const tlm_model *model, const char *text, size_t len)
{
    static const uint32_t flags[] = {0, TLM_ENCODE_SPECIAL, TLM_ENCODE_BOS, TLM_ENCODE_CONTINUE | TLM_ENCODE_SPECIAL};
    void *work = malloc(TLM_ENCODE_WORK(len));
    size_t cap = 3 * len + 8, count = 0;
    uint32_t *ids = malloc(cap * sizeof *ids);
    tlm_err err = tlm_encode(model, text, len, flags[draw(4)], work, ids, cap, &count);
    free(work);
    tlm_decoder decoder;
    tlm_decoder_init(&decoder, draw(2) == 0);
    for (uint32_t i = 0; i < 300; i++) {
        char out[3 * TLM_MAX_PIECE + 12];
        size_t got;
        uint32_t id = err == TLM_OK && i < count && i < cap ? ids[i] : draw(model->spec->vocab);
        (void)tlm_decode(&decoder, model, id, out, sizeof out, &got);
        (void)tlm_piece(model, id, out, draw(TLM_MAX_PIECE), &got);
    }
    free(ids);
    char end[16];
    (void)tlm_decode_end(&decoder, end, sizeof end);
    if (draw(16) == 0) {
        (void)tlm_token_id(model, text, len < 9 ? len : 9);
    }
    (void)tlm_bos(model);
    (void)tlm_eos(model);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        return 2;
    }
    uint32_t bytes, text_bytes, refused = 0, rounds = (uint32_t)strtoul(argv[3], NULL, 10);
    uint8_t *good = read_file(argv[1], &bytes), *text = read_file(argv[2], &text_bytes);
    state = strtoul(argv[4], NULL, 10);
    tlm_spec_rec spec = {0};
    spec.vocab = ((const tlm_tok_rec *)(const void *)good)->n_pieces;
    for (uint32_t round = 0; round < rounds; round++) {
        uint32_t kept = round > 0 && draw(16) == 0 ? draw(bytes) : bytes;
        uint8_t *section = malloc(kept > 0 ? kept : 1);
        memcpy(section, good, kept);
        if (round > 0 && kept > 0) {
            damage(section, kept);
        }
        tlm_model model = {0};
        model.spec = &spec;
        model.section[TLM_SECTION_TOKENIZER] = section;
        model.section_bytes[TLM_SECTION_TOKENIZER] = kept;
        if (tlm_tok_check(&model) != TLM_OK) {
            refused++;
            if (round == 0) {
                return 3; /* the undamaged section must pass */
            }
        } else {
            uint32_t from = draw(text_bytes), len = draw(200);
            len = len < text_bytes - from ? len : text_bytes - from;
            use(&model, (const char *)text + from, len);
        }
        free(section);
    }
    printf("%u of %u refused\n", refused, rounds);
    free(good);
    free(text);
    return 0;
}
