#include "settings.h"

#include <float.h>
#include <string.h>

#include "frame.h"

#define RECORD_MAGIC 0x31534c54u /* "TLS1" */
#define RECORD_BYTES 64u
#define NO_RECORD 0xFFFFFFFFu

/* One record: fixed words, so that a later version may append without moving any. */
typedef struct record {
    uint32_t magic, sequence, mask;
    float temperature;
    uint32_t top_k;
    float top_p, min_p, repeat_penalty;
    uint32_t repeat_window, max_tokens, context;
    uint8_t mode, kv_type, brightness, echo;
    uint32_t reserved[3];
    uint32_t crc;
} record;
typedef char record_size[sizeof(record) == RECORD_BYTES ? 1 : -1];

static void pack(record *r, const proto_settings *v, uint32_t sequence)
{
    memset(r, 0, sizeof *r);
    r->magic = RECORD_MAGIC;
    r->sequence = sequence;
    r->mask = v->mask;
    r->temperature = v->temperature;
    r->top_k = v->top_k;
    r->top_p = v->top_p;
    r->min_p = v->min_p;
    r->repeat_penalty = v->repeat_penalty;
    r->repeat_window = v->repeat_window;
    r->max_tokens = v->max_tokens;
    r->context = v->context;
    r->mode = v->mode;
    r->kv_type = v->kv_type;
    r->brightness = v->brightness;
    r->echo = v->echo;
    r->crc = app_crc32(0, r, sizeof *r - 4u);
}

static void unpack(proto_settings *v, const record *r)
{
    v->mask = r->mask;
    v->temperature = r->temperature;
    v->top_k = r->top_k;
    v->top_p = r->top_p;
    v->min_p = r->min_p;
    v->repeat_penalty = r->repeat_penalty;
    v->repeat_window = r->repeat_window;
    v->max_tokens = r->max_tokens;
    v->context = r->context;
    v->mode = r->mode;
    v->kv_type = r->kv_type;
    v->brightness = r->brightness;
    v->echo = r->echo;
}

static bool erased(const record *r)
{
    const uint8_t *p = (const uint8_t *)r;
    for (size_t i = 0; i < sizeof *r; i++)
        if (p[i] != 0xFF)
            return false;
    return true;
}

static bool good(const record *r)
{
    return r->magic == RECORD_MAGIC && r->crc == app_crc32(0, r, sizeof *r - 4u);
}

/* The first erased record of the sector from `at` on, or NO_RECORD. */
static uint32_t free_record(const board_flash *flash, uint32_t at)
{
    record r;
    const uint32_t end = at / flash->erase_bytes * flash->erase_bytes + flash->erase_bytes;
    for (; at < end; at += RECORD_BYTES)
        if (flash->read(flash->ctx, at, &r, sizeof r) && erased(&r))
            return at;
    return NO_RECORD;
}

bool settings_load(settings_store *store, const board_flash *flash, proto_settings *values)
{
    memset(values, 0, sizeof *values);
    store->flash = flash;
    store->sequence = 0;
    store->next = NO_RECORD;
    if (flash == NULL)
        return true;
    uint32_t newest = NO_RECORD;
    bool any = false;
    for (uint32_t at = 0; at + RECORD_BYTES <= flash->bytes; at += RECORD_BYTES) {
        record r;
        if (!flash->read(flash->ctx, at, &r, sizeof r) || erased(&r))
            continue;
        any = true;
        if (good(&r) && (newest == NO_RECORD || r.sequence > store->sequence)) {
            newest = at;
            store->sequence = r.sequence;
            unpack(values, &r);
        }
    }
    if (newest != NO_RECORD)
        store->next = free_record(flash, newest);
    const bool whole = newest != NO_RECORD || !any;
    if (!settings_valid(values, values->mask))
        values->mask = 0;
    if (newest != NO_RECORD && store->next == NO_RECORD) /* the next sector takes over */
        store->next = (newest / flash->erase_bytes + 1u) * flash->erase_bytes % flash->bytes;
    return whole;
}

bool settings_save(settings_store *store, const proto_settings *values)
{
    const board_flash *flash = store->flash;
    if (flash == NULL)
        return false;
    uint32_t at = store->next == NO_RECORD ? 0 : store->next;
    if (at % flash->erase_bytes == 0) { /* a sector begins: what it holds is older than the sector before */
        if (!flash->erase(flash->ctx, at, flash->erase_bytes))
            return false;
    }
    record r, back;
    pack(&r, values, store->sequence + 1u);
    const bool ok = flash->write(flash->ctx, at, &r, sizeof r) && flash->read(flash->ctx, at, &back, sizeof back) &&
                    memcmp(&r, &back, sizeof r) == 0;
    if (ok)
        store->sequence++;
    store->next = free_record(flash, at);
    if (store->next == NO_RECORD)
        store->next = (at / flash->erase_bytes + 1u) * flash->erase_bytes % flash->bytes;
    return ok;
}

void settings_merge(proto_settings *to, const proto_settings *from, uint32_t mask)
{
    if (mask & PROTO_SETTINGS_FIELD_TEMPERATURE)
        to->temperature = from->temperature;
    if (mask & PROTO_SETTINGS_FIELD_TOP_K)
        to->top_k = from->top_k;
    if (mask & PROTO_SETTINGS_FIELD_TOP_P)
        to->top_p = from->top_p;
    if (mask & PROTO_SETTINGS_FIELD_MIN_P)
        to->min_p = from->min_p;
    if (mask & PROTO_SETTINGS_FIELD_REPEAT_PENALTY)
        to->repeat_penalty = from->repeat_penalty;
    if (mask & PROTO_SETTINGS_FIELD_REPEAT_WINDOW)
        to->repeat_window = from->repeat_window;
    if (mask & PROTO_SETTINGS_FIELD_MAX_TOKENS)
        to->max_tokens = from->max_tokens;
    if (mask & PROTO_SETTINGS_FIELD_MODE)
        to->mode = from->mode;
    if (mask & PROTO_SETTINGS_FIELD_KV_TYPE)
        to->kv_type = from->kv_type;
    if (mask & PROTO_SETTINGS_FIELD_CONTEXT)
        to->context = from->context;
    if (mask & PROTO_SETTINGS_FIELD_BRIGHTNESS)
        to->brightness = from->brightness;
    if (mask & PROTO_SETTINGS_FIELD_ECHO)
        to->echo = from->echo;
}

/* What tlm_sampler_init takes: 0, and neither -0 nor a subnormal. */
static bool temperature_valid(float t)
{
    static const float zero = 0.0f;
    return memcmp(&t, &zero, sizeof t) == 0 || (t >= FLT_MIN && t <= 100.0f);
}

/* Comparisons are false for NaN, so that one is never accepted. */
bool settings_valid(const proto_settings *v, uint32_t mask)
{
    const struct {
        uint32_t field;
        bool ok;
    } rules[] = {
        {PROTO_SETTINGS_FIELD_TEMPERATURE, temperature_valid(v->temperature)},
        {PROTO_SETTINGS_FIELD_TOP_K, v->top_k <= TLM_MAX_CANDIDATES},
        {PROTO_SETTINGS_FIELD_TOP_P, v->top_p > 0.0f && v->top_p <= 1.0f},
        {PROTO_SETTINGS_FIELD_MIN_P, v->min_p >= 0.0f && v->min_p < 1.0f},
        {PROTO_SETTINGS_FIELD_REPEAT_PENALTY, v->repeat_penalty >= 1.0f && v->repeat_penalty <= 100.0f},
        {PROTO_SETTINGS_FIELD_REPEAT_WINDOW, v->repeat_window <= TLM_MAX_REPEAT},
        {PROTO_SETTINGS_FIELD_MODE, v->mode <= PROTO_MODE_RAW},
        {PROTO_SETTINGS_FIELD_KV_TYPE, v->kv_type < PROTO_KV_SCALE || v->kv_type % PROTO_KV_SCALE >= TLM_KV_I8}, /* AUTO too */
        {PROTO_SETTINGS_FIELD_BRIGHTNESS, v->brightness <= 100},
        {PROTO_SETTINGS_FIELD_ECHO, v->echo <= 1},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if ((mask & rules[i].field) != 0 && !rules[i].ok)
            return false;
    return true;
}
