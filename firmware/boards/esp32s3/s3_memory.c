#include "esp_heap_caps.h"
#include "s3.h"

#define LEAST_PIECE 8192u
#define ALIGN 64u

/* The largest free block with these capabilities, or false. The heap gives it by the least size of its class, then lets
 * it grow into the rest. Nothing is in it yet, so it may move. */
static bool take_one(uint32_t caps, tlm_mem *piece)
{
    size_t bytes = heap_caps_get_largest_free_block(caps);
    uint8_t *at = NULL;
    while (bytes >= LEAST_PIECE && (at = heap_caps_malloc(bytes, caps)) == NULL)
        bytes -= ALIGN;
    if (at == NULL)
        return false;
    for (size_t more = bytes / 16u; more != 0; more /= 2u) {
        uint8_t *const grown = heap_caps_realloc(at, bytes + more, caps);
        at = grown != NULL ? grown : at;
        bytes += grown != NULL ? more : 0;
    }
    const size_t skip = (ALIGN - (uintptr_t)at % ALIGN) % ALIGN;
    piece->base = at + skip;
    piece->bytes = (bytes - skip) / ALIGN * ALIGN;
    return true;
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
