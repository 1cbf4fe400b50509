/* Settings kept across power cycles: a log of records in two or more flash sectors.
 *
 * A record is appended; when a sector is full the next one is erased and takes over. The newest record with a
 * good CRC wins, so that a power cut at any byte leaves the settings before it. Wear: one erase of each sector
 * in sectors * records-a-sector changes. */
#ifndef APP_SETTINGS_H
#define APP_SETTINGS_H

#include "board.h"
#include "protocol_gen.h"

typedef struct settings_store {
    const board_flash *flash; /* NULL: settings last until power off */
    uint32_t next;            /* offset of the next free record, or the region's end */
    uint32_t sequence;
} settings_store;

/* Reads the newest settings; where there are none, `values` has an empty mask. Returns false when the region
 * holds records but none is whole. */
bool settings_load(settings_store *store, const board_flash *flash, proto_settings *values);
/* Appends `values`. false: not stored (no region, or flash failed). */
bool settings_save(settings_store *store, const proto_settings *values);
/* Copies the fields of `mask` from one to the other. */
void settings_merge(proto_settings *to, const proto_settings *from, uint32_t mask);
/* True when every field of `mask` is in its range. */
bool settings_valid(const proto_settings *values, uint32_t mask);

#endif
