/* Largest block first, smallest piece first. Sizes are multiples of TLM_ARENA_ALIGN. */
#include "tlm_arena.h"

#include <string.h>

/* In rising order of size. */
static void insert(tlm_arena *arena, uint8_t *base, size_t bytes)
{
    uint32_t n = arena->n++;
    for (; n > 0 && arena->left[n - 1u] > bytes; n--) {
        arena->at[n] = arena->at[n - 1u];
        arena->left[n] = arena->left[n - 1u];
    }
    arena->at[n] = base;
    arena->left[n] = bytes;
}

bool tlm_arena_init(tlm_arena *arena, const tlm_mem *pieces, uint32_t n)
{
    if (pieces == NULL || n < 1u || n > TLM_MAX_PIECES) {
        return false;
    }
    memset(arena, 0, sizeof *arena);
    for (uint32_t i = 0; i < n; i++) {
        const size_t skip = (size_t)(-(uintptr_t)pieces[i].base & (TLM_ARENA_ALIGN - 1u));
        if (pieces[i].base == NULL && pieces[i].bytes != 0) {
            return false;
        }
        if (pieces[i].bytes > skip) {
            insert(arena, (uint8_t *)pieces[i].base + skip, pieces[i].bytes - skip);
        }
    }
    return true;
}

static uint8_t *take(tlm_arena *arena, uint32_t piece, size_t bytes)
{
    uint8_t *p = arena->at[piece];
    arena->at[piece] += bytes;
    arena->left[piece] -= bytes;
    return p;
}

uint8_t *tlm_arena_take(tlm_arena *arena, size_t bytes)
{
    const size_t whole = (size_t)tlm_arena_round(bytes);
    uint32_t best = TLM_MAX_PIECES;
    for (uint32_t i = 0; i < arena->n; i++) {
        if (arena->left[i] >= whole && (best == TLM_MAX_PIECES || arena->left[i] < arena->left[best])) {
            best = i;
        }
    }
    return best == TLM_MAX_PIECES ? NULL : take(arena, best, whole);
}

size_t tlm_arena_largest(const tlm_arena *arena)
{
    size_t largest = 0;
    for (uint32_t i = 0; i < arena->n; i++) {
        largest = arena->left[i] > largest ? arena->left[i] : largest;
    }
    return largest & ~(size_t)(TLM_ARENA_ALIGN - 1u);
}

/* The blocks that are not placed yet and have at least `least` bytes. */
static bool place_blocks(tlm_arena *arena, const size_t bytes[TLM_BLOCKS], uint8_t *at[TLM_BLOCKS], size_t least)
{
    for (;;) {
        uint32_t best = TLM_BLOCKS;
        for (uint32_t i = 0; i < TLM_BLOCKS; i++) {
            const bool open = at[i] == NULL && bytes[i] != 0 && bytes[i] >= least;
            if (open && (best == TLM_BLOCKS || bytes[i] > bytes[best])) {
                best = i;
            }
        }
        if (best == TLM_BLOCKS) {
            return true;
        }
        at[best] = tlm_arena_take(arena, bytes[best]);
        if (at[best] == NULL) {
            return false;
        }
    }
}

/* As runs: the page table lies in a block that may not have its place yet. */
static bool place_pages(tlm_arena *arena, const tlm_need *need, tlm_page_run runs[TLM_MAX_PIECES])
{
    uint32_t missing = need->pages;
    for (uint32_t i = 0; i < arena->n && missing != 0; i++) {
        const size_t room = arena->left[i] / need->page;
        const uint32_t count = room < missing ? (uint32_t)room : missing;
        if (count != 0) {
            runs[i].base = take(arena, i, (size_t)count * need->page);
            runs[i].count = count;
            missing -= count;
        }
    }
    return missing == 0;
}

bool tlm_arena_place(tlm_arena *arena, const tlm_need *need, uint8_t *at[TLM_BLOCKS],
                     tlm_page_run runs[TLM_MAX_PIECES])
{
    size_t bytes[TLM_BLOCKS] = {need->state, need->batch_scratch, need->repack};
    memcpy(bytes + TLM_BLOCK_OWN, need->own, sizeof need->own);
    memset(at, 0, TLM_BLOCKS * sizeof *at);
    memset(runs, 0, TLM_MAX_PIECES * sizeof *runs);
    return place_blocks(arena, bytes, at, need->page) && place_pages(arena, need, runs) &&
           place_blocks(arena, bytes, at, 0);
}
