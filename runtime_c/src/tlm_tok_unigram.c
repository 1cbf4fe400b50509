#include "tlm_tok.h"
tlm_err tlm_tok_unigram(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n, tlm_tok_work work) {
    (void)tok; (void)out; (void)s; (void)n; (void)work;
    return TLM_ERR_TOKENIZER;
}
