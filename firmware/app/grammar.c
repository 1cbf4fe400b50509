#include "grammar.h"

#include <string.h>

#define ACCEPT 0x80u
#define CHAIN 0x40u
#define EDGES 0x3Fu
#define EDGE_BYTES 4u
#define DEAD 0u /* no state: the version byte lies there */

/* ---- the table ------------------------------------------------------------------------------------- */

static size_t state_bytes(uint8_t head)
{
    return (head & CHAIN) != 0 ? 2u : 1u + EDGE_BYTES * (head & EDGES);
}

static uint16_t target_of(const uint8_t *edge)
{
    return (uint16_t)(edge[2] | edge[3] << 8);
}

/* Marks where states begin. False: the states do not fill the table. */
static bool find_states(const uint8_t *table, size_t bytes, uint8_t *starts)
{
    size_t at = 1;
    while (at < bytes) {
        starts[at / 8u] = (uint8_t)(starts[at / 8u] | 1u << at % 8u);
        at += state_bytes(table[at]);
    }
    return at == bytes && bytes > 1;
}

static bool is_start(const uint8_t *starts, size_t at, size_t bytes)
{
    return at < bytes && ((uint32_t)starts[at / 8u] >> at % 8u & 1u) != 0;
}

static bool edges_valid(const uint8_t *table, size_t at, size_t bytes, const uint8_t *starts)
{
    int32_t before = -1;
    for (uint32_t i = 0; i < (table[at] & EDGES); i++) {
        const uint8_t *edge = table + at + 1u + EDGE_BYTES * i;
        if (edge[0] <= before || edge[1] < edge[0] || !is_start(starts, target_of(edge), bytes))
            return false;
        before = edge[1];
    }
    return true;
}

bool grammar_valid(const uint8_t *table, size_t bytes)
{
    uint8_t starts[GRAMMAR_MAX / 8u];
    memset(starts, 0, sizeof starts);
    if (bytes < 2 || bytes > GRAMMAR_MAX || table[0] != GRAMMAR_VERSION || !find_states(table, bytes, starts))
        return false;
    for (size_t at = 1; at < bytes; at += state_bytes(table[at])) {
        if ((table[at] & CHAIN) != 0 ? (table[at] & EDGES) != 0 || !is_start(starts, at + 2u, bytes)
                                     : !edges_valid(table, at, bytes, starts))
            return false;
    }
    return true;
}

static uint16_t step(const void *ctx, uint16_t state, uint8_t byte)
{
    const uint8_t *table = ctx, head = table[state];
    if ((head & CHAIN) != 0)
        return table[state + 1u] == byte ? (uint16_t)(state + 2u) : (uint16_t)DEAD;
    const uint8_t *edge = table + state + 1u;
    for (uint32_t n = head & EDGES; n > 0 && edge[0] <= byte; n--, edge += EDGE_BYTES)
        if (byte <= edge[1])
            return target_of(edge);
    return DEAD;
}

/* ---- tokens ---------------------------------------------------------------------------------------- */

void grammar_begin(grammar *g, const tlm_model *model, const void *table, size_t bytes, void *work, size_t cap,
                   bool continues, bool stops)
{
    if (bytes > 0)
        memcpy(work, table, bytes);
    g->table = bytes > 0 ? work : NULL;
    g->stops = stops;
    tlm_walk_init(&g->walk, model, step, g->table, 1, continues, (uint8_t *)work + bytes, cap - bytes);
}

bool grammar_allowed(void *ctx, uint32_t id)
{
    grammar *g = ctx;
    if (g->stops && tlm_is_stop_id(g->walk.model, id))
        return (g->table[g->walk.state] & ACCEPT) != 0;
    return tlm_walk_allows(&g->walk, id);
}

bool grammar_take(grammar *g, uint32_t id)
{
    return g->table[tlm_walk_take(&g->walk, id)] == ACCEPT; /* no edge, no chain */
}
