/* tlm: a C99 inference runtime for tiny language models. This header is the manual.
 *
 *   tlm_model   m;  tlm_model_open(&m, blob, bytes);            validates everything, copies nothing
 *   tlm_config  c;  tlm_config_default(&c, &m);
 *   tlm_need    n;  tlm_session_need(&m, &c, &n);               how much memory, before any is taken
 *   tlm_session s;  tlm_session_init(&s, &m, &c, pieces, k);    memory is the caller's, up to 4 pieces
 *   tlm_encode(&m, text, len, flags, work, ids, cap, &count);
 *   tlm_eval(&s, ids, count, NULL, &sink);                      prefill; the last token's logits flow to sink
 *   tlm_sample(&sampler, &choice);                              draw; tlm_eval(&s, &id, 1, NULL, &sink); ...
 *
 * Rules. The library allocates nothing, keeps no global state, prints nothing and calls no libm. Every
 * function that can fail returns tlm_err; TLM_OK is 0. All structs are the caller's: their size is fixed
 * here, fields marked "private" may change. The blob must stay readable at the same address for as long as
 * a model or session uses it, and must be 16-byte aligned (64 is faster). Two sessions may share a model;
 * one session is used by one thread at a time. Results are the same bits on every target: NUMERICS.md.
 */
#ifndef TLM_H
#define TLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tlm_blob_gen.h"
#include "tlm_config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors -------------------------------------------------------------------------------------- */

typedef enum tlm_err {
    TLM_OK = 0,
    TLM_ERR_ARG,        /* a NULL pointer, a zero size, a parameter out of its range */
    TLM_ERR_FP,         /* this build's arithmetic breaks NUMERICS.md (contraction, flush to zero...) */
    TLM_ERR_MAGIC,      /* not a .tlm blob */
    TLM_ERR_VERSION,    /* another major version, or an unknown required feature */
    TLM_ERR_TRUNCATED,  /* the blob is shorter than it says */
    TLM_ERR_CRC,        /* bytes changed */
    TLM_ERR_FORMAT,     /* a field contradicts the format or another field */
    TLM_ERR_LIMIT,      /* larger than a limit of tlm_blob_gen.h or tlm_config.h */
    TLM_ERR_WEIGHTS,    /* a non-finite scale or value among the weights */
    TLM_ERR_ALIGN,      /* blob not aligned to 16 bytes */
    TLM_ERR_MEMORY,     /* the pieces do not hold what tlm_session_need asks for */
    TLM_ERR_TOKEN,      /* a token id that the model does not have */
    TLM_ERR_CONTEXT,    /* no room left in the context window */
    TLM_ERR_NUMERIC,    /* a non-finite value appeared during eval */
    TLM_ERR_TOKENIZER,  /* the blob has no tokenizer, or text it can not represent */
    TLM_ERR_OVERFLOW,   /* the caller's output buffer is too small */
    TLM_ERR_STOPPED,    /* a sink asked to stop */
    TLM_ERR_COUNT
} tlm_err;

const char *tlm_err_name(tlm_err err); /* "TLM_ERR_CRC" */
const char *tlm_err_text(tlm_err err); /* "the blob is damaged (checksum)" */

/* Checks the arithmetic of this build: a few microseconds. tlm_model_open calls it. */
tlm_err tlm_self_test(void);

/* ---- model --------------------------------------------------------------------------------------- */

/* A blob that passed every check. Fields are read-only for the caller. */
typedef struct tlm_model {
    const uint8_t *blob;
    size_t bytes;
    const tlm_spec_rec *spec;
    const tlm_layer_rec *layers;   /* [spec->n_layers] */
    const tlm_tensor_rec *tensors; /* [n_tensors] */
    uint32_t n_tensors;
    const uint8_t *section[TLM_SECTION_LIMIT]; /* by kind; NULL when absent */
    uint32_t section_bytes[TLM_SECTION_LIMIT];
    const tlm_chat_rec *chat; /* NULL when absent */
    const tlm_head_rec *head; /* a certified head; NULL when the head is a tensor */
    uint32_t head_tensor;     /* its first tensor */
} tlm_model;

/* Validates `bytes` bytes at `blob` completely: O(bytes), reads each byte about twice. `bytes` may exceed
 * the blob's own length (a flash partition). After TLM_OK no byte of the blob is ever checked again. */
tlm_err tlm_model_open(tlm_model *model, const void *blob, size_t bytes);

/* Value of an INFO key ("name", "licence", "attribution", ...) or NULL. */
const char *tlm_model_info(const tlm_model *model, const char *key);

/* String `index` of the CHAT section: TLM_CHAT_USER_PREFIX, ..., then stop strings; NULL past the end. */
enum { TLM_CHAT_USER_PREFIX, TLM_CHAT_REPLY_PREFIX, TLM_CHAT_TURN_END, TLM_CHAT_STOP };
const char *tlm_chat_string(const tlm_model *model, uint32_t index, size_t *bytes);
bool tlm_is_stop_id(const tlm_model *model, uint32_t id);

/* ---- session: memory and state ------------------------------------------------------------------- */

/* Runs job(arg, part, parts) for part = 0..parts-1, in any order or at once, and returns when all are
 * done. parts is at most TLM_MAX_PARTS. */
typedef struct tlm_parallel {
    void (*run)(void *ctx, void (*job)(void *arg, uint32_t part, uint32_t parts), void *arg);
    void *ctx;
    uint32_t parts;
} tlm_parallel;

typedef struct tlm_config {
    uint32_t context;     /* positions to keep; at most spec->context */
    tlm_kv_type kv_type;  /* I8 costs +0.1 % perplexity and a quarter of the memory of F32 */
    uint32_t kv_groups;   /* scales that a position has in an I8 or I4 cache, for K and for V: its kv heads fall into as
                             many groups. 1, or a divisor of every layer's n_kv_heads */
    uint32_t batch;       /* most tokens evaluated at once in prefill, 1..TLM_MAX_BATCH */
    bool batch_in_pages;  /* true: scratch for batches lies in KV pages not yet used, and the batch
                             shrinks as the context fills; false: it is asked for apart */
    uint32_t head_rows;   /* logits computed between two calls of a sink; 0 = the whole vocabulary */
    bool repack;          /* grant memory for a backend's own copy of the weights (desk only) */
    bool pin;             /* copy weights into what the pieces have left, in the order of reading: for a blob in
                             memory that is slower than the pieces; without effect beside repack */
    size_t own[TLM_OWN_BLOCKS]; /* bytes of blocks that the caller wants for itself: tlm_own */
    const char *backend;  /* "ref", "avx2", "avx512vnni", "esp32s3"...; NULL = the best here */
    tlm_parallel parallel; /* zero = one thread */
} tlm_config;

/* Full context, KV i8 with one scale, batch 16, apart, whole vocabulary at once, no copies, best backend, one thread. */
void tlm_config_default(tlm_config *config, const tlm_model *model);

/* What a session takes. Blocks are indivisible; tlm_session_init places them, largest first, each in the smallest
 * piece with room: their order does not matter, and where one piece is slow and large the others are filled first.
 * When one piece is given, `total` bytes at 64-byte alignment are enough; what precedes the first multiple of 64
 * in a piece is not used. */
typedef struct tlm_need {
    size_t total;         /* sum of all blocks below, each rounded up to 64 */
    size_t state;         /* activations for one token, head chunk, page table: one block */
    size_t batch_scratch; /* one block; 0 when batch_in_pages or batch == 1 */
    size_t page;          /* bytes of a KV page: TLM_PAGE positions of a layer, the widest decides */
    uint32_t pages;       /* number of pages, each a block of its own */
    size_t repack;        /* one block; 0 unless granted */
    size_t own[TLM_OWN_BLOCKS]; /* what the caller asked for */
} tlm_need;

typedef struct tlm_mem {
    void *base;
    size_t bytes;
} tlm_mem;

tlm_err tlm_session_need(const tlm_model *model, const tlm_config *config, tlm_need *need);

typedef struct tlm_session tlm_session;
#include "tlm_session_priv.h" /* struct tlm_session: its size is public, its fields are private */

tlm_err tlm_session_init(tlm_session *session, const tlm_model *model, const tlm_config *config,
                         const tlm_mem *pieces, uint32_t n_pieces);
/* What tlm_session_init would say of these pieces: TLM_ERR_MEMORY when they do not do. Touches none of them. */
tlm_err tlm_session_fits(const tlm_model *model, const tlm_config *config, const tlm_mem *pieces, uint32_t n_pieces);
void *tlm_own(const tlm_session *session, uint32_t index); /* 64-aligned; NULL for an empty block */
/* Pages that hold no position yet, the longest row of them: free to use until the next tlm_eval, for tlm_encode's work
 * say. A rewind makes it longer. */
void *tlm_idle(const tlm_session *session, size_t *bytes);
size_t tlm_pinned(const tlm_session *session, uint32_t tensor); /* bytes of this tensor that lie in a copy */

/* ---- eval ---------------------------------------------------------------------------------------- */

/* Where logits go. They arrive in id order, at most head_rows at a time: logits[i] belongs to id row0 + i.
 * `index` is the token's place in the tlm_eval call. Where a batch wants the logits of several tokens, each
 * chunk of rows comes for one token after the other, so that a row of the head is read once. A return value
 * other than TLM_OK stops the eval (the KV cache is complete by then) and is passed through. */
typedef struct tlm_sink {
    tlm_err (*rows)(void *ctx, uint32_t index, uint32_t row0, uint32_t rows, const float *logits);
    void *ctx;
    /* Set by a sink that only asks for the best tokens; a certified head (BLOB.md) then calls this instead of
     * `rows`: first with n = 0, then with n tokens in any order, *bar being the logit below which no token matters
     * any more (-Inf: all do). What is left out is certainly below the last *bar. NULL: every logit is wanted. */
    tlm_err (*best)(void *ctx, uint32_t index, const uint32_t *ids, const float *logits, uint32_t n, float *bar);
} tlm_sink;

/* A sink that copies into out[k * stride + id] for the k-th wanted token; stride >= vocab. */
typedef struct tlm_buffer_sink {
    float *out;
    size_t stride;
    uint32_t vocab, wanted, complete, group, at, row0; /* private: set by tlm_buffer_sink_init */
} tlm_buffer_sink;
tlm_sink tlm_buffer_sink_init(tlm_buffer_sink *buffer, const tlm_model *model, float *out, size_t stride);

/* Appends n tokens to the context. want[i] != 0 asks for the logits of token i; want == NULL asks for the
 * last one's; sink == NULL asks for none, and the head is then not computed. Each weight row is read once
 * per batch of up to config.batch tokens. On an error the position is what it was before the call, except
 * TLM_ERR_STOPPED and other values of a sink, after which all n tokens count. */
tlm_err tlm_eval(tlm_session *session, const uint32_t *ids, uint32_t n, const uint8_t *want, const tlm_sink *sink);

uint32_t tlm_position(const tlm_session *session);            /* tokens in the context */
uint32_t tlm_next_batch(const tlm_session *session);          /* tokens the next batch would take */
tlm_err tlm_rewind(tlm_session *session, uint32_t position);  /* forget all from `position` on; O(1) */
const char *tlm_backend(const tlm_session *session);

/* ---- tokenizer ----------------------------------------------------------------------------------- */

enum { TLM_ENCODE_SPECIAL = 1, TLM_ENCODE_BOS = 2, TLM_ENCODE_CONTINUE = 4 };
/* SPECIAL: literal special tokens in the text become their ids (off for a user's words).
 * BOS: the BOS id comes first. CONTINUE: the text follows other text (no dummy prefix space). */

/* Ids of `len` bytes of text, any bytes, NUL included. *count gets the full number even when cap is too
 * small (TLM_ERR_OVERFLOW, the first cap ids are right). No memory beyond a small stack frame is used:
 * `work` is the caller's, TLM_ENCODE_WORK(len) bytes, 8-byte aligned. O(len log len). TLM_ERR_LIMIT: the
 * normaliser made so much of the text that `work` does not hold it (only a text of rare ligatures can). */
#define TLM_ENCODE_WORK(len) (((size_t)(len) + 16u) * 24u)
tlm_err tlm_encode(const tlm_model *model, const char *text, size_t len, uint32_t flags, void *work,
                   uint32_t *ids, size_t cap, size_t *count);

/* Bytes of one piece as it stands in running text: O(length of the piece), never a walk of the vocabulary.
 * `out` takes up to TLM_MAX_PIECE bytes. Special tokens give their text. */
tlm_err tlm_piece(const tlm_model *model, uint32_t id, char *out, size_t cap, size_t *len);

/* Streaming decode: feeds pieces in, hands whole UTF-8 characters out. Bytes that can never become valid
 * UTF-8 come out as U+FFFD when `replace` is set, as they are otherwise. Special tokens give nothing.
 * A text that tlm_encode began with a space of its own loses it again: set `started` after the init when
 * the ids continue a text, so that a leading space stays. cap: 3 bytes for each byte of the longest piece
 * and of a cut character are always enough; TLM_ERR_OVERFLOW changes nothing, the id may be fed again. */
typedef struct tlm_decoder {
    uint8_t pending[4], n_pending; /* private */
    bool replace, started;
    bool per_byte; /* private */
} tlm_decoder;
void tlm_decoder_init(tlm_decoder *decoder, bool replace);
tlm_err tlm_decode(tlm_decoder *decoder, const tlm_model *model, uint32_t id, char *out, size_t cap, size_t *len);
size_t tlm_decode_end(tlm_decoder *decoder, char *out, size_t cap); /* what is left of a cut character */

uint32_t tlm_bos(const tlm_model *model); /* TLM_NO_TOKEN when there is none */
uint32_t tlm_eos(const tlm_model *model);
/* Id of the piece with exactly these bytes, or TLM_NO_TOKEN. May walk the vocabulary: not for a loop. */
uint32_t tlm_token_id(const tlm_model *model, const char *piece, size_t len);

/* ---- which ids an automaton allows --------------------------------------------------------------- */

/* The state after one more byte of text, 0 when it may not stand there. States are the caller's, 1..65535. */
typedef uint16_t (*tlm_step)(const void *ctx, uint16_t state, uint8_t byte);

/* An automaton over the text of a reply, asked about ids (a tlm_sampler's `allowed`). An id's text is what tlm_decode
 * would give, a cut character included. */
typedef struct tlm_walk {
    const tlm_model *model;
    tlm_step step;
    const void *ctx;
    uint16_t state;
    bool started;     /* as in tlm_decoder */
    uint8_t *refused; /* private: a bit a symbol */
} tlm_walk;

/* `work`: tlm_walk_work bytes (a bit a piece, or none) that stay the walk's; with less it is only slower. */
size_t tlm_walk_work(const tlm_model *model);
void tlm_walk_init(tlm_walk *walk, const tlm_model *model, tlm_step step, const void *ctx, uint16_t state, bool started,
                   void *work, size_t bytes);
/* Does the text of `id` keep the automaton alive? No for an id without text: it could go on for ever. Fast when asked in
 * rising order. */
bool tlm_walk_allows(tlm_walk *walk, uint32_t id);
/* Takes an id that was allowed. The new state, 0 when it was not. */
uint16_t tlm_walk_take(tlm_walk *walk, uint32_t id);

/* ---- sampler ------------------------------------------------------------------------------------- */

typedef struct tlm_sampling {
    float temperature; /* 0 = greedy; else finite and not subnormal */
    uint32_t top_k;    /* 0 = TLM_MAX_CANDIDATES, else 1..TLM_MAX_CANDIDATES */
    float top_p;       /* 0 < top_p <= 1 */
    float min_p;       /* 0 <= min_p < 1 */
    float repeat_penalty; /* >= 1 */
    uint32_t repeat_window; /* 0..TLM_MAX_REPEAT */
    uint64_t seed;
} tlm_sampling;
void tlm_sampling_default(tlm_sampling *sampling, const tlm_model *model); /* from the CHAT section */

/* Keeps the best candidates while rows stream in: no logits buffer. */
typedef struct tlm_sampler {
    tlm_sampling params;
    bool (*allowed)(void *ctx, uint32_t id); /* grammar mask, or NULL */
    void *allowed_ctx;
    bool want_all_logprob; /* also sum exp over the whole vocabulary: one exp a token */
    /* private */
    uint64_t rng;
    uint32_t recent[TLM_MAX_REPEAT], n_recent, recent_at;
    uint64_t rank[TLM_MAX_CANDIDATES]; /* a heap, then sorted */
    float raw[TLM_MAX_CANDIDATES], weight[TLM_MAX_CANDIDATES];
    uint32_t n, cap, index;
    float bar, all_max, all_sum;
} tlm_sampler;

typedef struct tlm_choice {
    uint32_t id;
    float logprob;       /* natural log, over the candidates (NUMERICS rule 24) */
    float logprob_all;   /* over the whole vocabulary when want_all_logprob, else 0 */
    uint32_t candidates; /* what logprob is over: ids after the mask and top-k */
} tlm_choice;

tlm_err tlm_sampler_init(tlm_sampler *sampler, const tlm_sampling *params);
/* The sink for tlm_eval; also forgets the candidates of the step before, as its first row does. One token's
 * logits at a time: it answers the interleaved chunks of several with TLM_ERR_ARG. It stops the eval with
 * TLM_ERR_NUMERIC at a candidate that is not finite. */
tlm_sink tlm_sampler_sink(tlm_sampler *sampler);
/* Adds a token to the repetition window (the prompt's too, if wanted). tlm_sample calls it for its choice. */
void tlm_sampler_accept(tlm_sampler *sampler, uint32_t id);
/* Draws from the candidates of the last sink; TLM_ERR_ARG when there are none. */
tlm_err tlm_sample(tlm_sampler *sampler, tlm_choice *choice);

#ifdef __cplusplus
}
#endif

#endif
