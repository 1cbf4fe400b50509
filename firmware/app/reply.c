#include "reply.h"

#include <string.h>

#include "frame.h"

void reply_init(reply_text *r, const tlm_model *model, bool stops, bool continues)
{
    r->model = model;
    tlm_decoder_init(&r->decoder, true);
    r->decoder.started = continues;
    r->stops = stops;
    r->held = r->given = 0;
    r->total = r->crc = 0;
}

static const char *stop_string(const reply_text *r, uint32_t i, size_t *bytes)
{
    const char *stop = r->stops ? tlm_chat_string(r->model, TLM_CHAT_STOP + i, bytes) : NULL;
    return stop;
}

/* The place of the earliest complete stop string in what is held, or `held`. */
static size_t find_stop(const reply_text *r, bool *found)
{
    size_t best = r->held, bytes;
    const char *stop;
    *found = false;
    for (uint32_t i = 0; (stop = stop_string(r, i, &bytes)) != NULL; i++) {
        if (bytes == 0 || bytes > REPLY_MAX_STOP)
            continue;
        for (size_t at = 0; at < best && at + bytes <= r->held; at++)
            if (memcmp(r->text + at, stop, bytes) == 0) {
                best = at;
                *found = true;
            }
    }
    return best;
}

/* True when `tail` bytes are the beginning of a stop string. */
static bool may_stop(const reply_text *r, const char *text, size_t tail)
{
    size_t bytes;
    const char *stop;
    for (uint32_t i = 0; (stop = stop_string(r, i, &bytes)) != NULL; i++)
        if (tail < bytes && bytes <= REPLY_MAX_STOP && memcmp(text, stop, tail) == 0)
            return true;
    return false;
}

static void release(reply_text *r, size_t bytes)
{
    r->given = bytes;
    r->held -= bytes;
    r->total += (uint32_t)bytes;
    r->crc = app_crc32(r->crc, r->text, bytes);
}

static void forget_given(reply_text *r)
{
    memmove(r->text, r->text + r->given, r->held);
    r->given = 0;
}

tlm_err reply_add(reply_text *r, uint32_t id, bool *stopped)
{
    size_t bytes = 0;
    forget_given(r);
    *stopped = false;
    const tlm_err err = tlm_decode(&r->decoder, r->model, id, r->text + r->held, sizeof r->text - r->held, &bytes);
    if (err != TLM_OK)
        return err;
    r->held += bytes;
    size_t free_bytes = find_stop(r, stopped);
    if (*stopped) {
        release(r, free_bytes);
        r->held = 0;
        tlm_decoder_init(&r->decoder, true);
        return TLM_OK;
    }
    const size_t longest = r->held < REPLY_MAX_STOP ? r->held : REPLY_MAX_STOP - 1u;
    for (size_t tail = longest; tail > 0; tail--)
        if (may_stop(r, r->text + r->held - tail, tail)) {
            free_bytes = r->held - tail;
            break;
        }
    release(r, free_bytes);
    return TLM_OK;
}

void reply_end(reply_text *r)
{
    forget_given(r);
    r->held += tlm_decode_end(&r->decoder, r->text + r->held, sizeof r->text - r->held);
    release(r, r->held);
}
