/* A session: how much memory, what lies in it, position and rewind. */
#include "tlm_session.h"

#include <string.h>

#include "tlm_head.h"
#include "tlm_math.h"
#include "tlm_model.h"

/* ---- sizes ---- */

static void measure_widths(const tlm_model *model, tlm_widths *w)
{
    const tlm_spec_rec *spec = model->spec;
    const uint32_t dim = tlm_padded(spec->dim), q = tlm_padded(spec->n_heads * spec->head_dim);
    w->dim = dim;
    w->normed = tlm_max_u32(dim, q);
    w->inner = dim;
    w->rope = tlm_padded(spec->rope_dims);
    w->codes = w->normed;
    for (uint32_t i = 0; i < spec->n_layers; i++) {
        const tlm_layer_rec *layer = &model->layers[i];
        const uint32_t kv = tlm_padded(layer->n_kv_heads * spec->head_dim), ffn = tlm_padded(layer->ffn_dim);
        w->inner = tlm_max_u32(w->inner, q + 2u * kv);
        w->inner = tlm_max_u32(w->inner, layer->ffn_kind == TLM_FFN_KIND_GATED ? 2u * ffn : ffn);
        w->codes = tlm_max_u32(w->codes, ffn);
    }
    w->inner = tlm_max_u32(w->inner, tlm_certified_floats(model)); /* the head comes when the layers are done with it */
    w->blocks = tlm_padded((w->codes + TLM_BLOCK - 1u) / TLM_BLOCK);
}

/* Takes `bytes` at *at and moves on; NULL while measuring. */
static void *take(uint8_t *base, uint64_t *at, uint64_t bytes)
{
    void *p = base == NULL ? NULL : base + (size_t)*at;
    *at += tlm_arena_round(bytes);
    return p;
}

uint64_t tlm_scratch_place(const tlm_widths *w, uint32_t batch, uint8_t *base, tlm_scratch *out)
{
    uint64_t at = 0;
    const uint64_t row = (uint64_t)batch * sizeof(float);
    out->x = take(base, &at, row * w->dim);
    out->h = take(base, &at, row * w->normed);
    out->f = take(base, &at, row * w->inner);
    out->rope = take(base, &at, row * w->rope);
    out->codes = take(base, &at, (uint64_t)batch * w->codes);
    out->scales = take(base, &at, row * w->blocks);
    out->sums = take(base, &at, row * w->blocks);
    return at;
}

static bool has_scales(tlm_kv_type kv_type)
{
    return kv_type == TLM_KV_I8 || kv_type == TLM_KV_I4;
}

void tlm_kv_layout_of(uint8_t kv_type, uint32_t groups, uint32_t n_kv_heads, uint32_t head_dim, tlm_kv_layout *out)
{
    const size_t dims = (size_t)n_kv_heads * head_dim, pairs = (size_t)n_kv_heads * ((head_dim + 1u) / 2u);
    const size_t bytes = TLM_PAGE * (kv_type == TLM_KV_F32   ? dims * 4u
                                     : kv_type == TLM_KV_F16 ? dims * 2u
                                     : kv_type == TLM_KV_I8  ? dims
                                                             : pairs);
    const size_t scales = has_scales((tlm_kv_type)kv_type) ? groups * TLM_PAGE * sizeof(uint16_t) : 0;
    out->k = 0;
    out->v = bytes;
    out->ks = 2u * bytes;
    out->vs = out->ks + scales;
    out->bytes = out->vs + scales;
    out->group = bytes / groups;
}

static uint64_t page_bytes(const tlm_model *model, const tlm_config *config)
{
    size_t most = 0;
    for (uint32_t i = 0; i < model->spec->n_layers; i++) {
        tlm_kv_layout layer;
        tlm_kv_layout_of((uint8_t)config->kv_type, config->kv_groups, model->layers[i].n_kv_heads, model->spec->head_dim,
                         &layer);
        most = layer.bytes > most ? layer.bytes : most;
    }
    return tlm_arena_round(most);
}

uint32_t tlm_head_granule(const tlm_model *model)
{
    return model->head == NULL && model->tensors[model->spec->head].type == TLM_TENSOR_TYPE_T1 ? 80u : 16u;
}

static uint32_t head_rows(const tlm_model *model, const tlm_config *config)
{
    const uint32_t granule = tlm_head_granule(model);
    const uint32_t all = (model->spec->vocab + granule - 1u) / granule * granule;
    const uint32_t asked = config->head_rows == 0 ? all : config->head_rows / granule * granule;
    return tlm_min_u32(all, tlm_max_u32(asked, granule));
}

/* ---- the state block: what every session has ---- */

typedef struct state {
    tlm_kernels *kernels;
    void **pages;
    void *shared; /* attention's scratch or a chunk of logits: a pass is never at both */
    uint8_t *single;
} state;

static uint64_t state_place(const tlm_model *model, const tlm_config *config, const tlm_kernels *kernels,
                            uint32_t n_pages, uint8_t *base, state *out)
{
    uint64_t at = 0;
    tlm_widths widths;
    tlm_scratch scratch;
    const uint64_t logits = (uint64_t)head_rows(model, config) * sizeof(float);
    const uint64_t attn = tlm_max_u32(config->parallel.parts, 1u) *
                          tlm_arena_round(kernels->attn_scratch(config->context, model->spec->head_dim));
    measure_widths(model, &widths);
    out->kernels = take(base, &at, sizeof(tlm_kernels));
    out->pages = take(base, &at, (uint64_t)n_pages * sizeof(void *));
    out->shared = take(base, &at, attn > logits ? attn : logits);
    out->single = take(base, &at, tlm_scratch_place(&widths, 1, NULL, &scratch));
    return at;
}

/* ---- need ---- */

void tlm_config_default(tlm_config *config, const tlm_model *model)
{
    memset(config, 0, sizeof *config);
    config->context = model->spec->context;
    config->kv_type = TLM_KV_I8;
    config->kv_groups = 1;
    config->batch = TLM_MAX_BATCH;
}

static tlm_err check_config(const tlm_model *model, const tlm_config *c)
{
    TLM_CHECK(TLM_ERR_ARG, c->context >= 1u && c->context <= model->spec->context);
    TLM_CHECK(TLM_ERR_ARG, (uint32_t)c->kv_type < (uint32_t)TLM_KV_COUNT);
    TLM_CHECK(TLM_ERR_ARG, c->kv_groups == 1u || (c->kv_groups > 1u && has_scales(c->kv_type)));
    for (uint32_t i = 0; i < model->spec->n_layers; i++) {
        TLM_CHECK(TLM_ERR_ARG, model->layers[i].n_kv_heads % c->kv_groups == 0);
    }
    TLM_CHECK(TLM_ERR_ARG, c->batch >= 1u && c->batch <= TLM_MAX_BATCH);
    TLM_CHECK(TLM_ERR_ARG, c->parallel.parts <= TLM_MAX_PARTS);
    TLM_CHECK(TLM_ERR_ARG, c->parallel.parts <= 1u || c->parallel.run != NULL);
    return TLM_OK;
}

tlm_err tlm_session_need_with(const tlm_model *model, const tlm_config *config, const tlm_kernels *kernels,
                              tlm_need *need)
{
    tlm_widths widths;
    tlm_scratch scratch;
    state block;
    TLM_CHECK(TLM_ERR_ARG, model != NULL && config != NULL && need != NULL);
    TLM_TRY(check_config(model, config));
    measure_widths(model, &widths);
    const uint32_t pages = model->spec->n_layers * ((config->context + TLM_PAGE - 1u) / TLM_PAGE);
    const uint64_t page = page_bytes(model, config);
    const uint64_t state_bytes = state_place(model, config, kernels, pages, NULL, &block);
    const uint64_t batch = config->batch == 1u || config->batch_in_pages
                               ? 0
                               : tlm_scratch_place(&widths, config->batch, NULL, &scratch);
    const uint64_t repack = config->repack ? tlm_repack_place(model, kernels, NULL) : 0;
    uint64_t total = state_bytes + batch + page * pages + repack;
    for (uint32_t i = 0; i < TLM_OWN_BLOCKS; i++) {
        TLM_CHECK(TLM_ERR_LIMIT, config->own[i] <= SIZE_MAX / 8u);
        need->own[i] = (size_t)tlm_arena_round(config->own[i]);
        total += need->own[i];
    }
    TLM_CHECK(TLM_ERR_LIMIT, total <= SIZE_MAX / 2u);
    need->total = (size_t)total;
    need->state = (size_t)state_bytes;
    need->batch_scratch = (size_t)batch;
    need->page = (size_t)page;
    need->pages = pages;
    need->repack = (size_t)repack;
    return TLM_OK;
}

tlm_err tlm_session_need(const tlm_model *model, const tlm_config *config, tlm_need *need)
{
    tlm_kernels kernels;
    TLM_CHECK(TLM_ERR_ARG, config != NULL && tlm_kernels_select(&kernels, config->backend));
    return tlm_session_need_with(model, config, &kernels, need);
}

/* ---- init ---- */

/* Where all blocks lie in the pieces; touches none of it. */
typedef struct placed {
    tlm_need need;
    tlm_arena arena; /* what is left */
    uint8_t *at[TLM_BLOCKS];
    tlm_page_run runs[TLM_MAX_PIECES];
} placed;

static tlm_err place(const tlm_model *model, const tlm_config *config, const tlm_kernels *kernels,
                     const tlm_mem *pieces, uint32_t n_pieces, placed *out)
{
    TLM_TRY(tlm_session_need_with(model, config, kernels, &out->need));
    TLM_CHECK(TLM_ERR_ARG, tlm_arena_init(&out->arena, pieces, n_pieces));
    TLM_CHECK(TLM_ERR_MEMORY, tlm_arena_place(&out->arena, &out->need, out->at, out->runs));
    return TLM_OK;
}

tlm_err tlm_session_fits(const tlm_model *model, const tlm_config *config, const tlm_mem *pieces, uint32_t n_pieces)
{
    tlm_kernels kernels;
    placed where;
    TLM_CHECK(TLM_ERR_ARG, config != NULL && tlm_kernels_select(&kernels, config->backend));
    return place(model, config, &kernels, pieces, n_pieces, &where);
}

/* Where the `index`-th page in memory has its pointer: the pages of all layers for 16 positions follow one another,
 * so that those not yet used lie side by side. */
static void **page_at(const tlm_session *s, uint32_t index)
{
    const uint32_t layers = s->model->spec->n_layers;
    return &s->pages[(size_t)(index % layers) * s->n_pages + index / layers];
}

static void fill_page_table(tlm_session *s, const tlm_page_run runs[TLM_MAX_PIECES])
{
    uint32_t page = 0;
    for (uint32_t i = 0; i < TLM_MAX_PIECES; i++) {
        for (uint32_t k = 0; k < runs[i].count; k++) {
            *page_at(s, page++) = runs[i].base + (size_t)k * s->page_bytes;
        }
        s->run_end[i] = page;
    }
}

tlm_err tlm_session_init_with(tlm_session *s, const tlm_model *model, const tlm_config *config,
                              const tlm_kernels *kernels, const tlm_mem *pieces, uint32_t n_pieces)
{
    placed where;
    state block;
    TLM_CHECK(TLM_ERR_ARG, s != NULL);
    memset(s, 0, sizeof *s);
    TLM_TRY(place(model, config, kernels, pieces, n_pieces, &where));
    state_place(model, config, kernels, where.need.pages, where.at[TLM_BLOCK_STATE], &block);
    s->model = model;
    s->kernels = block.kernels;
    *s->kernels = *kernels;
    s->pages = block.pages;
    s->logits = block.shared;
    s->attn = block.shared;
    s->single = block.single;
    s->batch = where.at[TLM_BLOCK_BATCH];
    for (uint32_t i = 0; i < TLM_OWN_BLOCKS; i++) {
        s->own[i] = where.at[TLM_BLOCK_OWN + i];
    }
    s->attn_bytes = (size_t)tlm_arena_round(kernels->attn_scratch(config->context, model->spec->head_dim));
    s->page_bytes = where.need.page;
    measure_widths(model, &s->widths);
    s->parallel = config->parallel;
    s->n_pages = where.need.pages / model->spec->n_layers;
    s->context = config->context;
    s->max_batch = config->batch;
    s->head_rows = head_rows(model, config);
    s->kv_type = (uint8_t)config->kv_type;
    s->kv_groups = config->kv_groups;
    s->batch_in_pages = config->batch_in_pages;
    fill_page_table(s, where.runs);
    if (where.at[TLM_BLOCK_REPACK] != NULL) {
        tlm_repack_place(model, kernels, where.at[TLM_BLOCK_REPACK]);
        s->copies = (const void *)where.at[TLM_BLOCK_REPACK];
        s->repacked = true;
    } else if (config->pin) {
        tlm_pin(s, &where.arena);
    }
    return TLM_OK;
}

tlm_err tlm_session_init(tlm_session *session, const tlm_model *model, const tlm_config *config,
                         const tlm_mem *pieces, uint32_t n_pieces)
{
    tlm_kernels kernels;
    TLM_CHECK(TLM_ERR_ARG, config != NULL && tlm_kernels_select(&kernels, config->backend));
    return tlm_session_init_with(session, model, config, &kernels, pieces, n_pieces);
}

/* ---- use ---- */

/* The longest row of pages side by side among those from the `first` in memory on. */
static uint8_t *free_pages(const tlm_session *s, uint32_t first, uint32_t *count)
{
    uint8_t *best = NULL;
    uint32_t start = 0;
    *count = 0;
    for (uint32_t i = 0; i < TLM_MAX_PIECES; i++) {
        const uint32_t from = tlm_max_u32(start, first), end = s->run_end[i];
        if (end > from && end - from > *count) {
            *count = end - from;
            best = *page_at(s, from);
        }
        start = end;
    }
    return best;
}

uint32_t tlm_session_batch(const tlm_session *s, uint32_t position, uint32_t want, uint8_t **scratch)
{
    uint32_t n = tlm_min_u32(want, tlm_min_u32(s->max_batch, s->context - position));
    *scratch = s->batch;
    for (; n > 1u && s->batch_in_pages; n--) {
        uint32_t pages;
        tlm_scratch parts;
        *scratch = free_pages(s, ((position + n - 1u) / TLM_PAGE + 1u) * s->model->spec->n_layers, &pages);
        if ((uint64_t)pages * s->page_bytes >= tlm_scratch_place(&s->widths, n, NULL, &parts)) {
            break;
        }
    }
    if (n <= 1u) {
        *scratch = s->single;
    }
    return n;
}

void *tlm_idle(const tlm_session *s, size_t *bytes)
{
    uint32_t pages;
    void *row = free_pages(s, (s->position + TLM_PAGE - 1u) / TLM_PAGE * s->model->spec->n_layers, &pages);
    *bytes = pages * s->page_bytes;
    return row;
}

uint32_t tlm_next_batch(const tlm_session *s)
{
    uint8_t *scratch;
    return tlm_session_batch(s, s->position, s->max_batch, &scratch);
}

void *tlm_own(const tlm_session *s, uint32_t index)
{
    return s->own[index];
}

uint32_t tlm_position(const tlm_session *s)
{
    return s->position;
}

tlm_err tlm_rewind(tlm_session *s, uint32_t position)
{
    TLM_CHECK(TLM_ERR_ARG, position <= s->position);
    s->position = position;
    return TLM_OK;
}

const char *tlm_backend(const tlm_session *s)
{
    return s->kernels->name;
}

void tlm_session_run(const tlm_session *s, void (*job)(void *arg, uint32_t part, uint32_t parts), void *arg)
{
    if (s->parallel.parts > 1u) {
        s->parallel.run(s->parallel.ctx, job, arg);
    } else {
        job(arg, 0, 1);
    }
}
