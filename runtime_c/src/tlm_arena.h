/* Places a session's blocks in the caller's pieces of memory. */
#ifndef TLM_ARENA_H
#define TLM_ARENA_H

#include "tlm.h"

enum { TLM_ARENA_ALIGN = 64 };

static inline uint64_t tlm_arena_round(uint64_t bytes)
{
    return (bytes + (TLM_ARENA_ALIGN - 1u)) & ~(uint64_t)(TLM_ARENA_ALIGN - 1u);
}

typedef struct tlm_arena {
    uint8_t *at[TLM_MAX_PIECES]; /* smallest piece first */
    size_t left[TLM_MAX_PIECES];
    uint32_t n;
} tlm_arena;

/* Blocks that are not KV pages. */
enum { TLM_BLOCK_STATE, TLM_BLOCK_BATCH, TLM_BLOCK_REPACK, TLM_BLOCK_OWN, TLM_BLOCKS = TLM_BLOCK_OWN + TLM_OWN_BLOCKS };

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

/* Of what is left: a block in the smallest piece with room, or NULL; the bytes of the largest one. */
uint8_t *tlm_arena_take(tlm_arena *arena, size_t bytes);
size_t tlm_arena_largest(const tlm_arena *arena);

#endif
