/* What the files of the app share with each other. */
#ifndef APP_PARTS_H
#define APP_PARTS_H

#include "app.h"

/* app.c */
bool app_busy(const app_t *app); /* a reply, a resend or a task is under way */
void app_status_changed(app_t *app);
uint16_t app_generate(app_t *app, app_origin origin, const chat_request *request, uint32_t *detail);
uint16_t app_settings_forget(app_t *app, uint32_t mask);
void app_sampling(const proto_settings *from, uint64_t seed, tlm_sampling *to);
uint16_t app_typed(app_t *app, const char *text, size_t bytes); /* a line of the terminal */
void app_tell(app_t *app, chat_event event); /* whoever wants to know */

/* shell.c: the protocol server */
void shell_packet(app_t *app, const uint8_t *payload, size_t bytes);
void shell_event(app_t *app, chat_event event); /* tells the host what a chat step gave */
void shell_send(app_t *app, const proto_header *to, uint8_t type, const void *message);
void shell_error(app_t *app, const proto_header *to, uint16_t code, uint32_t detail);
void shell_log(app_t *app, uint8_t level, const char *text);

/* info.c */
void info_welcome(app_t *app, const proto_header *to);
void info_is(app_t *app, const proto_header *to);

/* models.c: loading, uploading */
void models_load(app_t *app); /* the newest model that opens */
void models_unload(app_t *app);
uint16_t models_begin(app_t *app, const proto_header *to, const proto_upload_begin *m, uint32_t *detail);
uint16_t models_chunk(app_t *app, const proto_header *to, const proto_upload_chunk *m, uint32_t *detail);
uint16_t models_query(app_t *app, const proto_header *to);
uint16_t models_verify(app_t *app, const proto_header *to, uint32_t *detail);
void models_verify_step(app_t *app);
uint16_t models_check(app_t *app, uint32_t *detail); /* would the uploaded blob run here? */
uint16_t models_activate(app_t *app, uint32_t *detail);
uint16_t models_abort(app_t *app);
uint16_t models_slot(app_t *app, const proto_header *to, uint8_t slot);

/* selfcheck.c */
typedef struct logit_digest {
    uint32_t crc[TLM_MAX_BATCH], best[TLM_MAX_BATCH];
    float logit[TLM_MAX_BATCH];
} logit_digest;
tlm_sink digest_sink(logit_digest *digest);
uint32_t selfcheck_boot(const board *b);  /* arithmetic and golden models, before a model is loaded */
uint32_t selfcheck_model(app_t *app); /* kernels against the reference kernels, with the model just opened */
uint16_t probe_begin(app_t *app, const proto_header *to, const proto_probe *m);
void probe_step(app_t *app);

/* terminal.c: a person at a plain terminal */
void terminal_hello(app_t *app);
void terminal_byte(app_t *app, uint8_t byte);
bool terminal_step(app_t *app); /* takes a line that waits; true: there are more */
void terminal_event(app_t *app, chat_event event);
void terminal_quiet(app_t *app); /* frames came: what was typed is no line */

#endif
