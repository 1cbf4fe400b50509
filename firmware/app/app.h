/* The firmware: serial protocol, plain terminal, chat, model store, settings. One static app_t, no heap.
 *
 *   static app_t app;
 *   app_init(&app, &board);
 *   for (;;) { if (!app_step(&app)) sleep until a byte comes or a millisecond is over; }
 *
 * A step never blocks: it moves bytes, handles at most one request and does one token, one slice of prefill or
 * one piece of an upload. A board feeds its watchdog between steps. */
#ifndef APP_H
#define APP_H

#include "board.h"
#include "chat.h"
#include "protocol.h"
#include "settings.h"
#include "store.h"

#define APP_FIRMWARE "tlm-firmware 0.1.0"
#define APP_ROOM 2300u /* bytes of output room that the largest answer needs */
#define APP_LINE 512u  /* bytes of typed lines that wait */
#define APP_INPUT 64u

typedef enum app_origin { APP_HOST, APP_TERMINAL, APP_BOARD } app_origin;
typedef enum app_task { APP_NO_TASK, APP_PROBE, APP_VERIFY } app_task;

typedef struct app_t {
    const board *board;
    /* the line */
    frame_rx rx;
    frame_tx tx;
    uint8_t input[APP_INPUT];
    size_t input_at, input_n;
    uint64_t input_us, frame_us, silent_us, sent_us;
    bool frame_seen, silent;
    proto_request request;
    /* sessions */
    uint16_t session, hello_request;
    bool greeted, hello_repeats;
    /* the reply under way or last */
    app_origin origin;
    proto_header reply_to; /* of the host's generate; request 0 = none */
    /* a longer request */
    app_task task;
    proto_header task_for;
    uint32_t probe_at, task_shown;
    /* the model */
    chat chat;
    store store;
    uint8_t model_state; /* PROTO_MODEL_STATE_* */
    uint16_t model_error;
    uint8_t slot; /* in use, or PROTO_AUTO */
    bool activated;
    uint32_t selfcheck;
    uint64_t booted_us;
    /* settings: what was set, in `mask`; defaults come from model and board */
    settings_store settings_store;
    proto_settings settings;
    bool settings_stored;
    /* plain terminal */
    char line[APP_LINE];
    size_t line_n;
    uint32_t lines; /* finished ones in it */
    bool line_dirty, line_long, line_return;
    bool rebooting;
} app_t;

void app_init(app_t *app, const board *b);
/* True: there is more to do at once. */
bool app_step(app_t *app);

/* From the board's own keys. */
uint16_t app_say(app_t *app, const char *text, size_t bytes); /* starts a reply; PROTO_ERROR_* */
void app_stop(app_t *app);
void app_new(app_t *app); /* a new conversation */
/* Settings in force, `mask` = those that were set; and a change of some of them. */
void app_settings(const app_t *app, proto_settings *out);
uint16_t app_settings_set(app_t *app, const proto_settings *values, uint32_t mask);
void app_status(const app_t *app, ui_status *status);

#endif
