/* What -fsanitize=thread calls at every load and store, without its run-time library: the 64-byte lines of the watched
 * ranges are counted, each once. */
#include <stdint.h>
#include <string.h>

enum { RANGES = 2, LINE = 64 };
static uintptr_t from[RANGES], to[RANGES];
static uint8_t seen[1 << 20];
static uint32_t ranges, lines;

void lines_watch(const void *base, uint32_t bytes);
void lines_reset(void);
uint32_t lines_count(void);

void lines_watch(const void *base, uint32_t bytes)
{
    if (ranges < RANGES) {
        from[ranges] = (uintptr_t)base;
        to[ranges++] = (uintptr_t)base + bytes;
    }
}

void lines_reset(void)
{
    memset(seen, 0, sizeof seen);
    lines = 0;
}

uint32_t lines_count(void)
{
    return lines;
}

static void touch(const void *p, uintptr_t bytes)
{
    const uintptr_t at = (uintptr_t)p;
    uintptr_t before = 0;
    for (uint32_t r = 0; r < ranges; r++) {
        if (at >= from[r] && at < to[r]) {
            for (uintptr_t line = (at - from[r]) / LINE; line <= (at + bytes - 1u - from[r]) / LINE; line++) {
                lines += seen[before + line] == 0;
                seen[before + line] = 1;
            }
        }
        before += (to[r] - from[r]) / LINE + 2u;
    }
}

#define LOAD(name, bytes)            \
    void __tsan_##name(void *p);     \
    void __tsan_##name(void *p)      \
    {                                \
        touch(p, bytes);             \
    }
LOAD(read1, 1)
LOAD(read2, 2)
LOAD(read4, 4)
LOAD(read8, 8)
LOAD(read16, 16)
LOAD(unaligned_read2, 2)
LOAD(unaligned_read4, 4)
LOAD(unaligned_read8, 8)
LOAD(unaligned_read16, 16)
LOAD(volatile_read4, 4)

#define NOTHING(name)                \
    void __tsan_##name(void *p);     \
    void __tsan_##name(void *p)      \
    {                                \
        (void)p;                     \
    }
NOTHING(write1)
NOTHING(write2)
NOTHING(write4)
NOTHING(write8)
NOTHING(write16)
NOTHING(unaligned_write2)
NOTHING(unaligned_write4)
NOTHING(unaligned_write8)
NOTHING(unaligned_write16)
NOTHING(volatile_write4)
NOTHING(func_entry)

void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}
void __tsan_init(void);
void __tsan_init(void)
{
}
void __tsan_read_range(void *p, uintptr_t bytes);
void __tsan_read_range(void *p, uintptr_t bytes)
{
    touch(p, bytes);
}
void __tsan_write_range(void *p, uintptr_t bytes);
void __tsan_write_range(void *p, uintptr_t bytes)
{
    (void)p;
    (void)bytes;
}
