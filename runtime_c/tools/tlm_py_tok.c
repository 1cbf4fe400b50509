/* A tokenizer section on its own, before there is a blob: what tinyexport/tok/encode.py counts pieces with. */
#include <stdlib.h>
#include <string.h>

#include "tlm_tok.h"

/* Ids of a text by the `bytes` bytes of a TOKENIZER section, copied so that it is aligned. */
int32_t tlm_py_section_encode(const void *section, uint32_t bytes, const char *text, size_t len, uint32_t flags,
                              uint32_t *ids, size_t cap, size_t *count)
{
    tlm_spec_rec spec = {.vocab = TLM_MAX_VOCAB};
    tlm_model model = {.spec = &spec};
    void *copy = malloc(bytes > 0 ? bytes : 1), *work = malloc(TLM_ENCODE_WORK(len));
    tlm_err err = copy == NULL || work == NULL ? TLM_ERR_MEMORY : TLM_OK;
    *count = 0;
    if (err == TLM_OK) {
        memcpy(copy, section, bytes);
        model.section[TLM_SECTION_TOKENIZER] = copy;
        model.section_bytes[TLM_SECTION_TOKENIZER] = bytes;
        err = tlm_tok_check(&model);
    }
    if (err == TLM_OK) {
        err = tlm_encode(&model, text, len, flags, work, ids, cap, count);
    }
    free(work);
    free(copy);
    return (int32_t)err;
}
