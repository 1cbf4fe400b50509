/* A certified head: the rows of the output head in stages of columns (tlm_head.c). */
#ifndef TLM_HEAD_H
#define TLM_HEAD_H

#include "tlm_forward.h"

/* The arrays of a HEAD section (BLOB.md), one element a row, pads included; and where they end. */
typedef struct tlm_head_arrays {
    const uint32_t *ids;
    const int8_t *bias;
    const uint8_t *norms; /* [n_stages - 1] arrays, `stride` apart */
    size_t stride, bytes;
} tlm_head_arrays;
void tlm_head_arrays_of(const tlm_model *model, tlm_head_arrays *out);

/* Floats of scratch (tlm_scratch's f) that it works in, a multiple of 16; 0 when the model has none. */
uint32_t tlm_certified_floats(const tlm_model *model);

/* What `sink` wants of the logits that follow from one normed hidden state: all of them in id order, or the tokens
 * that a search could not leave out. Its own answer goes to *heard. */
tlm_err tlm_certified(const tlm_batch *batch, const tlm_rows *hidden, const tlm_sink *sink, uint32_t index,
                      tlm_err *heard);

#endif
