/* A model opened on a board's memory, its conversation, and the reply under way.
 *
 * `ids` is the truth: the tokens of the context, of which the session has evaluated the first tlm_position.
 * Whatever changes ids rewinds the session to the part that stays equal; each step evaluates one slice of the
 * rest, and when nothing is left it samples. So prefill, the next turn and a window in which room was made are
 * the same path. */
#ifndef APP_CHAT_H
#define APP_CHAT_H

#include "board.h"
#include "grammar.h"
#include "prompt.h"
#include "protocol_gen.h"
#include "reply.h"

#define CHAT_MAX_EXCHANGES 64u
#define CHAT_MIN_CONTEXT 32u /* fewer positions are no use */

/* The app's blocks in the session's memory (config.own): ids, logprob, and sink.text, at least GRAMMAR_MAX bytes. */
enum { OWN_IDS, OWN_LOGPROB, OWN_TEXT };

/* What somebody wants a reply to. */
typedef struct chat_request {
    uint8_t mode;   /* PROTO_MODE_* */
    uint32_t flags; /* PROTO_GENERATE_FLAG_*; DEFAULTS and RANDOM_SEED are settled before */
    tlm_sampling sampling;
    uint32_t max_tokens; /* 0 = as long as the window lasts */
    const void *text;
    size_t bytes;
    const uint8_t *grammar; /* of grammar.h; copied */
    size_t grammar_bytes;   /* 0 = any reply */
} chat_request;

typedef enum chat_event {
    CHAT_NOTHING,
    CHAT_PROGRESS, /* chat.progress */
    CHAT_TOKEN,    /* chat.token */
    CHAT_DONE      /* chat.done */
} chat_event;

typedef struct chat {
    /* the model */
    bool open;
    tlm_model model;
    tlm_config config;
    tlm_session session;
    size_t memory_used;
    bool work_in_pages; /* sink.work lies in the session's idle pages */
    uint32_t forgotten; /* tokens that gave it their pages and are not counted as reread yet */
    prompt_template prompt;
    prompt_sink sink;
    uint32_t *ids;  /* [config.context + 1] */
    float *logprob; /* [config.context + 1], of the reply's tokens */
    /* the conversation */
    uint32_t n_ids;
    uint32_t start[CHAT_MAX_EXCHANGES]; /* where in ids each exchange begins */
    uint32_t n_exchanges;
    bool raw; /* the context is no conversation: the next turn begins a new one */
    /* the reply */
    uint64_t (*clock_us)(void *ctx);
    void *clock_ctx;
    tlm_sampler sampler;
    reply_text reply;
    grammar grammar; /* lies in the block of sink.text, which is free while a reply is written */
    uint32_t flags, max_tokens;
    uint32_t first, n_tokens; /* where in ids the reply begins; its tokens */
    uint32_t evaluate_from;   /* position before the prompt, for progress */
    bool busy, ending, any;   /* any: there is a reply to resend */
    uint8_t ending_reason;
    uint16_t ending_error;
    uint64_t began_us, first_us;
    float logprob_sum;
    uint32_t replay_at, replay_from;
    bool replaying;
    /* what the last step gave */
    proto_accepted accepted;
    proto_progress progress;
    proto_token token;
    proto_done done;
} chat;

/* A kind of cache as the protocol writes it: its type, and PROTO_KV_SCALE for each scale of a position after the first. */
static inline uint8_t chat_kv(const tlm_config *config)
{
    if (config->kv_groups == 0)
        return PROTO_AUTO;
    return (uint8_t)((uint32_t)config->kv_type + PROTO_KV_SCALE * (config->kv_groups - 1u));
}

/* PROTO_ERROR_* of a runtime error. */
uint16_t chat_error(tlm_err err);

/* Opens a blob with a cache of kind `kv` (PROTO_AUTO: i8, or i4 for a model whose keys are fitted to it and which has more
 * positions with it) and the largest context that fits the board's pieces, at most `context` (0 = the model's own).
 * Returns a PROTO_ERROR_*. The blob must stay where it is until chat_close. */
uint16_t chat_open(chat *c, const board *b, const void *blob, size_t bytes, uint8_t kv, uint32_t context,
                   uint32_t *detail);
void chat_close(chat *c);
/* Could chat_open succeed? Reads the blob, touches no session memory. */
uint16_t chat_fits(const board *b, const void *blob, size_t bytes, uint8_t kv, uint32_t *detail);
/* Does this kind of cache suit the open model's kv heads? */
bool chat_takes(const chat *c, uint8_t kv);

/* Gives the sink its work memory, to be called before anything is encoded: where it lies in the session's idle pages, a
 * full context loses its last positions, which the next step evaluates again. */
void chat_work(chat *c);

void chat_reset(chat *c); /* an empty context; no reply may be under way */
/* Starts a reply; chat.accepted tells about it. On an error nothing has changed. */
uint16_t chat_begin(chat *c, const chat_request *request, uint32_t *detail);
/* One slice of prefill or one token. */
chat_event chat_step(chat *c);
/* The next step ends the reply. */
void chat_end(chat *c, uint8_t reason, uint16_t error);
/* The next steps give the events of the last reply again, from token `from` on, CHAT_DONE too if it is over. */
bool chat_resend(chat *c, uint32_t from);

#endif
