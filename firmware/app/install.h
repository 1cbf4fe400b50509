/* A model from a file of the board's own (a memory card) into the store, a piece a step, resumed after a power cut. */
#ifndef APP_INSTALL_H
#define APP_INSTALL_H

#include "app.h"

typedef struct install_source {
    void *ctx;
    /* Bytes from `offset` on; false: the medium failed. */
    bool (*read)(void *ctx, uint32_t offset, void *data, uint32_t bytes);
    uint32_t bytes;
} install_source;

typedef enum install_phase { INSTALL_IDLE, INSTALL_HASH, INSTALL_WRITE, INSTALL_VERIFY } install_phase;

typedef struct install {
    install_source source;
    install_phase phase;
    uint32_t at; /* bytes of this phase that are done */
    uint8_t slot;
    sha256 hash;
    uint8_t digest[32];
} install;

void install_begin(install *i, const install_source *source);
/* Some milliseconds of work. When the phase is INSTALL_IDLE again it is over: with PROTO_ERROR_NONE the model is in
 * use. An error ends it. */
uint16_t install_step(install *i, app_t *app);

#endif
