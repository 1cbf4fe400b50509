/* The forward pass of one batch. */
#ifndef TLM_FORWARD_H
#define TLM_FORWARD_H

#include "tlm_session.h"

/* A batch of tokens on its way through the layers. */
typedef struct tlm_batch {
    const tlm_session *s;
    const tlm_spec_rec *spec;
    const tlm_kernels *k;
    tlm_scratch at;
    uint32_t n, position; /* tokens, and where the first one stands */
    void *const *pages;   /* this layer's KV pages */
} tlm_batch;

/* Runs n tokens through all layers: the KV cache holds them afterwards and at.x their last hidden states. */
tlm_err tlm_forward(tlm_batch *batch, const uint32_t *ids);

/* Logits of the tokens picked[0..n_picked), indices into the batch in rising order, to the sink, whose own
 * answer goes to *heard. `index0` is the first token's place in the tlm_eval call. at.x stays, the rest goes. */
tlm_err tlm_head(const tlm_batch *batch, const uint32_t *picked, uint32_t n_picked, const tlm_sink *sink,
                 uint32_t index0, tlm_err *heard);

/* ---- linear layers (tlm_linear.c) ---- */

/* n vectors of `cols` floats, `stride` apart, zero up to the padded length. */
typedef struct tlm_rows {
    const float *x;
    uint32_t cols, stride, n;
} tlm_rows;

/* The input in the form that weights of this type want (rule 6), its codes in the batch's scratch. `floor` is the
 * clamp of t2 and t1. false: a value is not finite. */
bool tlm_linear_input(const tlm_batch *batch, uint8_t type, float floor, const tlm_rows *rows, tlm_input *in);

/* y for the rows of tiles tile0..tile1-1, split over the session's parts. */
void tlm_linear_tiles(const tlm_session *s, uint32_t weight, const tlm_input *in, uint32_t tile0, uint32_t tile1,
                      float *y, uint32_t y_stride);

/* One matrix of a group that shares its input; bias may be TLM_NO_TENSOR. */
typedef struct tlm_matrix {
    uint32_t weight, bias;
    float *y;
    uint32_t stride;
} tlm_matrix;
enum { TLM_MAX_SHARED = 3 }; /* q, k, v */

/* y = W x + b for matrices of a layer that share their input, which is quantised once for each form they want.
 * Zeroes y from the last row up to the padded length. */
tlm_err tlm_linears(const tlm_batch *batch, const tlm_rows *rows, const tlm_matrix *matrices, uint32_t count);

#endif
