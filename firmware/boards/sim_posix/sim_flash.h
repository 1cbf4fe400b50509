/* NOR flash in memory: erasing sets bits, writing clears them, and the power can be cut after any byte. */
#ifndef SIM_FLASH_H
#define SIM_FLASH_H

#include "board.h"

typedef struct sim_flash {
    board_flash flash;
    uint8_t *bytes;
    uint64_t work;  /* bytes written so far; an erase counts SIM_ERASE_WORK */
    uint64_t cut;   /* the power goes when `work` reaches it; 0 = never */
    bool off;       /* the power is gone: nothing works until sim_flash_power */
    bool misused;   /* mapped bytes were written, or an argument broke the contract of board_flash */
    uint32_t mapped[2][2]; /* offset and bytes of the mappings held */
} sim_flash;

#define SIM_ERASE_WORK 8u

/* `bytes` is the caller's memory of `size` bytes. */
void sim_flash_init(sim_flash *f, uint8_t *bytes, uint32_t size, uint32_t erase_bytes);
/* Power comes back; it goes again after `cut` more bytes of work (0 = never). Mappings are forgotten. */
void sim_flash_power(sim_flash *f, uint64_t cut);

#endif
