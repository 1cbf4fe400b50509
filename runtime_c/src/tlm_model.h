/* What the files of the core know of a model, beyond tlm.h. */
#ifndef TLM_MODEL_H
#define TLM_MODEL_H

#include "tlm.h"
#include "tlm_kernels.h"

/* Steps of tlm_model_open, in order; each may rely on the ones before. */
tlm_err tlm_check_spec(tlm_model *model);
tlm_err tlm_check_tensors(tlm_model *model);
tlm_err tlm_check_head(tlm_model *model);
tlm_err tlm_check_layers(const tlm_model *model);
tlm_err tlm_check_values(const tlm_model *model, const tlm_tensor_rec *tensor);
tlm_err tlm_check_chat(tlm_model *model);
tlm_err tlm_check_info(const tlm_model *model);

/* Are the parameters within the ranges of tlm.h. */
bool tlm_sampling_valid(const tlm_sampling *params);

uint32_t tlm_crc32(const uint8_t *data, size_t bytes);

/* CHECK(err, condition): leave with err unless the condition holds. */
#define TLM_CHECK(err, ok)   \
    do {                     \
        if (!(ok)) {         \
            return (err);    \
        }                    \
    } while (0)
#define TLM_TRY(expr)                   \
    do {                                \
        const tlm_err tlm_e = (expr);   \
        if (tlm_e != TLM_OK) {          \
            return tlm_e;               \
        }                               \
    } while (0)

/* Bytes of a packed tensor, pads included (BLOB.md); rows and cols at least 1. */
uint64_t tlm_tensor_bytes(uint8_t type, uint32_t rows, uint32_t cols);

/* Rows that are stored together. */
static inline uint32_t tlm_tile_rows(uint8_t type)
{
    static const uint8_t tile_rows[TLM_TENSOR_TYPE_LIMIT] = TLM_TILE_ROWS_INIT;
    return tile_rows[type];
}

/* The floats of a vector tensor; NULL for TLM_NO_TENSOR. */
static inline const float *tlm_model_vector(const tlm_model *model, uint32_t id)
{
    return id == TLM_NO_TENSOR ? NULL : (const float *)(const void *)(model->blob + model->tensors[id].offset);
}

/* A matrix in the blob's own layout. */
static inline tlm_weight tlm_model_weight(const tlm_model *model, uint32_t id)
{
    const tlm_tensor_rec *t = &model->tensors[id];
    const tlm_weight w = {model->blob + t->offset, t->rows, t->cols, t->scale, t->type, false};
    return w;
}

#endif
