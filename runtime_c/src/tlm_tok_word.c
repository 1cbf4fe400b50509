/* A word is a piece or unknown: WordLevel and character vocabularies. */
#include "tlm_tok.h"

tlm_err tlm_tok_word(const tlm_tok *tok, tlm_tok_out *out, const uint8_t *s, size_t n)
{
    uint32_t id = tlm_tok_find(tok, s, n);
    if (id != TLM_NO_TOKEN) {
        tlm_tok_emit(out, id);
    } else {
        tlm_tok_emit_unknown(tok, out, s, n);
    }
    return TLM_OK;
}
