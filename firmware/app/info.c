#include <string.h>

#include "app_parts.h"

/* Bytes of a text in info_is, and of the one that names whose work the model is: all eleven fit a frame. */
#define CLIP 127u
#define CLIP_CREDIT 383u

static proto_span clipped_to(const char *text, uint16_t limit)
{
    proto_span span = proto_text(text);
    if (span.len > limit) {
        span.len = limit;
        while (span.len > 0 && ((uint8_t)text[span.len] & 0xC0u) == 0x80u) /* not inside a character */
            span.len--;
    }
    return span;
}

static proto_span clipped(const char *text)
{
    return clipped_to(text, CLIP);
}

static proto_span fact(const app_t *app, const char *key)
{
    return clipped(app->chat.open ? tlm_model_info(&app->chat.model, key) : NULL);
}

void info_welcome(app_t *app, const proto_header *to)
{
    const proto_welcome m = {
        PROTO_VERSION_MAJOR,    PROTO_VERSION_MINOR, PROTO_MAX_PAYLOAD,  app->board->max_text,
        app->board->window,     app->model_state,    app->model_error,   app->selfcheck,
        app->chat.n_ids,        proto_text(APP_FIRMWARE), clipped(app->board->name), fact(app, "name"),
    };
    shell_send(app, to, PROTO_WELCOME, &m);
}

static void of_model(const app_t *app, proto_info_is *m)
{
    const chat *c = &app->chat;
    const tlm_header_rec *header = (const tlm_header_rec *)(const void *)c->model.blob;
    m->kernels = clipped(tlm_backend(&c->session));
    m->model_bytes = header->file_bytes;
    m->model_crc = header->crc32;
    m->vocab = c->model.spec->vocab;
    m->context = c->config.context;
    m->model_context = c->model.spec->context;
    m->position = c->n_ids;
    m->kv_type = chat_kv(&c->config);
    m->batch = (uint16_t)c->config.batch;
    m->batch_in_pages = c->config.batch_in_pages;
    m->head_rows = c->config.head_rows;
    m->head_mode = c->model.head != NULL;
    m->chat_kind = c->prompt.turns ? TLM_CHAT_KIND_TURNS : TLM_CHAT_KIND_STORY;
    m->memory_used = (uint32_t)c->memory_used;
}

void info_is(app_t *app, const proto_header *to)
{
    const board *b = app->board;
    board_facts facts;
    proto_info_is m;
    memset(&facts, 0, sizeof facts);
    memset(&m, 0, sizeof m);
    if (b->facts != NULL)
        b->facts(b->ctx, &facts);
    m.firmware = proto_text(APP_FIRMWARE);
    m.board = clipped(b->name);
    m.chip = clipped(facts.chip);
    m.model = fact(app, "name");
    m.arch = fact(app, "arch");
    m.licence = fact(app, "licence");
    m.attribution = clipped_to(app->chat.open ? tlm_model_info(&app->chat.model, "attribution") : NULL, CLIP_CREDIT);
    m.confidence = fact(app, "confidence");
    m.flash_mode = clipped(facts.flash_mode);
    m.warning = clipped(facts.warning);
    m.blob_major = TLM_VERSION_MAJOR;
    m.blob_minor = TLM_VERSION_MINOR;
    m.model_state = app->model_state;
    m.model_error = app->model_error;
    m.selfcheck = app->selfcheck | (facts.flash_slow ? (uint32_t)PROTO_CHECK_FLASH_MODE : 0u);
    m.threads = (uint8_t)(b->session.parallel.parts > 0 ? b->session.parallel.parts : 1u);
    m.cache_line = facts.cache_line;
    m.cpu_mhz = facts.cpu_mhz;
    m.heap_free = facts.heap_free;
    m.psram = facts.psram;
    m.slots = app->store.slots;
    m.slot = app->slot;
    m.slot_bytes = store_capacity(&app->store);
    m.benches = b->bench != NULL ? b->benches : 0;
    m.uptime_us = b->clock_us(b->ctx) - app->booted_us;
    for (uint32_t i = 0; i < b->n_pieces; i++)
        m.memory_total += (uint32_t)b->pieces[i].bytes;
    if (app->chat.open)
        of_model(app, &m);
    shell_send(app, to, PROTO_INFO_IS, &m);
}
