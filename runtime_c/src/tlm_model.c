/* tlm_model_open: header, checksum, sections; then the parts, each checked by its own file. */
#include "tlm_model.h"

#include <string.h>

#include "tlm_math.h"
#include "tlm_tok.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "blobs are little-endian and read in place"
#endif

enum { FEATURES = TLM_FEATURE_CERTIFIED_HEAD }; /* required features that this runtime has */

/* CRC-32 of zlib, four bits a step: 64 bytes of table, fast enough for megabytes on a microcontroller. */
uint32_t tlm_crc32(const uint8_t *data, size_t bytes)
{
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ table[crc & 15u];
        crc = crc >> 4 ^ table[crc & 15u];
    }
    return ~crc;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++) {
        any = (uint8_t)(any | p[i]);
    }
    return any == 0;
}

static tlm_err check_header(const uint8_t *blob, size_t bytes, const tlm_header_rec **out)
{
    static const uint8_t magic[4] = {'T', 'L', 'M', 0x1a};
    const tlm_header_rec *h = (const void *)blob;
    TLM_CHECK(TLM_ERR_TRUNCATED, bytes >= sizeof magic);
    TLM_CHECK(TLM_ERR_MAGIC, memcmp(blob, magic, sizeof magic) == 0);
    TLM_CHECK(TLM_ERR_TRUNCATED, bytes >= sizeof *h);
    TLM_CHECK(TLM_ERR_VERSION, h->version_major == TLM_VERSION_MAJOR);
    TLM_CHECK(TLM_ERR_TRUNCATED, h->file_bytes <= bytes);
    TLM_CHECK(TLM_ERR_FORMAT, h->file_bytes >= sizeof *h);
    TLM_CHECK(TLM_ERR_CRC, tlm_crc32(blob + TLM_CRC_START, h->file_bytes - TLM_CRC_START) == h->crc32);
    TLM_CHECK(TLM_ERR_VERSION, (h->required_features & ~(uint32_t)FEATURES) == 0);
    TLM_CHECK(TLM_ERR_FORMAT, all_zero((const uint8_t *)h->reserved, sizeof h->reserved));
    *out = h;
    return TLM_OK;
}

/* Where the next section or tensor starts after `end`; *zero tells whether the gap is clean. */
static uint64_t after_gap(const uint8_t *blob, uint64_t end, uint64_t limit, bool *zero)
{
    const uint64_t next = (end + (TLM_BLOB_ALIGN - 1u)) & ~(uint64_t)(TLM_BLOB_ALIGN - 1u);
    *zero = next <= limit && all_zero(blob + end, (size_t)(next - end));
    return next;
}

static tlm_err check_sections(tlm_model *m, const tlm_header_rec *h)
{
    const tlm_section_rec *table = (const void *)(m->blob + sizeof *h);
    uint64_t end = sizeof *h + (uint64_t)h->n_sections * sizeof *table;
    uint32_t last_kind = 0;
    TLM_CHECK(TLM_ERR_FORMAT, end <= m->bytes);
    for (uint32_t i = 0; i < h->n_sections; i++) {
        bool zero;
        const tlm_section_rec *s = &table[i];
        TLM_CHECK(TLM_ERR_FORMAT, s->kind > last_kind && s->reserved == 0);
        TLM_CHECK(TLM_ERR_FORMAT, s->offset == after_gap(m->blob, end, m->bytes, &zero) && zero);
        end = (uint64_t)s->offset + s->bytes;
        TLM_CHECK(TLM_ERR_FORMAT, s->bytes != 0 && end <= m->bytes);
        TLM_CHECK(TLM_ERR_FORMAT, s->kind < TLM_SECTION_LIMIT || h->version_minor > TLM_VERSION_MINOR);
        if (s->kind < TLM_SECTION_LIMIT) {
            m->section[s->kind] = m->blob + s->offset;
            m->section_bytes[s->kind] = s->bytes;
        }
        last_kind = s->kind;
    }
    TLM_CHECK(TLM_ERR_FORMAT, end == m->bytes);
    TLM_CHECK(TLM_ERR_FORMAT, m->section[TLM_SECTION_SPEC] != NULL && m->section[TLM_SECTION_TENSORS] != NULL &&
                                  m->section[TLM_SECTION_DATA] != NULL);
    TLM_CHECK(TLM_ERR_FORMAT, (m->section[TLM_SECTION_HEAD] != NULL) ==
                                  ((h->required_features & TLM_FEATURE_CERTIFIED_HEAD) != 0));
    return TLM_OK;
}

/* ---- tensors ---- */

uint64_t tlm_tensor_bytes(uint8_t type, uint32_t rows, uint32_t cols)
{
    const uint64_t np = tlm_padded(cols), blocks = (np + TLM_BLOCK - 1u) / TLM_BLOCK;
    const uint32_t tile = tlm_tile_rows(type);
    const uint64_t tiles = ((uint64_t)rows + tile - 1u) / tile;
    switch (type) {
    case TLM_TENSOR_TYPE_F16:
        return tiles * 2u * np;
    case TLM_TENSOR_TYPE_Q8_0:
        return tiles * (16u * blocks + 8u * np);
    case TLM_TENSOR_TYPE_Q4_0:
        return tiles * (16u * blocks + 4u * np);
    case TLM_TENSOR_TYPE_T2:
        return tiles * 2u * np;
    case TLM_TENSOR_TYPE_T1:
        return tiles * np;
    default: /* f32, u32 */
        return tiles * 4u * np;
    }
}

static tlm_err check_tensor_record(const tlm_tensor_rec *t)
{
    const bool ternary = t->type == TLM_TENSOR_TYPE_T2 || t->type == TLM_TENSOR_TYPE_T1;
    TLM_CHECK(TLM_ERR_FORMAT, t->type < TLM_TENSOR_TYPE_COUNT && all_zero(t->reserved, sizeof t->reserved));
    TLM_CHECK(TLM_ERR_FORMAT, t->rows >= 1u && t->cols >= 1u);
    TLM_CHECK(TLM_ERR_LIMIT, t->rows <= TLM_MAX_VOCAB && t->cols <= TLM_MAX_VOCAB);
    TLM_CHECK(TLM_ERR_LIMIT, !ternary || t->cols <= TLM_MAX_TERNARY_COLS);
    TLM_CHECK(TLM_ERR_FORMAT, t->bytes == tlm_tensor_bytes(t->type, t->rows, t->cols));
    if (ternary) {
        TLM_CHECK(TLM_ERR_WEIGHTS, tlm_bits(t->scale) < TLM_INF_BITS); /* finite and not negative */
    } else {
        TLM_CHECK(TLM_ERR_FORMAT, tlm_bits(t->scale) == tlm_bits(1.0f));
    }
    return TLM_OK;
}

/* Tensors follow one another in DATA without holes; zeros for kernels that read ahead come last. */
tlm_err tlm_check_tensors(tlm_model *m)
{
    const uint32_t bytes = m->section_bytes[TLM_SECTION_TENSORS];
    const uint64_t data = (uint64_t)(m->section[TLM_SECTION_DATA] - m->blob);
    const uint64_t limit = data + m->section_bytes[TLM_SECTION_DATA];
    uint64_t end = data;
    TLM_CHECK(TLM_ERR_FORMAT, bytes % sizeof(tlm_tensor_rec) == 0);
    m->tensors = (const void *)m->section[TLM_SECTION_TENSORS];
    m->n_tensors = (uint32_t)(bytes / sizeof(tlm_tensor_rec));
    TLM_CHECK(TLM_ERR_LIMIT, m->n_tensors <= TLM_NO_TENSOR);
    for (uint32_t i = 0; i < m->n_tensors; i++) {
        bool zero;
        const tlm_tensor_rec *t = &m->tensors[i];
        TLM_TRY(check_tensor_record(t));
        TLM_CHECK(TLM_ERR_FORMAT, t->offset == after_gap(m->blob, end, limit, &zero) && zero);
        end = (uint64_t)t->offset + t->bytes;
        TLM_CHECK(TLM_ERR_FORMAT, end + TLM_BLOB_TAIL_ZEROS <= limit);
        TLM_TRY(tlm_check_values(m, t));
    }
    TLM_CHECK(TLM_ERR_FORMAT, end + TLM_BLOB_TAIL_ZEROS == limit && all_zero(m->blob + end, TLM_BLOB_TAIL_ZEROS));
    return TLM_OK;
}

tlm_err tlm_model_open(tlm_model *m, const void *blob, size_t bytes)
{
    const tlm_header_rec *header = NULL;
    TLM_CHECK(TLM_ERR_ARG, m != NULL && blob != NULL);
    memset(m, 0, sizeof *m);
    TLM_CHECK(TLM_ERR_ALIGN, ((uintptr_t)blob & 15u) == 0);
    TLM_TRY(tlm_self_test());
    TLM_TRY(check_header(blob, bytes, &header));
    m->blob = blob;
    m->bytes = header->file_bytes;
    TLM_TRY(check_sections(m, header));
    TLM_TRY(tlm_check_spec(m));
    TLM_TRY(tlm_check_tensors(m));
    TLM_TRY(tlm_check_head(m));
    TLM_TRY(tlm_check_layers(m));
    TLM_TRY(tlm_check_chat(m));
    TLM_TRY(tlm_check_info(m));
    if (m->section[TLM_SECTION_TOKENIZER] != NULL) {
        TLM_TRY(tlm_tok_check(m));
    }
    return TLM_OK;
}
