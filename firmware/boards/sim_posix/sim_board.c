#define _DEFAULT_SOURCE
#include "sim_board.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "twins_gen.h"

/* Boards that the desk can stand in for: what a session depends on. */
static const struct twin {
    const char *name;
    uint32_t pieces[TLM_MAX_PIECES];
    uint16_t max_text;
    uint32_t head_rows, parts;
    bool batch_in_pages;
} twins[] = SIM_TWINS_INIT;

#define DESK_MEMORY (192u << 20)

static const char *const kv_names[] = {"f32", "f16", "i8", "i4"};

void sim_options_default(sim_options *options)
{
    memset(options, 0, sizeof *options);
    options->head_rows = UINT32_MAX;
    options->slots = 2;
}

static void sim_reboot(void *ctx)
{
    sim_board *s = ctx;
    s->reboot_wanted = true;
}

static void sim_facts(void *ctx, board_facts *facts)
{
    const sim_board *s = ctx;
    facts->chip = "this computer";
    facts->flash_mode = s->models.bytes != NULL ? "emulated flash" : "file";
}

static uint64_t sim_random(void *ctx)
{
    sim_board *s = ctx;
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return s->random >> 11 ^ s->random << 31;
}

static const char *take_pieces(sim_board *s, const uint32_t *pieces)
{
    size_t total = 0;
    for (uint32_t i = 0; i < TLM_MAX_PIECES; i++)
        total += pieces[i];
    if (posix_memalign(&s->memory, 64, total) != 0)
        return "there is not enough memory";
    uint8_t *at = s->memory;
    for (uint32_t i = 0; i < TLM_MAX_PIECES && pieces[i] != 0; i++) {
        s->board.pieces[i].base = at;
        s->board.pieces[i].bytes = pieces[i];
        s->board.n_pieces = i + 1;
        at += pieces[i];
    }
    return NULL;
}

/* "i4", or "i4/2". */
static const char *choose_kv(board *b, const char *name)
{
    for (size_t i = 0; i < sizeof kv_names / sizeof kv_names[0]; i++) {
        const size_t n = strlen(kv_names[i]);
        if (strncmp(name, kv_names[i], n) != 0)
            continue;
        const char *rest = name + n;
        unsigned long groups = 1;
        if (*rest == '/' && i >= TLM_KV_I8 && rest[1] >= '1' && rest[1] <= '9') {
            char *end;
            groups = strtoul(rest + 1, &end, 10);
            rest = end;
        }
        if (*rest != 0 || groups > UINT8_MAX / PROTO_KV_SCALE)
            break;
        b->session.kv_type = (tlm_kv_type)i;
        b->session.kv_groups = (uint32_t)groups;
        return NULL;
    }
    return "--kv is one of f32, f16, i8, i4, or such as i4/2: 1 to 63 scales a position";
}

/* A board's cores, one after the other. */
static void run_in_turn(void *ctx, void (*job)(void *arg, uint32_t part, uint32_t parts), void *arg)
{
    const struct twin *twin = ctx;
    for (uint32_t part = 0; part < twin->parts; part++)
        job(arg, part, twin->parts);
}

/* The reference kernels: the state of a session has the size that it has on the board. */
static const char *be_like(board *b, const char *name, uint32_t *pieces)
{
    static char wrong[256];
    size_t at = 0;
    for (size_t i = 0; i < sizeof twins / sizeof twins[0]; i++) {
        if (strcmp(name, twins[i].name) == 0) {
            memcpy(pieces, twins[i].pieces, sizeof twins[i].pieces);
            b->max_text = twins[i].max_text;
            b->session.batch_in_pages = twins[i].batch_in_pages;
            b->session.head_rows = twins[i].head_rows;
            b->session.repack = false;
            b->session.pin = true;
            b->session.backend = "ref";
            b->session.parallel.run = run_in_turn;
            b->session.parallel.ctx = (void *)(uintptr_t)&twins[i];
            b->session.parallel.parts = twins[i].parts;
            return NULL;
        }
        at += (size_t)snprintf(wrong + at, sizeof wrong - at, "%s%s", at == 0 ? "--like knows " : ", ", twins[i].name);
    }
    return wrong;
}

const char *sim_board_init(sim_board *s, const sim_options *o)
{
    board *b = &s->board;
    uint32_t pieces[TLM_MAX_PIECES] = {DESK_MEMORY, 0, 0, 0};
    memset(s, 0, sizeof *s);
    s->random = 0x853c49e6748fea9bu;
    b->ctx = s;
    b->name = "sim_posix";
    b->max_text = 1900;
    b->window = 16384;
    b->random = sim_random;
    b->reboot = sim_reboot;
    b->facts = sim_facts;
    b->slots = o->slots;
    b->session.batch = TLM_MAX_BATCH;
    b->session.repack = true;
    const char *wrong = o->like != NULL ? be_like(b, o->like, pieces) : NULL;
    if (wrong == NULL && o->kv != NULL)
        wrong = choose_kv(b, o->kv);
    if (wrong != NULL)
        return wrong;
    b->session.context = o->context;
    if (o->batch != 0)
        b->session.batch = o->batch < TLM_MAX_BATCH ? o->batch : TLM_MAX_BATCH;
    if (o->head_rows != UINT32_MAX)
        b->session.head_rows = o->head_rows;
    if (o->memory != 0) {
        memset(pieces, 0, sizeof pieces);
        pieces[0] = o->memory & ~63u;
        b->session.repack = false;
    }
    if (o->backend != NULL)
        b->session.backend = o->backend;
    if (o->parallel != NULL)
        b->session.parallel = *o->parallel;
    return take_pieces(s, pieces);
}

void sim_board_free(sim_board *s)
{
    free(s->memory);
    s->memory = NULL;
}

void sim_board_flash(sim_board *s, uint8_t *bytes, uint32_t size)
{
    sim_flash_init(&s->models, bytes, size, SIM_SECTOR);
    sim_flash_init(&s->settings, bytes + size, SIM_SETTINGS_BYTES, SIM_SECTOR);
    s->board.models = &s->models.flash;
    s->board.settings = &s->settings.flash;
}
