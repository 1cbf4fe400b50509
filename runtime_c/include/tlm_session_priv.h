/* struct tlm_session: its size is public so that it can be the caller's; its fields are not. */
#ifndef TLM_SESSION_PRIV_H
#define TLM_SESSION_PRIV_H

struct tlm_kernels;

/* The first `tiles` tiles of a tensor, or none. */
typedef struct tlm_copy {
    const uint8_t *data;
    uint32_t tiles;
} tlm_copy;

/* Widths, in elements per token, of the activation buffers: the widest layer decides. Multiples of 16. */
typedef struct tlm_widths {
    uint32_t dim;    /* x: the residual stream */
    uint32_t normed; /* h: normed input, attention output, layer output */
    uint32_t inner;  /* f: q, k, v; or gate, up */
    uint32_t rope;   /* cosines and sines */
    uint32_t codes;  /* quantised input of a linear layer */
    uint32_t blocks; /* its scales, its sums */
} tlm_widths;

struct tlm_session {
    const tlm_model *model;
    struct tlm_kernels *kernels;
    void **pages;                /* [n_layers][n_pages] */
    const tlm_copy *copies;      /* by tensor id; NULL without a grant */
    uint8_t *single, *batch;     /* scratch for one token, and for max_batch (NULL: in pages, or none) */
    float *logits;               /* [head_rows] */
    uint8_t *attn;               /* one scratch of attn_bytes a part; where the logits lie */
    void *own[TLM_OWN_BLOCKS];   /* the caller's */
    size_t attn_bytes, page_bytes;
    tlm_widths widths;
    tlm_parallel parallel;
    uint32_t n_pages;                 /* of a layer */
    uint32_t run_end[TLM_MAX_PIECES]; /* pages of a piece lie side by side: run i ends before the run_end[i]-th */
    uint32_t context, max_batch, head_rows, position, kv_groups;
    uint8_t kv_type;
    bool batch_in_pages;
    bool repacked; /* copies are in the backend's own layout */
};

#endif
