/* How a session would lie in a board's memory, asked of the session itself. */
#include <stdlib.h>

#include "tlm_py.h"
#include "tlm_session.h"

/* Batches of a prompt of `prompt` tokens in an empty context, at most that many. */
static uint32_t batches_of(const tlm_session *s, uint32_t prompt, uint32_t *out)
{
    uint32_t n = 0, at = 0;
    for (uint8_t *scratch; at < prompt; at += out[n++]) {
        out[n] = tlm_session_batch(s, at, prompt - at, &scratch);
    }
    return n;
}

/* Bytes of each of the first `count` tensors that lie in a copy, and in which piece. */
static void pinned_of(const tlm_session *s, const tlm_mem *pieces, uint32_t n, uint64_t *out, uint32_t count)
{
    for (uint32_t id = 0; id < count && id < s->model->n_tensors; id++) {
        const uintptr_t at = s->copies == NULL ? 0 : (uintptr_t)s->copies[id].data;
        out[2u * id] = tlm_pinned(s, id);
        for (uint32_t i = 0; i < n; i++) {
            if (at - (uintptr_t)pieces[i].base < pieces[i].bytes) {
                out[2u * id + 1u] = i;
            }
        }
    }
}

/* TLM_ERR_MEMORY when the pieces do not do. batches: [prompt], *n_batches of them are set. pinned: [n_pinned][2]. */
int32_t tlm_py_place(const tlm_py_model *m, const tlm_py_options *o, const uint64_t *sizes, uint32_t n, uint32_t prompt,
                     uint32_t *batches, uint32_t *n_batches, uint64_t *pinned, uint32_t n_pinned)
{
    const tlm_config c = tlm_py_config(&m->model, o);
    tlm_session session;
    tlm_mem pieces[TLM_MAX_PIECES];
    void *memory[TLM_MAX_PIECES] = {NULL};
    tlm_err err = n <= TLM_MAX_PIECES ? TLM_OK : TLM_ERR_ARG;
    for (uint32_t i = 0; i < n && err == TLM_OK; i++) {
        memory[i] = malloc((size_t)sizes[i] + 64u);
        err = memory[i] != NULL ? TLM_OK : TLM_ERR_ARG;
        pieces[i].base = tlm_py_align64(memory[i]);
        pieces[i].bytes = (size_t)sizes[i];
    }
    if (err == TLM_OK) {
        err = tlm_session_init(&session, &m->model, &c, pieces, n);
    }
    if (err == TLM_OK) {
        *n_batches = batches_of(&session, prompt < c.context ? prompt : c.context, batches);
        pinned_of(&session, pieces, n, pinned, n_pinned);
    }
    for (uint32_t i = 0; i < TLM_MAX_PIECES; i++) {
        free(memory[i]);
    }
    return (int32_t)err;
}
