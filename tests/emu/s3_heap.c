/* s3_memory.c on a heap of three regions that, like ESP-IDF's, hands out blocks by the least size of their class. */
#include <stdio.h>
#include <stdlib.h>

#include "esp_heap_caps.h"
#include "s3.h"

#define RESERVE 18432u

typedef struct region {
    size_t bytes;
    uint32_t caps;
    uint8_t *memory;
    size_t used; /* of its front: the reserve, then one block */
} region;

static region regions[] = {
    {250844, MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT | MALLOC_CAP_DMA, NULL, 0},
    {32748, MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT | MALLOC_CAP_DMA, NULL, 0},
    {8128, MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT, NULL, 0}, /* too small */
    {1100004, MALLOC_CAP_SPIRAM | MALLOC_CAP_8BIT, NULL, 0},
};
#define REGIONS (sizeof regions / sizeof regions[0])

/* A class is a 32nd of the power of two below. */
static size_t class_of(size_t bytes)
{
    size_t power = 32;
    while (power * 2u <= bytes)
        power *= 2u;
    return power / 32u;
}

static size_t allowed(const region *r, uint32_t caps)
{
    const size_t left = r->bytes - r->used;
    return (r->caps & caps) == caps && left != 0 ? left / class_of(left) * class_of(left) : 0;
}

size_t heap_caps_get_largest_free_block(uint32_t caps)
{
    size_t most = 0;
    for (region *r = regions; r < regions + REGIONS; r++)
        most = allowed(r, caps) > most ? allowed(r, caps) : most;
    return most;
}

size_t heap_caps_get_total_size(uint32_t caps)
{
    return heap_caps_get_largest_free_block(caps);
}

void *heap_caps_malloc(size_t bytes, uint32_t caps)
{
    for (region *r = regions; r < regions + REGIONS; r++)
        if (allowed(r, caps) >= bytes) {
            void *at = r->memory + r->used;
            r->used += bytes;
            return at;
        }
    return NULL;
}

void *heap_caps_realloc(void *memory, size_t bytes, uint32_t caps)
{
    for (region *r = regions; r < regions + REGIONS; r++) {
        const uint8_t *const at = memory;
        if (at >= r->memory && at < r->memory + r->bytes && (r->caps & caps) == caps &&
            bytes <= (size_t)(r->memory + r->bytes - at)) {
            r->used = (size_t)(at - r->memory) + bytes;
            return memory;
        }
    }
    return NULL;
}

void heap_caps_free(void *memory)
{
    if (memory != regions[0].memory)
        exit(1); /* only the reserve is given back */
}

int main(void)
{
    tlm_mem pieces[TLM_MAX_PIECES];
    for (region *r = regions; r < regions + REGIONS; r++)
        r->memory = (uint8_t *)aligned_alloc(64, (r->bytes + 127u) / 64u * 64u) + 4; /* blocks are aligned to 4 */
    const uint32_t n = s3_memory_take(pieces, RESERVE);
    const size_t whole[] = {regions[0].bytes - RESERVE, regions[1].bytes, regions[3].bytes};
    if (n != 3)
        return 2;
    for (uint32_t i = 0; i < n; i++) {
        printf("%zu of %zu bytes\n", (size_t)pieces[i].bytes, whole[i]);
        if ((uintptr_t)pieces[i].base % 64u != 0 || pieces[i].bytes % 64u != 0)
            return 3;
        if (pieces[i].bytes > whole[i] || whole[i] - pieces[i].bytes >= 2u * 64u)
            return 4;
    }
    return 0;
}
