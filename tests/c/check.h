/* What the C tests share: a check that names itself, random numbers, memory with guards. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(ok)                                                          \
    do {                                                                   \
        if (!(ok)) {                                                       \
            printf("FAIL %s:%d: %s\n", __FILE__, __LINE__, #ok);           \
            exit(1);                                                       \
        }                                                                  \
    } while (0)

static inline uint32_t rnd(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 32);
}

/* Exactly `bytes` bytes, 64-aligned, filled with 0xa5: a sanitizer sees the first byte beyond. */
static inline void *guarded(size_t bytes)
{
    void *p = NULL;
    CHECK(posix_memalign(&p, 64, bytes == 0 ? 1 : bytes) == 0);
    memset(p, 0xa5, bytes);
    return p;
}

/* A whole file, 64-aligned. */
static inline uint8_t *read_file(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL && fseek(f, 0, SEEK_END) == 0);
    *bytes = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = guarded(*bytes);
    CHECK(fread(data, 1, *bytes, f) == *bytes);
    fclose(f);
    return data;
}

#endif
