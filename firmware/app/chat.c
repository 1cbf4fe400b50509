#include "chat.h"

#include <string.h>

uint16_t chat_error(tlm_err err)
{
    switch (err) {
    case TLM_OK:
        return PROTO_ERROR_NONE;
    case TLM_ERR_VERSION:
        return PROTO_ERROR_MODEL_VERSION;
    case TLM_ERR_MAGIC:
    case TLM_ERR_TRUNCATED:
    case TLM_ERR_CRC:
    case TLM_ERR_FORMAT:
    case TLM_ERR_LIMIT:
    case TLM_ERR_WEIGHTS:
        return PROTO_ERROR_MODEL_FORMAT;
    case TLM_ERR_MEMORY:
        return PROTO_ERROR_MODEL_MEMORY;
    case TLM_ERR_TOKEN:
        return PROTO_ERROR_TOKEN;
    case TLM_ERR_CONTEXT:
        return PROTO_ERROR_PROMPT_TOO_LONG;
    case TLM_ERR_NUMERIC:
        return PROTO_ERROR_NUMERIC;
    case TLM_ERR_TOKENIZER:
        return PROTO_ERROR_TEXT;
    default:
        return PROTO_ERROR_INTERNAL;
    }
}

static uint64_t now(const chat *c)
{
    return c->clock_us(c->clock_ctx);
}

/* ---- context --------------------------------------------------------------------------------------- */

static uint32_t base(const chat *c)
{
    return c->prompt.bos != TLM_NO_TOKEN ? 1u : 0u;
}

static void rewind_to(chat *c, uint32_t position)
{
    if (tlm_position(&c->session) > position)
        (void)tlm_rewind(&c->session, position);
}

static void clear(chat *c)
{
    rewind_to(c, 0);
    c->n_ids = c->n_exchanges = c->forgotten = 0;
    c->raw = false;
}

void chat_reset(chat *c)
{
    clear(c);
    c->any = c->replaying = false;
}

/* Drops the `k` oldest exchanges; all before the first kept one but BOS goes. */
static void drop(chat *c, uint32_t k)
{
    const uint32_t from = k < c->n_exchanges ? c->start[k] : c->n_ids;
    const uint32_t shift = from - base(c), position = tlm_position(&c->session) + c->forgotten;
    c->forgotten = 0;
    memmove(c->ids + base(c), c->ids + from, (c->n_ids - from) * sizeof c->ids[0]);
    c->n_ids -= shift;
    c->first -= shift;
    c->n_exchanges -= k;
    for (uint32_t i = 0; i < c->n_exchanges; i++)
        c->start[i] = c->start[i + k] - shift;
    rewind_to(c, base(c));
    c->done.dropped += k;
    c->done.reread_tokens += position > from ? position - from : 0;
}

/* How many of the oldest exchanges must go, of the first `limit`, for `extra` more tokens to leave the window
 * at most half full: much at once, so that it is rarely done. */
static uint32_t too_many(const chat *c, uint32_t limit, uint32_t extra)
{
    uint32_t k = 0;
    while (k < limit) {
        k++;
        const uint32_t from = k < c->n_exchanges ? c->start[k] : c->n_ids;
        if (base(c) + c->n_ids - from + extra <= c->config.context / 2u)
            break;
    }
    return k;
}

/* ---- begin ----------------------------------------------------------------------------------------- */

/* Ids of the request from ids[n_ids] on, after BOS where the context is empty; or, with `count_only`, how many. */
static uint16_t encode(chat *c, const chat_request *r, bool fresh, bool count_only, size_t *count)
{
    const bool turn = r->mode == PROTO_MODE_CHAT && c->prompt.turns;
    const size_t bos = fresh ? base(c) : 0;
    const uint32_t at = (fresh ? 0 : c->n_ids) + (uint32_t)bos;
    prompt_sink *sink = &c->sink;
    chat_work(c);
    sink->count = sink->lead = 0;
    sink->cap = count_only || at > c->config.context ? 0 : c->config.context - at;
    sink->ids = c->ids + (sink->cap > 0 ? at : 0);
    const tlm_err err = turn ? prompt_turn(&c->prompt, sink, r->text, r->bytes, fresh)
                             : prompt_raw(sink, r->text, r->bytes, (r->flags & PROTO_GENERATE_FLAG_SPECIAL) != 0);
    *count = bos + sink->count;
    if (err == TLM_ERR_OVERFLOW)
        return PROTO_ERROR_TOO_LONG;
    if (!count_only && bos > 0)
        c->ids[0] = c->prompt.bos;
    return chat_error(err);
}

/* Makes room for `count` tokens of a new turn and some of its reply. */
static void make_room_for(chat *c, size_t count, uint32_t max_tokens)
{
    const uint32_t quarter = c->config.context / 4u;
    const uint32_t reply = max_tokens != 0 && max_tokens < quarter ? max_tokens : quarter;
    if (c->n_exchanges == CHAT_MAX_EXCHANGES || c->n_ids + count + reply > c->config.context)
        drop(c, too_many(c, c->n_exchanges, (uint32_t)count));
}

static void open_reply(chat *c, bool stops)
{
    stops = stops && (c->flags & PROTO_GENERATE_FLAG_IGNORE_STOP) == 0 && c->grammar.table == NULL;
    reply_init(&c->reply, &c->model, stops, c->first > base(c));
}

static uint16_t start_sampler(chat *c, const chat_request *r)
{
    const tlm_err err = tlm_sampler_init(&c->sampler, &r->sampling);
    c->sampler.want_all_logprob = (r->flags & PROTO_GENERATE_FLAG_TRUE_LOGPROB) != 0;
    return err == TLM_OK ? PROTO_ERROR_NONE : PROTO_ERROR_BAD_MESSAGE;
}

/* A grammar alone says where its reply ends: stop strings do not cut it. */
static void start_grammar(chat *c, const chat_request *r)
{
    grammar_begin(&c->grammar, &c->model, r->grammar, r->grammar_bytes, c->sink.text, c->config.own[OWN_TEXT],
                  c->first > base(c), (r->flags & PROTO_GENERATE_FLAG_IGNORE_STOP) == 0);
    c->sampler.allowed = r->grammar_bytes > 0 ? grammar_allowed : NULL;
    c->sampler.allowed_ctx = &c->grammar;
}

static void start_reply(chat *c, const chat_request *r)
{
    c->flags = r->flags;
    c->max_tokens = r->max_tokens;
    c->first = c->n_ids;
    start_grammar(c, r);
    open_reply(c, true);
    c->n_tokens = 0;
    c->logprob_sum = 0.0f;
    c->busy = c->any = true;
    c->ending = c->replaying = false;
    if (tlm_position(&c->session) >= c->n_ids)
        rewind_to(c, c->n_ids - 1u);
    c->evaluate_from = tlm_position(&c->session);
    c->done.reread_tokens += c->forgotten;
    c->forgotten = 0;
    c->accepted.cached_tokens = c->done.cached_tokens = c->evaluate_from;
    c->accepted.prompt_tokens = c->done.prompt_tokens;
    c->accepted.dropped = c->done.dropped;
    c->accepted.reread_tokens = c->done.reread_tokens;
    c->accepted.seed = c->done.seed = r->sampling.seed;
}

uint16_t chat_begin(chat *c, const chat_request *r, uint32_t *detail)
{
    size_t count = 0;
    const uint64_t began = now(c);
    const bool turn = r->mode == PROTO_MODE_CHAT && c->prompt.turns;
    bool fresh = !turn || c->raw || c->n_exchanges == 0;
    uint16_t error = encode(c, r, fresh, true, &count);
    if (error == PROTO_ERROR_TOO_LONG)
        *detail = (uint32_t)(c->sink.text_cap - prompt_overhead(&c->prompt));
    else if (error == PROTO_ERROR_NONE && (count == 0 || base(c) + c->sink.count - c->sink.lead >= c->config.context)) {
        error = count == 0 ? PROTO_ERROR_TEXT : PROTO_ERROR_PROMPT_TOO_LONG;
        *detail = (uint32_t)count;
    }
    if (error == PROTO_ERROR_NONE && r->grammar_bytes > 0 && !grammar_valid(r->grammar, r->grammar_bytes))
        error = PROTO_ERROR_GRAMMAR;
    if (error == PROTO_ERROR_NONE)
        error = start_sampler(c, r);
    if (error != PROTO_ERROR_NONE)
        return error;
    memset(&c->done, 0, sizeof c->done);
    c->began_us = began;
    if (fresh)
        clear(c);
    else
        make_room_for(c, count, r->max_tokens);
    fresh = fresh || c->n_exchanges == 0;
    if (fresh)
        c->n_ids = 0;
    error = encode(c, r, fresh, false, &count);
    if (error != PROTO_ERROR_NONE)
        return error;
    if (turn)
        c->start[c->n_exchanges++] = c->n_ids + (uint32_t)c->sink.lead + (fresh ? base(c) : 0);
    c->raw = !turn;
    c->n_ids += (uint32_t)count;
    c->done.prompt_tokens = (uint32_t)count;
    start_reply(c, r);
    return PROTO_ERROR_NONE;
}

/* ---- step ------------------------------------------------------------------------------------------ */

/* Forgets the tokens that reach past byte `end` of the reply: a stop string is no part of the conversation. */
static void trim(chat *c, uint32_t end)
{
    uint32_t kept = 0;
    bool stopped;
    open_reply(c, false);
    while (kept < c->n_tokens && reply_add(&c->reply, c->ids[c->first + kept], &stopped) == TLM_OK &&
           c->reply.total + c->reply.held <= end)
        kept++;
    c->n_ids = c->first + kept;
    rewind_to(c, c->n_ids);
}

static chat_event finish(chat *c)
{
    proto_done *d = &c->done;
    const uint64_t end = now(c);
    reply_end(&c->reply);
    d->text.data = c->reply.text;
    d->text.len = (uint16_t)c->reply.given;
    d->reason = c->ending_reason;
    d->error = c->ending_error;
    d->tokens = c->n_tokens;
    d->text_crc = c->reply.crc;
    d->context = c->config.context;
    d->decode_us = c->n_tokens > 0 ? (uint32_t)(end - c->first_us) : 0;
    d->logprob_mean = c->n_tokens > 0 ? c->logprob_sum / (float)c->n_tokens : 0.0f;
    c->busy = c->ending = false;
    if (d->reason == PROTO_REASON_STOP_STRING)
        trim(c, c->reply.total);
    if (c->n_ids > c->config.context) /* the last token was drawn, but there is no place for it */
        c->n_ids = c->config.context;
    d->position = c->n_ids;
    return CHAT_DONE;
}

static void end_with(chat *c, uint8_t reason, uint16_t error)
{
    if (c->ending)
        return;
    c->ending = true;
    c->ending_reason = reason;
    c->ending_error = error;
}

void chat_end(chat *c, uint8_t reason, uint16_t error)
{
    if (c->busy)
        end_with(c, reason, error);
}

static tlm_err evaluate(chat *c)
{
    const uint32_t at = tlm_position(&c->session), batch = tlm_next_batch(&c->session);
    const uint32_t left = c->n_ids - at, n = left < batch ? left : batch;
    const tlm_sink sink = tlm_sampler_sink(&c->sampler);
    return tlm_eval(&c->session, c->ids + at, n, NULL, n == left ? &sink : NULL);
}

static chat_event step_progress(chat *c)
{
    c->progress.at = tlm_position(&c->session) - c->evaluate_from;
    c->progress.of = c->n_ids - c->evaluate_from;
    return CHAT_PROGRESS;
}

static chat_event token_event(chat *c, uint32_t index, const tlm_choice *choice)
{
    proto_token *t = &c->token;
    t->index = index;
    t->id = choice->id;
    t->flags = PROTO_TOKEN_FLAG_OVER_CANDIDATES | (c->reply.held > 0 ? PROTO_TOKEN_FLAG_HELD : 0u);
    t->logprob = choice->logprob;
    t->logprob_all = choice->logprob_all;
    t->text.data = c->reply.text;
    t->text.len = (uint16_t)c->reply.given;
    return CHAT_TOKEN;
}

static void first_token(chat *c)
{
    c->first_us = now(c);
    c->done.prefill_us = c->done.first_token_us = (uint32_t)(c->first_us - c->began_us);
}

static chat_event step_sample(chat *c)
{
    tlm_choice choice;
    bool stopped = false;
    if (c->n_tokens == 0)
        first_token(c);
    tlm_err err = tlm_sample(&c->sampler, &choice);
    if (err == TLM_OK && (c->flags & PROTO_GENERATE_FLAG_IGNORE_STOP) == 0 && tlm_is_stop_id(&c->model, choice.id)) {
        end_with(c, PROTO_REASON_STOP_ID, 0);
        return finish(c);
    }
    if (err == TLM_OK)
        err = reply_add(&c->reply, choice.id, &stopped);
    if (err != TLM_OK) { /* without candidates: no token of this vocabulary may stand here */
        end_with(c, PROTO_REASON_ERROR, err == TLM_ERR_ARG && c->grammar.table ? PROTO_ERROR_GRAMMAR : chat_error(err));
        return finish(c);
    }
    c->ids[c->n_ids++] = choice.id;
    c->logprob[c->n_tokens] = choice.logprob;
    c->logprob_sum += choice.logprob;
    if (c->n_tokens == 0 || choice.logprob < c->done.logprob_min)
        c->done.logprob_min = choice.logprob;
    c->n_tokens++;
    if (stopped)
        end_with(c, PROTO_REASON_STOP_STRING, 0);
    else if (c->grammar.table != NULL && grammar_take(&c->grammar, choice.id))
        end_with(c, PROTO_REASON_GRAMMAR, 0);
    else if (c->n_tokens == c->max_tokens)
        end_with(c, PROTO_REASON_LENGTH, 0);
    const chat_event event = token_event(c, c->n_tokens - 1u, &choice);
    if (c->sampler.want_all_logprob)
        c->token.flags |= PROTO_TOKEN_FLAG_TRUE_LOGPROB;
    return event;
}

/* The tokens before `replay_from` pass silently; the decoder's state needs them. */
static chat_event step_replay(chat *c)
{
    bool stopped;
    while (c->replay_at < c->n_tokens) {
        const uint32_t index = c->replay_at++;
        const tlm_choice choice = {c->ids[c->first + index], c->logprob[index], 0.0f, 0};
        (void)reply_add(&c->reply, choice.id, &stopped);
        if (index >= c->replay_from)
            return token_event(c, index, &choice);
    }
    c->replaying = false;
    if (c->busy)
        return CHAT_NOTHING;
    reply_end(&c->reply);
    c->done.text.data = c->reply.text;
    c->done.text.len = (uint16_t)c->reply.given;
    return CHAT_DONE;
}

bool chat_resend(chat *c, uint32_t from)
{
    if (!c->open || !c->any)
        return false;
    open_reply(c, true);
    c->replay_at = 0;
    c->replay_from = from;
    c->replaying = true;
    return true;
}

/* In the middle of a reply: all but the exchange under way may go. */
static bool make_room(chat *c)
{
    if (c->n_exchanges < 2)
        return false;
    drop(c, too_many(c, c->n_exchanges - 1u, 0));
    c->evaluate_from = tlm_position(&c->session);
    return true;
}

chat_event chat_step(chat *c)
{
    if (c->replaying)
        return step_replay(c);
    if (!c->busy)
        return CHAT_NOTHING;
    if (c->ending)
        return finish(c);
    if (c->n_ids > c->config.context && !make_room(c)) {
        end_with(c, PROTO_REASON_CONTEXT, 0);
        return finish(c);
    }
    if (tlm_position(&c->session) < c->n_ids) {
        const tlm_err err = evaluate(c);
        if (err != TLM_OK) {
            end_with(c, PROTO_REASON_ERROR, chat_error(err));
            return finish(c);
        }
        if (tlm_position(&c->session) < c->n_ids)
            return step_progress(c);
    }
    return step_sample(c);
}
