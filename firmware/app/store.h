/* Model slots in flash.
 *
 * A slot is one sector of bookkeeping, then the blob. The bookkeeping sector holds, each written once after an
 * erase: the upload record (what is coming), one word per finished block (how far it came), and the header (this
 * slot is a model), written last. A power cut at any byte therefore leaves every other slot as it was, and this
 * one either empty, resumable or complete. At boot the valid header with the highest sequence number wins.
 *
 * A blob larger than a slot begins in slot 0 and takes the others too: they are empty from its begin on. */
#ifndef APP_STORE_H
#define APP_STORE_H

#include "board.h"
#include "protocol_gen.h"
#include "sha256.h"

#define STORE_MAX_SLOTS 2u
#define STORE_HEADER_MAGIC 0x31534d54u /* "TMS1": how a slot with a model begins; any other begins erased */

typedef struct store_slot {
    uint8_t state;    /* PROTO_SLOT_STATE_* without ACTIVE */
    uint32_t size;    /* bytes of the blob, stored or announced */
    uint32_t offset;  /* of an upload: bytes written so far */
    uint32_t sequence; /* of a stored model */
    uint8_t sha[32];
} store_slot;

typedef struct store {
    const board_flash *flash; /* NULL: no store */
    uint32_t slot_bytes, block_bytes;
    uint8_t slots;
    uint8_t upload; /* slot of the upload under way, or PROTO_AUTO */
    store_slot slot[STORE_MAX_SLOTS];
    const void *address[STORE_MAX_SLOTS]; /* of a mapped slot, else NULL */
    sha256 sha; /* of a verify under way */
    uint32_t hashed;
} store;

/* Reads the bookkeeping of all slots. `flash` may be NULL. */
void store_init(store *s, const board_flash *flash, uint8_t slots);
uint32_t store_capacity(const store *s); /* largest blob of a slot */
bool store_spans(const store *s, uint32_t size); /* a blob of that size takes all slots */
/* The slot to boot from: the highest sequence below `below`, or PROTO_AUTO. Start with 0xFFFFFFFF. */
uint8_t store_newest(const store *s, uint32_t below);
/* Address of a slot's blob, or NULL. */
const void *store_map(store *s, uint8_t slot);
void store_unmap(store *s, uint8_t slot);

/* The functions below return a PROTO_ERROR_*. `*detail` is for the error message. */

/* The slot that an upload of `size` bytes to `wanted` (or PROTO_AUTO) uses; `used` is the slot of the model in use,
 * which must be given up before store_begin where it is the one chosen or the blob spans all slots. */
uint16_t store_choose(const store *s, uint8_t wanted, uint8_t used, uint32_t size, uint8_t *slot, uint32_t *detail);
uint16_t store_begin(store *s, uint8_t slot, uint32_t size, const uint8_t sha[32]);
/* `data` may lie at any address. */
uint16_t store_chunk(store *s, uint32_t offset, uint32_t crc, const void *data, uint32_t bytes, uint32_t *detail);
/* Hashes the upload a few KB at a time: true when it is through, `*error` then says how it went. The slot stays
 * COMPLETE: who has checked the blob itself too sets it VERIFIED. */
bool store_hash_begin(store *s, uint16_t *error, uint32_t *detail);
bool store_hash_step(store *s, uint16_t *error);
uint16_t store_activate(store *s); /* writes the header of a VERIFIED upload */
uint16_t store_erase(store *s, uint8_t slot); /* forgets what the slot holds */

#endif
