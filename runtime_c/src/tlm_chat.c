/* CHAT and INFO sections: validation and access. */
#include <string.h>

#include "tlm_math.h"
#include "tlm_model.h"
#include "tlm_tok.h"

static bool is_utf8(const char *text, size_t bytes)
{
    const uint8_t *at = (const uint8_t *)text;
    for (size_t len; bytes != 0; at += len, bytes -= len) {
        if (tlm_utf8_next(at, bytes, &len) == TLM_BAD_UTF8) {
            return false;
        }
    }
    return true;
}

/* The rest of a section while it is read. */
typedef struct cursor {
    const uint8_t *at;
    size_t left;
} cursor;

static bool next_string(cursor *c, const char **text, size_t *bytes)
{
    if (c->left < 2u) {
        return false;
    }
    const size_t n = c->at[0] | (size_t)c->at[1] << 8; /* strings are not aligned */
    if (c->left - 2u < n) {
        return false;
    }
    *text = (const char *)c->at + 2;
    *bytes = n;
    c->at += n + 2u;
    c->left -= n + 2u;
    return true;
}

static const uint32_t *stop_ids(const tlm_chat_rec *chat)
{
    return (const void *)(chat + 1);
}

static cursor strings(const tlm_model *m)
{
    const size_t head = sizeof(tlm_chat_rec) + m->chat->n_stop_ids * sizeof(uint32_t);
    const cursor c = {m->section[TLM_SECTION_CHAT] + head, m->section_bytes[TLM_SECTION_CHAT] - head};
    return c;
}

tlm_err tlm_check_chat(tlm_model *m)
{
    const tlm_chat_rec *c = (const void *)m->section[TLM_SECTION_CHAT];
    const uint32_t bytes = m->section_bytes[TLM_SECTION_CHAT];
    tlm_sampling sampling;
    if (c == NULL) {
        return TLM_OK;
    }
    TLM_CHECK(TLM_ERR_FORMAT, bytes >= sizeof *c);
    TLM_CHECK(TLM_ERR_FORMAT, c->kind < TLM_CHAT_KIND_COUNT && c->add_bos <= 1u && c->reserved == 0);
    TLM_CHECK(TLM_ERR_FORMAT, c->n_stop_ids <= (bytes - sizeof *c) / sizeof(uint32_t));
    TLM_CHECK(TLM_ERR_FORMAT, c->n_strings >= TLM_CHAT_FIXED_STRINGS);
    TLM_CHECK(TLM_ERR_FORMAT, c->max_tokens >= 1u && c->max_tokens <= TLM_MAX_CONTEXT);
    TLM_CHECK(TLM_ERR_LIMIT, c->top_k <= TLM_MAX_CANDIDATES && c->repeat_window <= TLM_MAX_REPEAT);
    m->chat = c;
    tlm_sampling_default(&sampling, m);
    TLM_CHECK(TLM_ERR_FORMAT, tlm_sampling_valid(&sampling));
    for (uint32_t i = 0; i < c->n_stop_ids; i++) {
        TLM_CHECK(TLM_ERR_FORMAT, stop_ids(c)[i] < m->spec->vocab);
    }
    cursor rest = strings(m);
    for (uint32_t i = 0; i < c->n_strings; i++) {
        const char *text;
        size_t len;
        TLM_CHECK(TLM_ERR_FORMAT, next_string(&rest, &text, &len) && is_utf8(text, len));
        TLM_CHECK(TLM_ERR_FORMAT, i < TLM_CHAT_FIXED_STRINGS || len != 0); /* an empty stop string stops at once */
    }
    TLM_CHECK(TLM_ERR_FORMAT, rest.left == 0);
    return TLM_OK;
}

const char *tlm_chat_string(const tlm_model *m, uint32_t index, size_t *bytes)
{
    const char *text = NULL;
    if (m->chat == NULL || index >= m->chat->n_strings) {
        return NULL;
    }
    cursor rest = strings(m);
    for (uint32_t i = 0; i <= index; i++) {
        next_string(&rest, &text, bytes);
    }
    return text;
}

bool tlm_is_stop_id(const tlm_model *m, uint32_t id)
{
    for (uint32_t i = 0; m->chat != NULL && i < m->chat->n_stop_ids; i++) {
        if (stop_ids(m->chat)[i] == id) {
            return true;
        }
    }
    return false;
}

/* The next NUL-terminated string; NULL at the end of the section. */
static const char *next_line(cursor *c)
{
    const char *text = (const char *)c->at;
    const uint8_t *end = c->left == 0 ? NULL : memchr(c->at, 0, c->left);
    if (end == NULL) {
        return NULL;
    }
    c->left -= (size_t)(end + 1 - c->at);
    c->at = end + 1;
    return text;
}

static cursor info(const tlm_model *m)
{
    const cursor c = {m->section[TLM_SECTION_INFO], m->section_bytes[TLM_SECTION_INFO]};
    return c;
}

tlm_err tlm_check_info(const tlm_model *m)
{
    cursor rest = info(m);
    const char *last = "";
    while (rest.left != 0) {
        const char *key = next_line(&rest), *value = key == NULL ? NULL : next_line(&rest);
        TLM_CHECK(TLM_ERR_FORMAT, value != NULL && strcmp(last, key) < 0);
        TLM_CHECK(TLM_ERR_FORMAT, is_utf8(key, strlen(key)) && is_utf8(value, strlen(value)));
        last = key;
    }
    return TLM_OK;
}

const char *tlm_model_info(const tlm_model *m, const char *key)
{
    cursor rest = info(m);
    while (rest.left != 0) {
        const char *name = next_line(&rest);
        const char *value = next_line(&rest);
        if (strcmp(name, key) == 0) {
            return value;
        }
    }
    return NULL;
}
