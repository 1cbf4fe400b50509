/* What the files of the core know of a session, beyond tlm.h. */
#ifndef TLM_SESSION_H
#define TLM_SESSION_H

#include "tlm.h"
#include "tlm_arena.h"
#include "tlm_kernels.h"

/* Scratch of a batch of `batch` tokens: parts of one block, 64-aligned. */
typedef struct tlm_scratch {
    float *x, *h, *f, *rope; /* [batch][widths.dim], ... */
    int8_t *codes;
    float *scales;
    int32_t *sums;
} tlm_scratch;

/* Lays the parts out from base and returns the bytes they take; a NULL base only measures. */
uint64_t tlm_scratch_place(const tlm_widths *w, uint32_t batch, uint8_t *base, tlm_scratch *out);

/* As tlm_session_need and tlm_session_init, with the caller's kernels (tests count through them). */
tlm_err tlm_session_need_with(const tlm_model *model, const tlm_config *config, const tlm_kernels *kernels,
                              tlm_need *need);
tlm_err tlm_session_init_with(tlm_session *session, const tlm_model *model, const tlm_config *config,
                              const tlm_kernels *kernels, const tlm_mem *pieces, uint32_t n_pieces);

/* Tokens a batch at `position` may hold, at most `want`, and the scratch that it uses. */
uint32_t tlm_session_batch(const tlm_session *session, uint32_t position, uint32_t want, uint8_t **scratch);

/* Bytes of one layer's K and V in a page, where its parts start, and how far apart groups of heads lie in K and V. */
typedef struct tlm_kv_layout {
    size_t k, v, ks, vs, bytes, group;
} tlm_kv_layout;
void tlm_kv_layout_of(uint8_t kv_type, uint32_t groups, uint32_t n_kv_heads, uint32_t head_dim, tlm_kv_layout *out);

/* ---- copies of weights (tlm_copies.c) ---- */

/* A table of copies by tensor id and the copies, all repacked: their bytes, and with a base they are made. */
uint64_t tlm_repack_place(const tlm_model *model, const tlm_kernels *kernels, uint8_t *base);
/* Copies of what a token reads, as far as the arena goes. */
void tlm_pin(tlm_session *session, tlm_arena *arena);
/* The matrix `id` as its tile `tile` lies in memory, and the first tile that lies elsewhere. */
tlm_weight tlm_session_weight(const tlm_session *session, uint32_t id, uint32_t tile, uint32_t *end);
/* The floats of a vector tensor; NULL for TLM_NO_TENSOR. */
const float *tlm_session_vector(const tlm_session *session, uint32_t id);

/* Rows that a chunk of the head is a multiple of: whole tiles, and 64 bytes of logits. */
uint32_t tlm_head_granule(const tlm_model *model);

/* Runs job on the session's parts, or here when it has one. */
void tlm_session_run(const tlm_session *session, void (*job)(void *arg, uint32_t part, uint32_t parts), void *arg);

#endif
