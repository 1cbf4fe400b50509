#include "store.h"

#include <string.h>

#include "frame.h"

#define UPLOAD_MAGIC 0x31554d54u /* "TMU1" */
#define HEADER_AT 0u
#define UPLOAD_AT 128u
#define BLOCKS_AT 256u
#define MIN_BLOCK 16384u
#define HASH_STEP 8192u

/* Both records of the bookkeeping sector; `sequence` is 0 in an upload record. */
typedef struct record {
    uint32_t magic, sequence, size;
    uint8_t sha[32];
    uint32_t crc;
} record;
typedef char record_size[sizeof(record) == 48 ? 1 : -1];

static uint32_t base(const store *s, uint8_t slot)
{
    return slot * s->slot_bytes;
}

static uint32_t blob_at(const store *s, uint8_t slot)
{
    return base(s, slot) + s->flash->erase_bytes;
}

uint32_t store_capacity(const store *s)
{
    return s->flash != NULL ? s->slot_bytes - s->flash->erase_bytes : 0;
}

/* Bytes of the largest blob that begins in this slot. */
static uint32_t room(const store *s, uint8_t slot)
{
    return slot == 0 ? s->slots * s->slot_bytes - s->flash->erase_bytes : store_capacity(s);
}

bool store_spans(const store *s, uint32_t size)
{
    return size > store_capacity(s);
}

static bool read_record(const store *s, uint8_t n, uint32_t at, uint32_t magic, record *r)
{
    return s->flash->read(s->flash->ctx, base(s, n) + at, r, sizeof *r) && r->magic == magic &&
           r->crc == app_crc32(0, r, sizeof *r - 4u) && r->size > 0 && r->size <= room(s, n);
}

static bool write_record(const store *s, uint8_t n, uint32_t at, uint32_t magic, uint32_t sequence)
{
    const store_slot *slot = &s->slot[n];
    record r, back;
    r.magic = magic;
    r.sequence = sequence;
    r.size = slot->size;
    memcpy(r.sha, slot->sha, sizeof r.sha);
    r.crc = app_crc32(0, &r, sizeof r - 4u);
    return s->flash->write(s->flash->ctx, base(s, n) + at, &r, sizeof r) && read_record(s, n, at, magic, &back) &&
           memcmp(&r, &back, sizeof r) == 0;
}

/* Bytes of the blocks that were finished before the power went. */
static uint32_t blocks_done(const store *s, uint8_t slot, uint32_t size)
{
    uint32_t word, done = 0;
    for (uint32_t i = 0; done < size; i++, done += s->block_bytes)
        if (!s->flash->read(s->flash->ctx, base(s, slot) + BLOCKS_AT + 4u * i, &word, sizeof word) || word != 0)
            break;
    return done < size ? done : size;
}

static void read_slot(store *s, uint8_t n)
{
    store_slot *slot = &s->slot[n];
    record r;
    memset(slot, 0, sizeof *slot);
    if (read_record(s, n, HEADER_AT, STORE_HEADER_MAGIC, &r)) {
        slot->state = PROTO_SLOT_STATE_STORED;
        slot->sequence = r.sequence;
        slot->offset = r.size;
    } else if (read_record(s, n, UPLOAD_AT, UPLOAD_MAGIC, &r)) {
        slot->offset = blocks_done(s, n, r.size);
        slot->state = slot->offset == r.size ? PROTO_SLOT_STATE_COMPLETE : PROTO_SLOT_STATE_PARTIAL;
        s->upload = n;
    } else {
        return;
    }
    slot->size = r.size;
    memcpy(slot->sha, r.sha, sizeof r.sha);
}

void store_init(store *s, const board_flash *flash, uint8_t slots)
{
    memset(s, 0, sizeof *s);
    s->upload = PROTO_AUTO;
    if (flash == NULL || slots == 0)
        return;
    s->flash = flash;
    s->slots = slots < STORE_MAX_SLOTS ? slots : STORE_MAX_SLOTS;
    s->slot_bytes = flash->bytes / s->slots / flash->erase_bytes * flash->erase_bytes;
    s->block_bytes = flash->erase_bytes > MIN_BLOCK ? flash->erase_bytes : MIN_BLOCK;
    while (s->slots * s->slot_bytes / s->block_bytes >= (flash->erase_bytes - BLOCKS_AT) / 4u)
        s->block_bytes *= 2u;
    for (uint8_t n = 0; n < s->slots && !store_spans(s, s->slot[0].size); n++)
        read_slot(s, n);
}

uint8_t store_newest(const store *s, uint32_t below)
{
    uint8_t best = PROTO_AUTO;
    for (uint8_t n = 0; n < s->slots; n++) {
        const store_slot *slot = &s->slot[n];
        if (slot->state == PROTO_SLOT_STATE_STORED && slot->sequence < below &&
            (best == PROTO_AUTO || slot->sequence > s->slot[best].sequence))
            best = n;
    }
    return best;
}

const void *store_map(store *s, uint8_t slot)
{
    if (slot >= s->slots)
        return NULL;
    if (s->address[slot] == NULL)
        s->address[slot] = s->flash->map(s->flash->ctx, blob_at(s, slot), s->slot[slot].size);
    return s->address[slot];
}

void store_unmap(store *s, uint8_t slot)
{
    if (slot >= s->slots || s->address[slot] == NULL)
        return;
    s->flash->unmap(s->flash->ctx, s->address[slot]);
    s->address[slot] = NULL;
}

/* ---- upload ---------------------------------------------------------------------------------------- */

/* The upload that is under way, else an empty slot, else that of the oldest model; never the one in use, where there is
 * another. */
static uint8_t spare(const store *s, uint8_t used)
{
    uint8_t best = s->upload;
    for (uint8_t n = 0; n < s->slots; n++)
        if (n != used && (best == PROTO_AUTO || s->slot[n].sequence < s->slot[best].sequence))
            best = n;
    return best;
}

uint16_t store_choose(const store *s, uint8_t wanted, uint8_t used, uint32_t size, uint8_t *slot, uint32_t *detail)
{
    if (s->flash == NULL)
        return PROTO_ERROR_STORE_READ_ONLY;
    const bool alone = s->slots == 1 || store_spans(s, size) || store_spans(s, s->slot[0].size);
    if (wanted == PROTO_AUTO)
        wanted = alone ? 0 : spare(s, used);
    if (wanted >= s->slots || (alone ? wanted != 0 : wanted == used))
        return PROTO_ERROR_STORE_SLOT;
    *slot = wanted;
    *detail = room(s, wanted);
    return size != 0 && size <= room(s, wanted) ? PROTO_ERROR_NONE : PROTO_ERROR_STORE_SIZE;
}

static bool same_upload(const store_slot *slot, uint32_t size, const uint8_t sha[32])
{
    return slot->state >= PROTO_SLOT_STATE_PARTIAL && slot->state <= PROTO_SLOT_STATE_VERIFIED && slot->size == size &&
           memcmp(slot->sha, sha, 32) == 0;
}

uint16_t store_begin(store *s, uint8_t n, uint32_t size, const uint8_t sha[32])
{
    store_slot *slot = &s->slot[n];
    if (same_upload(slot, size, sha)) {
        s->upload = n;
        return PROTO_ERROR_NONE;
    }
    uint16_t error = store_erase(s, n);
    for (uint8_t i = 1; i < s->slots && store_spans(s, size) && error == PROTO_ERROR_NONE; i++)
        error = store_erase(s, i);
    if (error != PROTO_ERROR_NONE)
        return error;
    slot->size = size;
    memcpy(slot->sha, sha, sizeof slot->sha);
    if (!write_record(s, n, UPLOAD_AT, UPLOAD_MAGIC, 0))
        return PROTO_ERROR_STORE_FLASH;
    slot->state = PROTO_SLOT_STATE_PARTIAL;
    s->upload = n;
    return PROTO_ERROR_NONE;
}

/* Erases each sector whose first byte lies in offset..offset+bytes: chunks come in order, so that a sector is
 * erased once, just before its first byte is written. */
static bool erase_ahead(const store *s, uint32_t offset, uint32_t bytes)
{
    const uint32_t sector = s->flash->erase_bytes;
    for (uint32_t at = (offset + sector - 1u) / sector * sector; at < offset + bytes; at += sector)
        if (!s->flash->erase(s->flash->ctx, blob_at(s, s->upload) + at, sector))
            return false;
    return true;
}

/* Writes whole words, the last one padded with 0xFF, and compares what flash reads back. */
static bool write_checked(const store *s, uint32_t offset, const uint8_t *data, uint32_t bytes, uint32_t crc)
{
    uint32_t words[128], back = 0;
    const uint32_t at = blob_at(s, s->upload) + offset;
    for (uint32_t done = 0, n; done < bytes; done += n) {
        n = bytes - done < sizeof words ? bytes - done : (uint32_t)sizeof words;
        const uint32_t whole = (n + 3u) & ~3u;
        memset(words, 0xFF, sizeof words);
        memcpy(words, data + done, n);
        if (!s->flash->write(s->flash->ctx, at + done, words, whole) ||
            !s->flash->read(s->flash->ctx, at + done, words, whole))
            return false;
        back = app_crc32(back, words, n);
    }
    return back == crc;
}

/* Notes every block that `offset` has passed, so that a resume after a power cut can begin there. */
static bool note_blocks(const store *s, uint32_t before, uint32_t offset, uint32_t size)
{
    const uint32_t zero = 0;
    for (uint32_t i = before / s->block_bytes; i * s->block_bytes < size; i++) {
        const uint32_t end = (i + 1u) * s->block_bytes < size ? (i + 1u) * s->block_bytes : size;
        if (offset < end)
            break;
        if (!s->flash->write(s->flash->ctx, base(s, s->upload) + BLOCKS_AT + 4u * i, &zero, sizeof zero))
            return false;
    }
    return true;
}

uint16_t store_chunk(store *s, uint32_t offset, uint32_t crc, const void *data, uint32_t bytes, uint32_t *detail)
{
    if (s->upload == PROTO_AUTO)
        return PROTO_ERROR_STORE_NOT_BEGUN;
    store_slot *slot = &s->slot[s->upload];
    *detail = slot->offset;
    if (crc != app_crc32(0, data, bytes))
        return PROTO_ERROR_STORE_CRC;
    if (offset < slot->offset || (offset == slot->offset && bytes == 0))
        return PROTO_ERROR_NONE; /* sent again: its answer was lost */
    if (offset > slot->offset || bytes > slot->size - offset)
        return PROTO_ERROR_STORE_OFFSET;
    if (bytes % 16u != 0 && offset + bytes != slot->size)
        return PROTO_ERROR_BAD_MESSAGE;
    if (!erase_ahead(s, offset, bytes) || !write_checked(s, offset, data, bytes, crc))
        return PROTO_ERROR_STORE_FLASH;
    slot->offset = offset + bytes;
    *detail = slot->offset;
    if (!note_blocks(s, offset, slot->offset, slot->size))
        return PROTO_ERROR_STORE_FLASH;
    if (slot->offset == slot->size)
        slot->state = PROTO_SLOT_STATE_COMPLETE;
    return PROTO_ERROR_NONE;
}

bool store_hash_begin(store *s, uint16_t *error, uint32_t *detail)
{
    *error = PROTO_ERROR_STORE_NOT_BEGUN;
    if (s->upload == PROTO_AUTO)
        return false;
    *detail = s->slot[s->upload].offset;
    *error = PROTO_ERROR_STORE_INCOMPLETE;
    if (s->slot[s->upload].state < PROTO_SLOT_STATE_COMPLETE)
        return false;
    sha256_init(&s->sha);
    s->hashed = 0;
    *error = PROTO_ERROR_NONE;
    return true;
}

bool store_hash_step(store *s, uint16_t *error)
{
    const store_slot *slot = &s->slot[s->upload];
    uint8_t buffer[256], digest[32];
    for (uint32_t step = 0; step < HASH_STEP && s->hashed < slot->size; step += (uint32_t)sizeof buffer) {
        const uint32_t left = slot->size - s->hashed;
        const uint32_t n = left < sizeof buffer ? left : (uint32_t)sizeof buffer;
        if (!s->flash->read(s->flash->ctx, blob_at(s, s->upload) + s->hashed, buffer, n)) {
            *error = PROTO_ERROR_STORE_FLASH;
            return true;
        }
        sha256_add(&s->sha, buffer, n);
        s->hashed += n;
    }
    if (s->hashed < slot->size)
        return false;
    sha256_end(&s->sha, digest);
    *error = memcmp(digest, slot->sha, sizeof digest) == 0 ? PROTO_ERROR_NONE : PROTO_ERROR_STORE_HASH;
    return true;
}

uint16_t store_activate(store *s)
{
    if (s->upload == PROTO_AUTO)
        return PROTO_ERROR_STORE_NOT_BEGUN;
    store_slot *slot = &s->slot[s->upload];
    if (slot->state != PROTO_SLOT_STATE_VERIFIED)
        return PROTO_ERROR_STORE_NOT_VERIFIED;
    uint32_t sequence = 1;
    for (uint8_t n = 0; n < s->slots; n++)
        if (s->slot[n].state == PROTO_SLOT_STATE_STORED && s->slot[n].sequence >= sequence)
            sequence = s->slot[n].sequence + 1u;
    if (!write_record(s, s->upload, HEADER_AT, STORE_HEADER_MAGIC, sequence))
        return PROTO_ERROR_STORE_FLASH;
    slot->state = PROTO_SLOT_STATE_STORED;
    slot->sequence = sequence;
    s->upload = PROTO_AUTO;
    return PROTO_ERROR_NONE;
}

/* A blob that spans all slots goes from the head of each: its bytes there are not to pass for a header. */
uint16_t store_erase(store *s, uint8_t n)
{
    const uint8_t end = store_spans(s, s->slot[n].size) ? s->slots : (uint8_t)(n + 1u);
    bool ok = true;
    for (; n < end; n++) {
        store_unmap(s, n);
        if (s->upload == n)
            s->upload = PROTO_AUTO;
        memset(&s->slot[n], 0, sizeof s->slot[n]);
        ok = s->flash->erase(s->flash->ctx, base(s, n), s->flash->erase_bytes) && ok;
    }
    return ok ? PROTO_ERROR_NONE : PROTO_ERROR_STORE_FLASH;
}
