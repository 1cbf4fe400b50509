#include "install.h"

#include <string.h>

#include "app_parts.h"

#define PIECE 1024u

void install_begin(install *i, const install_source *source)
{
    memset(i, 0, sizeof *i);
    i->source = *source;
    i->phase = INSTALL_HASH;
    sha256_init(&i->hash);
}

static uint32_t next_piece(const install *i)
{
    return i->source.bytes - i->at < PIECE ? i->source.bytes - i->at : PIECE;
}

/* As an upload begins: where there is no room for both, the old model goes now. */
static uint16_t begin_write(install *i, app_t *app)
{
    uint32_t detail;
    sha256_end(&i->hash, i->digest);
    uint16_t error = store_choose(&app->store, PROTO_AUTO, app->slot, i->source.bytes, &i->slot, &detail);
    if (error != PROTO_ERROR_NONE)
        return error;
    if (i->slot == app->slot || store_spans(&app->store, i->source.bytes))
        models_unload(app);
    app->activated = false;
    error = store_begin(&app->store, i->slot, i->source.bytes, i->digest);
    i->phase = INSTALL_WRITE;
    i->at = app->store.slot[i->slot].offset;
    app_status_changed(app); /* names of a model that is gone are not to be drawn */
    return error;
}

static uint16_t hash_piece(install *i, app_t *app)
{
    uint8_t data[PIECE];
    const uint32_t n = next_piece(i);
    if (n == 0)
        return begin_write(i, app);
    if (!i->source.read(i->source.ctx, i->at, data, n))
        return PROTO_ERROR_STORE_FLASH;
    sha256_add(&i->hash, data, n);
    i->at += n;
    return PROTO_ERROR_NONE;
}

static uint16_t write_piece(install *i, app_t *app)
{
    uint8_t data[PIECE];
    uint16_t error;
    uint32_t detail = 0;
    const uint32_t n = next_piece(i);
    if (n == 0) {
        i->phase = INSTALL_VERIFY;
        i->at = 0;
        (void)store_hash_begin(&app->store, &error, &detail);
        return error;
    }
    if (!i->source.read(i->source.ctx, i->at, data, n))
        return PROTO_ERROR_STORE_FLASH;
    error = store_chunk(&app->store, i->at, app_crc32(0, data, n), data, n, &detail);
    i->at = detail;
    return error;
}

static uint16_t verify_piece(install *i, app_t *app)
{
    uint16_t error;
    uint32_t detail = 0;
    const bool through = store_hash_step(&app->store, &error);
    i->at = app->store.hashed;
    if (!through)
        return PROTO_ERROR_NONE;
    if (error == PROTO_ERROR_NONE)
        error = models_check(app, &detail);
    if (error != PROTO_ERROR_NONE) { /* sending more of it would not mend it */
        (void)store_erase(&app->store, i->slot);
        return error;
    }
    app->store.slot[i->slot].state = PROTO_SLOT_STATE_VERIFIED;
    error = models_activate(app, &detail);
    i->phase = INSTALL_IDLE;
    return error;
}

/* A host that began an upload of its own in between has taken the store over. */
static bool still_ours(const install *i, const app_t *app)
{
    const store *s = &app->store;
    return i->phase == INSTALL_HASH || (s->upload == i->slot && s->slot[i->slot].size == i->source.bytes &&
                                        memcmp(s->slot[i->slot].sha, i->digest, sizeof i->digest) == 0);
}

uint16_t install_step(install *i, app_t *app)
{
    uint16_t error = PROTO_ERROR_BUSY;
    if (i->phase == INSTALL_IDLE)
        return PROTO_ERROR_NONE;
    if (app_busy(app) || !still_ours(i, app)) {
        i->phase = INSTALL_IDLE;
        return error;
    }
    if (i->phase == INSTALL_HASH)
        error = hash_piece(i, app);
    else if (i->phase == INSTALL_WRITE)
        error = write_piece(i, app);
    else
        error = verify_piece(i, app);
    if (error != PROTO_ERROR_NONE)
        i->phase = INSTALL_IDLE;
    return error;
}
