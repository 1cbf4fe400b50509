/* A parallel NOR flash with the Intel command set, as QEMU's pflash_cfi01: programs through a buffer, erases sectors, and is
 * plain memory the rest of the time. NOR_WORD is the bus width; two chips side by side take a command each. */
#include <string.h>

#include "plat.h"

#ifndef NOR_WORD
#define NOR_WORD uint32_t
#endif
#define BOTH(command) ((NOR_WORD)((command) * ((NOR_WORD)-1 > 0xFFFFu ? 0x00010001u : 1u)))

enum { BUFFER = 0xE8, ERASE = 0x20, CONFIRM = 0xD0, READ_STATUS = 0x70, READ_ARRAY = 0xFF, CLEAR_STATUS = 0x50 };
#define LINE 1024u

enum { READY = 0x80, FAILED = 0x3A };

static volatile NOR_WORD *word_at(uint32_t offset)
{
    return (volatile NOR_WORD *)(void *)(plat_flash_base() + offset);
}

/* Waits for the chip, gives it back to reading. */
static bool finish(volatile NOR_WORD *at)
{
    NOR_WORD status;
    *at = BOTH(READ_STATUS);
    do
        status = *at;
    while ((status & READY) == 0);
    *at = BOTH(CLEAR_STATUS);
    *at = BOTH(READ_ARRAY);
    return (status & FAILED) == 0;
}

/* One buffer of the chip: at most LINE bytes that do not cross a multiple of LINE. */
static bool program(volatile NOR_WORD *at, const NOR_WORD *words, uint32_t n)
{
    *at = BOTH(BUFFER);
    while ((*at & READY) == 0) {
    }
    *at = BOTH(n - 1u);
    for (uint32_t i = 0; i < n; i++)
        at[i] = words[i];
    *at = BOTH(CONFIRM);
    return finish(at);
}

bool plat_flash_write(uint32_t offset, const void *data, uint32_t bytes)
{
    NOR_WORD words[LINE / sizeof(NOR_WORD)];
    while (bytes > 0) {
        const uint32_t room = LINE - offset % LINE, n = bytes < room ? bytes : room;
        volatile NOR_WORD *at = word_at(offset);
        memcpy(words, data, n);
        for (uint32_t i = 0; i < n / sizeof words[0]; i++)
            words[i] &= at[i]; /* the emulated chip would set bits, a real one can not */
        if (!program(at, words, n / (uint32_t)sizeof words[0]))
            return false;
        offset += n;
        bytes -= n;
        data = (const uint8_t *)data + n;
    }
    return true;
}

bool plat_flash_erase(uint32_t offset)
{
    volatile NOR_WORD *at = word_at(offset);
    *at = BOTH(ERASE);
    *at = BOTH(CONFIRM);
    return finish(at);
}
