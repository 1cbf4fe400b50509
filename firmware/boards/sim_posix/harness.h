/* The simulator as a library for tests: bytes in, bytes out, a clock that the test moves, flash whose power it
 * cuts. Calls come from one thread. */
#ifndef SIM_HARNESS_H
#define SIM_HARNESS_H

#include "sim_board.h"

typedef struct harness harness;

/* `blob` is a fixed model, or `flash` holds flash_bytes for models and SIM_SETTINGS_BYTES after them; either may be
 * NULL, and stays the caller's. memory and context 0: the simulator's own. */
harness *sim_new(const uint8_t *blob, size_t bytes, uint8_t *flash, uint32_t flash_bytes, uint8_t slots, uint32_t memory,
                 uint32_t context, const char *kv);
void sim_free(harness *h);
/* Power on. It goes off after so many bytes of work of the models' or the settings' flash; 0 = never. */
void sim_boot(harness *h, uint64_t random, uint64_t cut, uint64_t settings_cut);
void sim_feed(harness *h, const uint8_t *data, size_t bytes);
size_t sim_take(harness *h, uint8_t *data, size_t cap);
int sim_step(harness *h); /* not 0: there is more to do */
void sim_advance(harness *h, uint64_t us);
uint16_t sim_session(const harness *h);
uint64_t sim_flash_work(const harness *h);
int sim_state(const harness *h); /* bit 0: power is off, 1: flash was misused, 2: reboot wanted, 3: busy */

#endif
