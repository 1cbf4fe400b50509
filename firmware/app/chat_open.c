#include <string.h>

#include "chat.h"

#define MAX_TEMPLATE 128u /* bytes that a template may add to the words */

static size_t round64(size_t bytes)
{
    return (bytes + 63u) & ~(size_t)63u;
}

static size_t text_bytes(const board *b)
{
    return round64((size_t)b->max_text + MAX_TEMPLATE);
}

/* Bytes of the app's own buffers: ids and log-probabilities, text, the tokenizer's work. */
static size_t own_bytes(const board *b, uint32_t context)
{
    return round64((context + 1u) * 4u) * 2u + text_bytes(b) + round64(TLM_ENCODE_WORK(text_bytes(b)));
}

static void carve(chat *c, const board *b, uint8_t *at, uint32_t context)
{
    c->ids = (uint32_t *)(void *)at;
    at += round64((context + 1u) * 4u);
    c->logprob = (float *)(void *)at;
    at += round64((context + 1u) * 4u);
    c->sink.work = at;
    at += round64(TLM_ENCODE_WORK(text_bytes(b)));
    c->sink.text = (char *)at;
    c->sink.text_cap = text_bytes(b);
    c->sink.model = &c->model;
}

/* Tries to place the app's buffers at the end of piece `home` and the session in what is left. */
static tlm_err place(chat *c, const board *b, uint32_t home)
{
    tlm_mem *pieces = c->pieces;
    const size_t own = own_bytes(b, c->config.context);
    if (b->pieces[home].bytes < own)
        return TLM_ERR_MEMORY;
    memcpy(pieces, b->pieces, sizeof c->pieces);
    const size_t left = (pieces[home].bytes - own) & ~(size_t)63u;
    pieces[home].bytes = left;
    const tlm_err err = tlm_session_init(&c->session, &c->model, &c->config, pieces, b->n_pieces);
    if (err == TLM_OK)
        carve(c, b, (uint8_t *)pieces[home].base + left, c->config.context);
    return err;
}

static tlm_err place_anywhere(chat *c, const board *b)
{
    tlm_need need;
    size_t all = 0;
    for (uint32_t i = 0; i < b->n_pieces; i++)
        all += b->pieces[i].bytes;
    tlm_err err = tlm_session_need(&c->model, &c->config, &need);
    if (err != TLM_OK)
        return err;
    c->memory_used = need.total + own_bytes(b, c->config.context);
    if (c->memory_used > all)
        return TLM_ERR_MEMORY;
    err = TLM_ERR_MEMORY;
    for (uint32_t i = 0; i < b->n_pieces && err == TLM_ERR_MEMORY; i++)
        err = place(c, b, i);
    return err;
}

static void configure(tlm_config *config, const board *b, const tlm_model *model, tlm_kv_type kv, uint32_t context)
{
    *config = b->session;
    config->kv_type = kv;
    config->context = context == 0 || context > model->spec->context ? model->spec->context : context;
}

static uint32_t least_context(const tlm_model *model)
{
    return model->spec->context < CHAT_MIN_CONTEXT ? model->spec->context : CHAT_MIN_CONTEXT;
}

static uint16_t open_error(tlm_err err, const void *blob, size_t bytes, uint32_t *detail)
{
    *detail = (uint32_t)err;
    if (err == TLM_ERR_VERSION && bytes >= sizeof(tlm_header_rec))
        *detail = ((const tlm_header_rec *)blob)->version_major;
    return chat_error(err);
}

uint16_t chat_open(chat *c, const board *b, const void *blob, size_t bytes, tlm_kv_type kv, uint32_t context,
                   uint32_t *detail)
{
    chat_close(c);
    c->clock_us = b->clock_us;
    c->clock_ctx = b->ctx;
    tlm_err err = tlm_model_open(&c->model, blob, bytes);
    if (err != TLM_OK)
        return open_error(err, blob, bytes, detail);
    configure(&c->config, b, &c->model, kv, context);
    const uint32_t least = least_context(&c->model);
    if (c->config.context < least)
        c->config.context = least;
    for (;;) {
        err = place_anywhere(c, b);
        if (err != TLM_ERR_MEMORY || c->config.context == least)
            break;
        const uint32_t fewer = (c->config.context - 1u) / TLM_PAGE * TLM_PAGE;
        c->config.context = fewer > least ? fewer : least;
    }
    if (err != TLM_OK) {
        *detail = err == TLM_ERR_MEMORY ? (uint32_t)c->memory_used : (uint32_t)err;
        return chat_error(err);
    }
    prompt_parse(&c->prompt, &c->model, &c->sink);
    if (prompt_overhead(&c->prompt) > MAX_TEMPLATE) {
        *detail = MAX_TEMPLATE;
        return PROTO_ERROR_UNSUPPORTED;
    }
    c->open = true;
    return PROTO_ERROR_NONE;
}

void chat_close(chat *c)
{
    memset(c, 0, sizeof *c);
}

uint16_t chat_fits(const board *b, const void *blob, size_t bytes, tlm_kv_type kv, uint32_t *detail)
{
    tlm_model model;
    tlm_config config;
    tlm_need need;
    size_t all = 0, largest = 0;
    tlm_err err = tlm_model_open(&model, blob, bytes);
    if (err != TLM_OK)
        return open_error(err, blob, bytes, detail);
    configure(&config, b, &model, kv, least_context(&model));
    err = tlm_session_need(&model, &config, &need);
    if (err != TLM_OK)
        return open_error(err, blob, bytes, detail);
    for (uint32_t i = 0; i < b->n_pieces; i++) {
        all += b->pieces[i].bytes;
        largest = b->pieces[i].bytes > largest ? b->pieces[i].bytes : largest;
    }
    const size_t total = need.total + own_bytes(b, config.context);
    *detail = (uint32_t)total;
    const bool fits = total <= all && need.state <= largest && need.page <= largest && need.batch_scratch <= largest;
    return fits ? PROTO_ERROR_NONE : PROTO_ERROR_MODEL_MEMORY;
}
