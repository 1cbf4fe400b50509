#include <string.h>

#include "app_parts.h"

#define SHOW_EVERY 65536u /* bytes hashed between two progress events */

void models_unload(app_t *app)
{
    chat_close(&app->chat);
    if (app->slot != PROTO_AUTO)
        store_unmap(&app->store, app->slot);
    app->slot = PROTO_AUTO;
    app->model_state = PROTO_MODEL_STATE_NONE;
    app->model_error = PROTO_ERROR_NO_MODEL;
    app->reply_to.request = 0;
}

/* The kind of cache that is set, or the board's. */
static uint8_t kv_of(const app_t *app)
{
    const bool set = (app->settings.mask & PROTO_SETTINGS_FIELD_KV_TYPE) != 0;
    return set ? app->settings.kv_type : chat_kv(&app->board->session);
}

/* true: the blob is the model now. */
static bool open_model(app_t *app, const void *blob, size_t bytes)
{
    uint32_t detail = 0;
    const bool context = (app->settings.mask & PROTO_SETTINGS_FIELD_CONTEXT) != 0;
    app->selfcheck &= ~(uint32_t)(PROTO_CHECK_KERNELS | PROTO_CHECK_MODEL | PROTO_CHECK_MEMORY);
    app->model_error = chat_open(&app->chat, app->board, blob, bytes, kv_of(app),
                                 context ? app->settings.context : app->board->session.context, &detail);
    if (app->model_error == PROTO_ERROR_NONE)
        app->selfcheck |= selfcheck_model(app);
    else
        app->selfcheck |= app->model_error == PROTO_ERROR_MODEL_MEMORY ? PROTO_CHECK_MEMORY : PROTO_CHECK_MODEL;
    app->model_state = app->model_error == PROTO_ERROR_NONE ? PROTO_MODEL_STATE_READY : PROTO_MODEL_STATE_UNUSABLE;
    return app->model_state == PROTO_MODEL_STATE_READY;
}

/* Slots from the newest to the oldest until one opens; where none does, the newest one's error stays. */
void models_load(app_t *app)
{
    uint16_t error = PROTO_ERROR_NONE;
    models_unload(app);
    if (app->store.flash == NULL) {
        if (app->board->fixed_model != NULL)
            (void)open_model(app, app->board->fixed_model, app->board->fixed_bytes);
        return;
    }
    for (uint32_t below = 0xFFFFFFFFu;;) {
        const uint8_t slot = store_newest(&app->store, below);
        if (slot == PROTO_AUTO)
            break;
        const void *blob = store_map(&app->store, slot);
        if (blob != NULL && open_model(app, blob, app->store.slot[slot].size)) {
            app->slot = slot;
            return;
        }
        if (error == PROTO_ERROR_NONE)
            error = blob != NULL ? app->model_error : PROTO_ERROR_STORE_FLASH;
        store_unmap(&app->store, slot);
        below = app->store.slot[slot].sequence;
    }
    chat_close(&app->chat);
    if (error != PROTO_ERROR_NONE) {
        app->model_state = PROTO_MODEL_STATE_UNUSABLE;
        app->model_error = error;
    }
}

/* ---- upload ---------------------------------------------------------------------------------------- */

static uint16_t send_upload(app_t *app, const proto_header *to)
{
    const uint8_t n = app->store.upload;
    if (n == PROTO_AUTO)
        return PROTO_ERROR_STORE_NOT_BEGUN;
    const store_slot *s = &app->store.slot[n];
    const proto_upload_is m = {n, s->state, s->offset, s->size, app->board->window, {s->sha, sizeof s->sha}};
    shell_send(app, to, PROTO_UPLOAD_IS, &m);
    return PROTO_ERROR_NONE;
}

uint16_t models_query(app_t *app, const proto_header *to)
{
    return send_upload(app, to);
}

uint16_t models_begin(app_t *app, const proto_header *to, const proto_upload_begin *m, uint32_t *detail)
{
    uint8_t slot = 0;
    if (m->sha256.len != 32)
        return PROTO_ERROR_BAD_MESSAGE;
    uint16_t error = store_choose(&app->store, m->slot, app->slot, m->size, &slot, detail);
    if (error != PROTO_ERROR_NONE)
        return error;
    if (slot == app->slot || store_spans(&app->store, m->size)) /* no other slot: from here on there is no model */
        models_unload(app);
    app->activated = false;
    error = store_begin(&app->store, slot, m->size, m->sha256.data);
    app_status_changed(app);
    return error != PROTO_ERROR_NONE ? error : send_upload(app, to);
}

uint16_t models_chunk(app_t *app, const proto_header *to, const proto_upload_chunk *m, uint32_t *detail)
{
    if (m->data.len > PROTO_MAX_CHUNK)
        return PROTO_ERROR_BAD_MESSAGE;
    const uint16_t error = store_chunk(&app->store, m->offset, m->crc, m->data.data, m->data.len, detail);
    return error != PROTO_ERROR_NONE ? error : send_upload(app, to);
}

uint16_t models_verify(app_t *app, const proto_header *to, uint32_t *detail)
{
    uint16_t error;
    if (!store_hash_begin(&app->store, &error, detail))
        return error;
    app->task = APP_VERIFY;
    app->task_for = *to;
    app->task_shown = 0;
    return PROTO_ERROR_NONE;
}

/* The bytes are what was announced: do they make a model that runs here? */
uint16_t models_check(app_t *app, uint32_t *detail)
{
    const uint8_t slot = app->store.upload;
    const void *blob = store_map(&app->store, slot);
    if (blob == NULL)
        return PROTO_ERROR_STORE_FLASH;
    const uint16_t error = chat_fits(app->board, blob, app->store.slot[slot].size, kv_of(app), detail);
    store_unmap(&app->store, slot);
    return error;
}

/* An upload that fails here can not be mended by sending more of it: it is erased. */
void models_verify_step(app_t *app)
{
    uint16_t error;
    uint32_t detail = 0;
    if (!store_hash_step(&app->store, &error)) {
        if (app->store.hashed - app->task_shown >= SHOW_EVERY) {
            const proto_progress p = {app->store.hashed, app->store.slot[app->store.upload].size};
            app->task_shown = app->store.hashed;
            shell_send(app, &app->task_for, PROTO_PROGRESS, &p);
        }
        return;
    }
    app->task = APP_NO_TASK;
    if (error == PROTO_ERROR_NONE)
        error = models_check(app, &detail);
    if (error == PROTO_ERROR_NONE) {
        app->store.slot[app->store.upload].state = PROTO_SLOT_STATE_VERIFIED;
        shell_send(app, &app->task_for, PROTO_OK, NULL);
    } else {
        (void)store_erase(&app->store, app->store.upload);
        shell_error(app, &app->task_for, error, detail);
    }
}

uint16_t models_activate(app_t *app, uint32_t *detail)
{
    (void)detail;
    const uint8_t slot = app->store.upload;
    if (slot == PROTO_AUTO && app->activated)
        return PROTO_ERROR_NONE; /* asked again: the answer was lost */
    uint16_t error = store_activate(&app->store);
    if (error != PROTO_ERROR_NONE)
        return error;
    models_load(app);
    app->activated = app->slot == slot;
    if (!app->activated) { /* it is good, but there is no memory for it: the old model is loaded */
        error = app->model_error != PROTO_ERROR_NONE ? app->model_error : PROTO_ERROR_MODEL_MEMORY;
        (void)store_erase(&app->store, slot);
    }
    app_status_changed(app);
    return error;
}

uint16_t models_abort(app_t *app)
{
    if (app->store.upload == PROTO_AUTO)
        return PROTO_ERROR_NONE;
    return store_erase(&app->store, app->store.upload);
}

uint16_t models_slot(app_t *app, const proto_header *to, uint8_t n)
{
    proto_slot_is m;
    memset(&m, 0, sizeof m);
    if (n == PROTO_AUTO)
        n = app->slot == PROTO_AUTO ? 0 : app->slot;
    m.slot = n;
    m.slots = app->store.slots;
    m.capacity = store_capacity(&app->store);
    const bool used = app->chat.open && (n == app->slot || (app->store.slots == 0 && n == 0));
    if (used)
        m.name = proto_text(tlm_model_info(&app->chat.model, "name"));
    if (m.name.len > 127)
        m.name.len = 127;
    if (n < app->store.slots) {
        const store_slot *s = &app->store.slot[n];
        m.state = used ? PROTO_SLOT_STATE_ACTIVE : s->state;
        m.size = s->size;
        m.sequence = s->sequence;
        m.sha256.data = s->sha;
        m.sha256.len = s->state == PROTO_SLOT_STATE_EMPTY ? 0 : sizeof s->sha;
    } else if (used) {
        m.state = PROTO_SLOT_STATE_FIXED;
        m.size = (uint32_t)app->chat.model.bytes;
    } else {
        return PROTO_ERROR_STORE_SLOT;
    }
    shell_send(app, to, PROTO_SLOT_IS, &m);
    return PROTO_ERROR_NONE;
}
