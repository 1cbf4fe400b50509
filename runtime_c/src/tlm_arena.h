/* Places a session's blocks in the caller's pieces of memory. */
#ifndef TLM_ARENA_H
#define TLM_ARENA_H

#include "tlm.h"

enum { TLM_ARENA_ALIGN = 64 };

typedef struct tlm_arena {
    uint8_t *at[TLM_MAX_PIECES]; /* smallest piece first */
    size_t left[TLM_MAX_PIECES];
    uint32_t n;
} tlm_arena;

/* Blocks that are not KV pages. */
enum { TLM_BLOCK_STATE, TLM_BLOCK_BATCH, TLM_BLOCK_REPACK, TLM_BLOCKS };

/* The pages that lie side by side in one piece. */
typedef struct tlm_page_run {
    uint8_t *base;
    uint32_t count;
} tlm_page_run;

/* false: no pieces, too many, or a NULL one that is not empty. */
bool tlm_arena_init(tlm_arena *arena, const tlm_mem *pieces, uint32_t n_pieces);

/* Largest block first, each into the smallest piece with room. at[] of an empty block is NULL. false: no room. */
bool tlm_arena_place(tlm_arena *arena, const tlm_need *need, uint8_t *at[TLM_BLOCKS],
                     tlm_page_run runs[TLM_MAX_PIECES]);

#endif
