/* The tokenizer alone, for tests/py/test_tok*.py: a model that has a TOKENIZER section and nothing else. */
#include "tlm.h"
#include "tlm_tok.h"

#include <stdlib.h>
#include <string.h>

typedef struct harness {
    tlm_model model;
    tlm_spec_rec spec;
    uint8_t *section;
} harness;

/* A model around a copy of the section in a heap block of exactly its size, so that ASan sees every read
 * past it; *err is what tlm_tok_check says. NULL when the section is refused. */
harness *harness_open(const uint8_t *section, uint32_t bytes, uint32_t vocab, int *err)
{
    harness *h = calloc(1, sizeof *h);
    h->section = malloc(bytes > 0 ? bytes : 1);
    memcpy(h->section, section, bytes);
    h->spec.vocab = vocab;
    h->model.spec = &h->spec;
    h->model.section[TLM_SECTION_TOKENIZER] = h->section;
    h->model.section_bytes[TLM_SECTION_TOKENIZER] = bytes;
    *err = (int)tlm_tok_check(&h->model);
    if (*err != TLM_OK) {
        free(h->section);
        free(h);
        return NULL;
    }
    return h;
}

void harness_close(harness *h)
{
    free(h->section);
    free(h);
}

int harness_encode(harness *h, const char *text, size_t len, uint32_t flags, uint32_t *ids, size_t cap, size_t *count)
{
    void *work = malloc(TLM_ENCODE_WORK(len));
    int err = (int)tlm_encode(&h->model, text, len, flags, work, ids, cap, count);
    free(work);
    return err;
}

int harness_piece(harness *h, uint32_t id, char *out, size_t cap, size_t *len)
{
    return (int)tlm_piece(&h->model, id, out, cap, len);
}

/* Decodes n ids; ends[i] is the length of the text after id i. The text must hold 3 bytes for each byte. */
int harness_decode(harness *h, const uint32_t *ids, size_t n, int replace, int started, char *out, size_t cap,
                   size_t *ends, size_t *len)
{
    tlm_decoder decoder;
    tlm_decoder_init(&decoder, replace != 0);
    decoder.started = started != 0;
    *len = 0;
    for (size_t i = 0; i < n; i++) {
        size_t got;
        tlm_err err = tlm_decode(&decoder, &h->model, ids[i], out + *len, cap - *len, &got);
        if (err != TLM_OK) {
            return (int)err;
        }
        *len += got;
        ends[i] = *len;
    }
    *len += tlm_decode_end(&decoder, out + *len, cap - *len);
    return TLM_OK;
}

uint32_t harness_bos(harness *h)
{
    return tlm_bos(&h->model);
}

uint32_t harness_eos(harness *h)
{
    return tlm_eos(&h->model);
}

uint32_t harness_token_id(harness *h, const char *piece, size_t len)
{
    return tlm_token_id(&h->model, piece, len);
}

uint32_t harness_class(uint32_t code)
{
    return tlm_tok_class(code);
}
