/* The stand-in for the assembly with a list of its calls. Its code, and that of the reference kernels it calls (copies under
 * other names), is not counted. */
#include <stdint.h>

static void called(const char *name, uint32_t a, uint32_t b, uint32_t c);
#define CALLED called
#define POISON(p, bytes) ((void)(p), (void)(bytes))
#include "pie_stub.c"

enum { CALLS = 256 };
static struct {
    const char *name;
    uint32_t args[3], times;
} calls[CALLS];

static void called(const char *name, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t i = 0;
    while (i < CALLS && calls[i].name != NULL &&
           (calls[i].name != name || calls[i].args[0] != a || calls[i].args[1] != b || calls[i].args[2] != c)) {
        i++;
    }
    need(i < CALLS, "room for the list");
    calls[i].name = name;
    calls[i].args[0] = a;
    calls[i].args[1] = b;
    calls[i].args[2] = c;
    calls[i].times++;
}

static void put(const char *text)
{
    volatile uint8_t *const uart = (volatile uint8_t *)0x10000000;
    for (; *text != 0; text++) {
        *uart = (uint8_t)*text;
    }
}

static void put_number(uint32_t v)
{
    char text[12], *at = text + sizeof text - 1;
    *at = 0;
    do {
        *--at = (char)('0' + v % 10u);
    } while ((v /= 10u) != 0);
    put(" ");
    put(at);
}

/* A line a shape, an empty one, and the list is empty again. */
void calls_out(void)
{
    for (uint32_t i = 0; i < CALLS && calls[i].name != NULL; i++) {
        put(calls[i].name);
        for (uint32_t k = 0; k < 3u; k++) {
            put_number(calls[i].args[k]);
        }
        put_number(calls[i].times);
        put("\n");
        calls[i].name = NULL;
        calls[i].times = 0;
    }
    put("\n");
}
