#include "protocol.h"

#include <string.h>

typedef struct field_row {
    uint8_t kind;
    uint16_t offset;
} field_row;

typedef struct message_row {
    uint8_t type, n_fields;
    uint16_t first;
} message_row;

typedef struct error_row {
    uint16_t code;
    const char *text;
} error_row;

static const field_row fields[] = PROTO_FIELDS_INIT;
static const message_row messages[] = PROTO_MESSAGES_INIT;
static const error_row errors[] = PROTO_ERRORS_INIT;

static const message_row *find(uint8_t type)
{
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++)
        if (messages[i].type == type)
            return &messages[i];
    return NULL;
}

bool proto_known(uint8_t type)
{
    return find(type) != NULL;
}

static size_t scalar_bytes(uint8_t kind)
{
    switch (kind) {
    case PROTO_KIND_U8:
        return 1;
    case PROTO_KIND_U16:
        return 2;
    case PROTO_KIND_U64:
        return 8;
    default:
        return 4;
    }
}

static bool is_span(uint8_t kind)
{
    return kind == PROTO_KIND_SPAN || kind == PROTO_KIND_IDS;
}

void proto_read_header(const uint8_t *payload, proto_header *header)
{
    header->type = payload[0];
    header->session = (uint16_t)(payload[2] | payload[3] << 8);
    header->request = (uint16_t)(payload[4] | payload[5] << 8);
}

/* Scalars are copied as they stand: the wire and every target are little-endian (checked in app.c). */
bool proto_decode(uint8_t type, const uint8_t *body, size_t bytes, void *message)
{
    const message_row *row = find(type);
    if (row == NULL)
        return false;
    for (size_t i = 0; i < row->n_fields; i++) {
        const field_row f = fields[row->first + i];
        uint8_t *to = (uint8_t *)message + f.offset;
        const size_t head = is_span(f.kind) ? 2 : scalar_bytes(f.kind);
        if (bytes < head)
            return false;
        if (!is_span(f.kind)) {
            memcpy(to, body, head);
        } else {
            const proto_span span = {body + 2, (uint16_t)(body[0] | body[1] << 8)};
            if (bytes - 2u < span.len || (f.kind == PROTO_KIND_IDS && span.len % 4u != 0))
                return false;
            memcpy(to, &span, sizeof span);
            body += span.len;
            bytes -= span.len;
        }
        body += head;
        bytes -= head;
    }
    return true;
}

bool proto_send(frame_tx *tx, const proto_header *header, const void *message)
{
    const message_row *row = find(header->type);
    if (row == NULL)
        return false;
    const uint8_t head[PROTO_HEADER_BYTES] = {header->type,
                                              0,
                                              (uint8_t)header->session,
                                              (uint8_t)(header->session >> 8),
                                              (uint8_t)header->request,
                                              (uint8_t)(header->request >> 8)};
    frame_begin(tx);
    frame_put(tx, head, sizeof head);
    for (size_t i = 0; i < row->n_fields; i++) {
        const field_row f = fields[row->first + i];
        const uint8_t *from = (const uint8_t *)message + f.offset;
        if (!is_span(f.kind)) {
            frame_put(tx, from, scalar_bytes(f.kind));
            continue;
        }
        proto_span span;
        memcpy(&span, from, sizeof span);
        const uint8_t len[2] = {(uint8_t)span.len, (uint8_t)(span.len >> 8)};
        frame_put(tx, len, sizeof len);
        frame_put(tx, span.data, span.len);
    }
    return frame_end(tx);
}

const char *proto_error_text(uint16_t code)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i].code == code)
            return errors[i].text;
    return "unknown error";
}

proto_span proto_text(const char *text)
{
    const proto_span span = {text, (uint16_t)(text != NULL ? strlen(text) : 0u)};
    return span;
}
