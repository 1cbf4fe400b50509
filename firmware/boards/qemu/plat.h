/* What the emulated machines differ in. Everything else is main.c, one source for all of them. */
#ifndef QEMU_PLAT_H
#define QEMU_PLAT_H

#include "board.h"

extern const char plat_name[], plat_chip[], plat_flash_mode[];

void plat_init(void);
size_t plat_read(uint8_t *data, size_t cap);
size_t plat_write(const uint8_t *data, size_t bytes);
uint64_t plat_clock_us(void); /* called at least once a minute: a counter of 32 bits is extended */

/* The machine's flash, from its first byte; models and settings are cut from it. */
extern const uint32_t plat_flash_bytes, plat_flash_sector;
uint8_t *plat_flash_base(void);
bool plat_flash_write(uint32_t offset, const void *data, uint32_t bytes); /* multiples of 4 */
bool plat_flash_erase(uint32_t offset); /* one sector */

/* The stack, lowest byte first. */
uint8_t *plat_stack(uint32_t *bytes);

#endif
