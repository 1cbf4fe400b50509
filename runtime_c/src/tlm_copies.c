/* Copies of weights in the caller's memory: in a backend's own layout, or as they are where the blob is slow to read. */
#include <string.h>

#include "tlm_model.h"
#include "tlm_session.h"

enum { READ_AHEAD = 64 }; /* bytes past a weight that kernels may read */

static uint32_t tiles_of(const tlm_tensor_rec *t)
{
    const uint32_t rows = tlm_tile_rows(t->type);
    return (t->rows + rows - 1u) / rows;
}

/* ---- repacked ---- */

static bool is_matrix_of_layer(const tlm_layer_rec *layer, uint32_t id)
{
    return id == layer->wq || id == layer->wk || id == layer->wv || id == layer->wo || id == layer->w_gate ||
           id == layer->w_up || id == layer->w_down;
}

static bool is_linear(const tlm_model *model, uint32_t id)
{
    for (uint32_t i = 0; i < model->spec->n_layers; i++) {
        if (is_matrix_of_layer(&model->layers[i], id)) {
            return true;
        }
    }
    return id == model->spec->head || (model->head != NULL && id >= model->head_tensor);
}

uint64_t tlm_repack_place(const tlm_model *model, const tlm_kernels *kernels, uint8_t *base)
{
    if (kernels->repack_bytes == NULL) {
        return 0;
    }
    tlm_copy *table = (void *)base;
    uint64_t at = tlm_arena_round((uint64_t)model->n_tensors * sizeof *table);
    for (uint32_t id = 0; id < model->n_tensors; id++) {
        const tlm_weight w = tlm_model_weight(model, id);
        const size_t bytes = is_linear(model, id) ? kernels->repack_bytes(&w) : 0;
        if (base != NULL) {
            table[id].data = bytes == 0 ? NULL : base + (size_t)at;
            table[id].tiles = bytes == 0 ? 0 : tiles_of(&model->tensors[id]);
            if (bytes != 0) {
                kernels->repack(&w, base + (size_t)at);
            }
        }
        at += tlm_arena_round(bytes);
    }
    return at;
}

/* ---- pinned ---- */

/* A whole tensor, or of a linear layer's as many tiles as the largest rest of a piece holds. */
static void pin_tensor(const tlm_model *model, tlm_arena *arena, uint32_t id, tlm_copy *out)
{
    const tlm_tensor_rec *t = &model->tensors[id];
    const uint32_t tiles = tiles_of(t), stride = t->bytes / tiles;
    uint8_t *to = tlm_arena_take(arena, t->bytes);
    out->tiles = tiles;
    if (to == NULL && !is_linear(model, id)) {
        out->tiles = 0;
    } else if (to == NULL) {
        const size_t room = tlm_arena_largest(arena) / stride;
        out->tiles = room < tiles ? (uint32_t)room : tiles;
        to = out->tiles == 0 ? NULL : tlm_arena_take(arena, (size_t)out->tiles * stride);
    }
    out->data = to;
    if (to != NULL) {
        memcpy(to, model->blob + t->offset, (size_t)out->tiles * stride);
    }
}

/* Each of these bytes is read once a token, those of the layers once a batch of prefill too: the head comes last. Of the
 * tables of embeddings a token reads a row. A certified head is left where it is: a search reads little of it. */
void tlm_pin(tlm_session *s, tlm_arena *arena)
{
    const tlm_model *model = s->model;
    const tlm_spec_rec *spec = model->spec;
    const size_t bytes = model->n_tensors * sizeof(tlm_copy);
    tlm_copy *table = (void *)tlm_arena_take(arena, bytes);
    if (table == NULL) {
        return;
    }
    memset(table, 0, bytes);
    s->copies = table;
    for (uint32_t i = 0; i < arena->n; i++) {
        arena->left[i] -= arena->left[i] < READ_AHEAD ? arena->left[i] : READ_AHEAD;
    }
    const uint32_t end = model->head == NULL ? model->n_tensors : model->head_tensor;
    for (uint32_t id = 0; id < end; id++) {
        if (id != spec->tok_embed && id != spec->pos_embed && id != spec->head) {
            pin_tensor(model, arena, id, &table[id]);
        }
    }
    if (model->head == NULL) {
        pin_tensor(model, arena, spec->head, &table[spec->head]);
    }
}

size_t tlm_pinned(const tlm_session *s, uint32_t id)
{
    const tlm_tensor_rec *t = &s->model->tensors[id];
    return s->copies == NULL || s->repacked ? 0 : (size_t)s->copies[id].tiles * (t->bytes / tiles_of(t));
}

/* ---- use ---- */

tlm_weight tlm_session_weight(const tlm_session *s, uint32_t id, uint32_t tile, uint32_t *end)
{
    tlm_weight w = tlm_model_weight(s->model, id);
    *end = tiles_of(&s->model->tensors[id]);
    if (s->copies != NULL && tile < s->copies[id].tiles) {
        w.data = s->copies[id].data;
        w.repacked = s->repacked;
        *end = s->copies[id].tiles;
    }
    return w;
}

const float *tlm_session_vector(const tlm_session *s, uint32_t id)
{
    if (id != TLM_NO_TENSOR && s->copies != NULL && s->copies[id].data != NULL) {
        return (const float *)(const void *)s->copies[id].data;
    }
    return tlm_model_vector(s->model, id);
}
