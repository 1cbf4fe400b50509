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

static size_t work_bytes(const board *b)
{
    return round64(TLM_ENCODE_WORK(text_bytes(b)));
}

/* Of a row of ids, or of log-probabilities. */
static size_t row_bytes(uint32_t context)
{
    return round64((context + 1u) * 4u);
}

/* The words of a prompt and the tokenizer's work, or `lean`, without it; later the table of a grammar. */
static size_t text_block(const board *b, bool lean)
{
    const size_t text = text_bytes(b);
    return !lean ? text + work_bytes(b) : text > GRAMMAR_MAX ? text : GRAMMAR_MAX;
}

/* The tokenizer works in pages that hold nothing yet, where there are so many that the longest row of them, of at
 * most TLM_MAX_PIECES, is enough. */
static bool work_fits_pages(const board *b, const tlm_need *need)
{
    return need->page * need->pages >= TLM_MAX_PIECES * work_bytes(b);
}

static tlm_err set_context(tlm_config *config, const board *b, const tlm_model *model, uint32_t context)
{
    tlm_need need;
    config->context = context;
    memset(config->own, 0, sizeof config->own);
    const tlm_err err = tlm_session_need(model, config, &need);
    if (err != TLM_OK)
        return err;
    config->own[OWN_IDS] = config->own[OWN_LOGPROB] = row_bytes(context);
    config->own[OWN_TEXT] = text_block(b, work_fits_pages(b, &need));
    return TLM_OK;
}

void chat_work(chat *c)
{
    size_t bytes;
    while (c->work_in_pages) {
        c->sink.work = tlm_idle(&c->session, &bytes);
        if (bytes >= TLM_ENCODE_WORK(c->sink.text_cap))
            return;
        const uint32_t position = tlm_position(&c->session), kept = (position - 1u) / TLM_PAGE * TLM_PAGE;
        c->forgotten += position - kept;
        (void)tlm_rewind(&c->session, kept);
    }
}

static void carve(chat *c, const board *b)
{
    uint8_t *text = tlm_own(&c->session, OWN_TEXT);
    c->ids = tlm_own(&c->session, OWN_IDS);
    c->logprob = tlm_own(&c->session, OWN_LOGPROB);
    c->sink.text = (char *)text;
    c->sink.text_cap = text_bytes(b);
    c->sink.work = text + text_bytes(b);
    c->sink.model = &c->model;
    c->work_in_pages = c->config.own[OWN_TEXT] == text_block(b, true);
    chat_work(c);
}

static uint32_t least_context(const tlm_model *model)
{
    return model->spec->context < CHAT_MIN_CONTEXT ? model->spec->context : CHAT_MIN_CONTEXT;
}

static void set_kv(tlm_config *config, uint8_t kv)
{
    config->kv_type = (tlm_kv_type)(kv % PROTO_KV_SCALE);
    config->kv_groups = kv / PROTO_KV_SCALE + 1u;
}

/* The only thing that can be wrong with a session's config besides the memory it takes. */
static bool bad_groups(tlm_err err, const tlm_config *config)
{
    return err == TLM_ERR_ARG && config->kv_groups > 1u;
}

bool chat_takes(const chat *c, uint8_t kv)
{
    tlm_need need;
    tlm_config config = c->config;
    set_kv(&config, kv);
    return !bad_groups(tlm_session_need(&c->model, &config, &need), &config);
}

/* The largest context that fits, at most `context` (0: the model's own). */
static tlm_err largest_context(tlm_config *config, const board *b, const tlm_model *model, uint8_t kv, uint32_t context)
{
    const uint32_t least = least_context(model), most = model->spec->context;
    *config = b->session;
    set_kv(config, kv);
    context = context == 0 || context > most ? most : context;
    context = context > least ? context : least;
    for (;;) {
        tlm_err err = set_context(config, b, model, context);
        if (err == TLM_OK)
            err = tlm_session_fits(model, config, b->pieces, b->n_pieces);
        if (err != TLM_ERR_MEMORY || context == least)
            return err;
        const uint32_t fewer = (context - 1u) / TLM_PAGE * TLM_PAGE;
        context = fewer > least ? fewer : least;
    }
}

/* int4 costs a model little only if its export fitted every layer's keys to it. */
static bool made_for_i4(const tlm_model *model)
{
    for (uint32_t i = 0; i < model->spec->n_layers; i++) {
        if (model->layers[i].k_feedback == TLM_NO_TENSOR)
            return false;
    }
    return true;
}

static tlm_err choose_context(tlm_config *config, const board *b, const tlm_model *model, uint8_t kv, uint32_t context)
{
    if (kv != PROTO_AUTO)
        return largest_context(config, b, model, kv, context);
    const tlm_err err = largest_context(config, b, model, TLM_KV_I8, context);
    tlm_config i4;
    if (!made_for_i4(model) || largest_context(&i4, b, model, TLM_KV_I4, context) != TLM_OK)
        return err;
    if (err != TLM_OK || i4.context > config->context)
        *config = i4;
    return TLM_OK;
}

static size_t memory_of(const tlm_config *config, const tlm_model *model)
{
    tlm_need need;
    return tlm_session_need(model, config, &need) == TLM_OK ? need.total : 0;
}

static uint16_t open_error(tlm_err err, const void *blob, size_t bytes, uint32_t *detail)
{
    *detail = (uint32_t)err;
    if (err == TLM_ERR_VERSION && bytes >= sizeof(tlm_header_rec))
        *detail = ((const tlm_header_rec *)blob)->version_major;
    return chat_error(err);
}

uint16_t chat_open(chat *c, const board *b, const void *blob, size_t bytes, uint8_t kv, uint32_t context,
                   uint32_t *detail)
{
    chat_close(c);
    c->clock_us = b->clock_us;
    c->clock_ctx = b->ctx;
    tlm_err err = tlm_model_open(&c->model, blob, bytes);
    if (err != TLM_OK)
        return open_error(err, blob, bytes, detail);
    err = choose_context(&c->config, b, &c->model, kv, context);
    if (err == TLM_OK)
        err = tlm_session_init(&c->session, &c->model, &c->config, b->pieces, b->n_pieces);
    c->memory_used = memory_of(&c->config, &c->model);
    if (err != TLM_OK) {
        *detail = err == TLM_ERR_MEMORY ? (uint32_t)c->memory_used : (uint32_t)err;
        return bad_groups(err, &c->config) ? PROTO_ERROR_MODEL_KV : chat_error(err);
    }
    carve(c, b);
    prompt_parse(&c->prompt, &c->model, &c->sink);
    if (prompt_overhead(&c->prompt) > MAX_TEMPLATE) {
        *detail = MAX_TEMPLATE;
        return PROTO_ERROR_MODEL_TEMPLATE;
    }
    c->open = true;
    return PROTO_ERROR_NONE;
}

void chat_close(chat *c)
{
    memset(c, 0, sizeof *c);
}

uint16_t chat_fits(const board *b, const void *blob, size_t bytes, uint8_t kv, uint32_t *detail)
{
    tlm_model model;
    tlm_config config;
    tlm_err err = tlm_model_open(&model, blob, bytes);
    if (err != TLM_OK)
        return open_error(err, blob, bytes, detail);
    err = choose_context(&config, b, &model, kv, 1);
    if (bad_groups(err, &config))
        return PROTO_ERROR_MODEL_KV;
    if (err != TLM_OK && err != TLM_ERR_MEMORY)
        return open_error(err, blob, bytes, detail);
    *detail = (uint32_t)memory_of(&config, &model);
    return err == TLM_OK ? PROTO_ERROR_NONE : PROTO_ERROR_MODEL_MEMORY;
}
