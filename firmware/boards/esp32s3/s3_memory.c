#include "esp_heap_caps.h"
#include "s3.h"

#define LEAST_PIECE 8192u
#define ALIGN 64u

/* The largest free block with these capabilities, or false. Finding room for the alignment may take a few tries. */
static bool take_one(uint32_t caps, tlm_mem *piece)
{
    for (size_t bytes = heap_caps_get_largest_free_block(caps) & ~(size_t)(ALIGN - 1u); bytes >= LEAST_PIECE;
         bytes -= ALIGN) {
        piece->base = heap_caps_aligned_alloc(ALIGN, bytes, caps);
        piece->bytes = bytes;
        if (piece->base != NULL)
            return true;
    }
    return false;
}

/* PSRAM keeps one place: it is the largest piece, so a session fills it last. */
uint32_t s3_memory_take(tlm_mem pieces[TLM_MAX_PIECES], uint32_t reserve)
{
    const uint32_t internal = MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT, outside = MALLOC_CAP_SPIRAM | MALLOC_CAP_8BIT;
    const bool psram = heap_caps_get_total_size(outside) != 0;
    void *kept = heap_caps_malloc(reserve, internal | MALLOC_CAP_DMA);
    uint32_t n = 0;
    while (n < TLM_MAX_PIECES - (psram ? 1u : 0u) && take_one(internal, &pieces[n]))
        n++;
    if (psram && take_one(outside, &pieces[n]))
        n++;
    heap_caps_free(kept);
    return n;
}
