#include "prompt.h"

#include <string.h>

#define MAX_SPECIAL 64u /* bytes of a special token in a template */

static tlm_err append(prompt_sink *sink, const char *text, size_t bytes, uint32_t flags)
{
    size_t n = 0;
    const size_t used = sink->count < sink->cap ? sink->count : sink->cap;
    if (bytes == 0)
        return TLM_OK;
    const tlm_err err = tlm_encode(sink->model, text, bytes, flags, sink->work, sink->ids + used, sink->cap - used, &n);
    sink->count += n;
    return err == TLM_ERR_OVERFLOW ? TLM_OK : err;
}

/* Length of the special token that `text` begins with, or 0. A piece is special when its own text gives its id
 * only where special tokens are matched. */
static size_t special_at(prompt_sink *sink, const char *text, size_t bytes)
{
    uint32_t id, plain;
    char piece[TLM_MAX_PIECE];
    size_t n, len;
    if (bytes > MAX_SPECIAL)
        bytes = MAX_SPECIAL;
    tlm_err err = tlm_encode(sink->model, text, bytes, TLM_ENCODE_SPECIAL | TLM_ENCODE_CONTINUE, sink->work, &id, 1, &n);
    if ((err != TLM_OK && err != TLM_ERR_OVERFLOW) || n == 0)
        return 0;
    if (tlm_piece(sink->model, id, piece, sizeof piece, &len) != TLM_OK || len == 0 || len > bytes ||
        memcmp(piece, text, len) != 0)
        return 0;
    err = tlm_encode(sink->model, text, len, TLM_ENCODE_CONTINUE, sink->work, &plain, 1, &n);
    return err == TLM_OK && n == 1 && plain == id ? 0 : (err == TLM_OK || err == TLM_ERR_OVERFLOW ? len : 0);
}

static prompt_part part_of(const tlm_model *model, uint32_t index)
{
    prompt_part p = {NULL, 0};
    p.text = tlm_chat_string(model, index, &p.bytes);
    if (p.text == NULL)
        p.bytes = 0;
    return p;
}

/* Cuts `whole` after its last special token, or before its first. */
static void cut(prompt_sink *sink, prompt_part whole, bool after_last, prompt_part *head, prompt_part *tail)
{
    size_t at = after_last ? 0 : whole.bytes;
    for (size_t i = 0; i < whole.bytes;) {
        const size_t len = special_at(sink, whole.text + i, whole.bytes - i);
        if (len == 0) {
            i++;
            continue;
        }
        at = after_last ? i + len : i;
        if (!after_last)
            break;
        i += len;
    }
    head->text = whole.text;
    head->bytes = at;
    tail->text = whole.text == NULL ? NULL : whole.text + at;
    tail->bytes = whole.bytes - at;
}

void prompt_parse(prompt_template *t, const tlm_model *model, prompt_sink *sink)
{
    memset(t, 0, sizeof *t);
    t->bos = model->chat != NULL && model->chat->add_bos ? tlm_bos(model) : TLM_NO_TOKEN;
    t->turns = model->chat != NULL && model->chat->kind == TLM_CHAT_KIND_TURNS;
    if (!t->turns)
        return;
    t->turn_end = part_of(model, TLM_CHAT_TURN_END);
    cut(sink, part_of(model, TLM_CHAT_USER_PREFIX), true, &t->before_special, &t->before);
    cut(sink, part_of(model, TLM_CHAT_REPLY_PREFIX), false, &t->after, &t->after_special);
}

size_t prompt_overhead(const prompt_template *t)
{
    return t->before.bytes + t->after.bytes;
}

tlm_err prompt_turn(const prompt_template *t, prompt_sink *sink, const void *words, size_t bytes, bool first)
{
    if (prompt_overhead(t) + bytes > sink->text_cap)
        return TLM_ERR_OVERFLOW;
    char *end = sink->text;
    memcpy(end, t->before.text, t->before.bytes);
    end += t->before.bytes;
    memcpy(end, words, bytes);
    end += bytes;
    memcpy(end, t->after.text, t->after.bytes);
    end += t->after.bytes;
    const uint32_t start = first ? 0u : TLM_ENCODE_CONTINUE;
    tlm_err err = first ? TLM_OK : append(sink, t->turn_end.text, t->turn_end.bytes, start | TLM_ENCODE_SPECIAL);
    sink->lead = sink->count;
    if (err == TLM_OK)
        err = append(sink, t->before_special.text, t->before_special.bytes, start | TLM_ENCODE_SPECIAL);
    if (err == TLM_OK)
        err = append(sink, sink->text, (size_t)(end - sink->text), t->before_special.bytes > 0 ? TLM_ENCODE_CONTINUE : start);
    if (err == TLM_OK)
        err = append(sink, t->after_special.text, t->after_special.bytes, TLM_ENCODE_CONTINUE | TLM_ENCODE_SPECIAL);
    return err;
}

tlm_err prompt_raw(prompt_sink *sink, const void *text, size_t bytes, bool special)
{
    return append(sink, text, bytes, special ? TLM_ENCODE_SPECIAL : 0u);
}
