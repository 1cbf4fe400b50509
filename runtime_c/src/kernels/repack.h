/* The repacked form that the x86 backends share: `rows` rows to a group, 4 columns of a row to a 32-bit lane.
 *
 * For each group: [blocks of 32 columns], each [rows f16 scales (q4_0, q8_0)][vectors of 4*rows bytes]. q8_0 has 8
 * vectors of 4 columns; q4_0, t2 and t1 have 4, vector v with columns 4v.. in low and 16+4v.. in high nibbles. Nibble codes
 * are unsigned: value + 8 (q4_0), value + 1 (t2, t1). q8_0 codes are value + `bias8`. Pad rows and columns hold value 0. */
#ifndef TLM_REPACK_H
#define TLM_REPACK_H

#include "tlm_kernels.h"

typedef struct tlm_repack_shape {
    uint32_t blocks, vectors, scale_bytes;
    size_t block_bytes;
} tlm_repack_shape;

tlm_repack_shape tlm_repack_shape_of(const tlm_weight *w, uint32_t rows);
/* 0 for types that stay in place. */
size_t tlm_repack_bytes(const tlm_weight *w, uint32_t rows);
void tlm_repack(const tlm_weight *w, uint32_t rows, uint8_t bias8, void *out);
/* First group of a call that starts at tile `tile`: a group belongs to the tile range in which it begins. */
uint32_t tlm_repack_group(const tlm_weight *w, uint32_t rows, uint32_t tile);

#endif
