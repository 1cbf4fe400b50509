"""BlobContent -> bytes -> file. Deterministic: equal content gives equal bytes."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from ..files import replacing
from ..quant import QTensor
from ..spec import LAYER_TENSORS, MODEL_TENSORS, LayerSpec, ModelSpec, layer_name
from . import head, schema
from .content import BlobContent, ChatSpec, check, fail, reading_order, rope_turns
from .schema import ALIGN, NO_TENSOR, Feature, Section, TensorType, round_up

__all__ = ["BlobContent", "ChatSpec", "build", "stored_tensors", "write"]


def build(content: BlobContent) -> bytes:
    """The bytes of a blob; BlobError when `content` breaks a rule of the format."""
    check(content)
    stored = stored_tensors(content)
    ids = {name: i for i, name in enumerate(stored)}
    sections: list[tuple[Section, bytes]] = [(Section.SPEC, _pack_spec(content.spec, ids))]
    optional = (content.tokenizer, content.chat, content.info or None, content.head)
    at = _first_section(3 + sum(part is not None for part in optional))
    tensors_at = round_up(at + len(sections[0][1]), ALIGN)
    tensors = [*stored.values(), *(content.head.tensors if content.head is not None else ())]
    data_at = round_up(tensors_at + schema.TENSOR.size * len(tensors), ALIGN)
    records, data = _pack_tensors(tensors, data_at)
    sections += [(Section.TENSORS, records), (Section.DATA, data)]
    if content.tokenizer is not None:
        sections.append((Section.TOKENIZER, content.tokenizer))
    if content.chat is not None:
        sections.append((Section.CHAT, _pack_chat(content.chat)))
    if content.info:
        sections.append((Section.INFO, _pack_info(content.info)))
    if content.head is not None:
        sections.append((Section.HEAD, head.pack(content.head)))
    return _assemble(sections)


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all. OSError passes through."""
    with replacing(path) as aside:
        aside.write_bytes(data)


def _first_section(n_sections: int) -> int:
    return round_up(schema.HEADER.size + n_sections * schema.SECTION.size, ALIGN)


def stored_tensors(content: BlobContent) -> dict[str, QTensor]:
    """Name -> tensor in the order of the blob's records, the RoPE turns among them."""
    stored: dict[str, QTensor] = {}
    for name, _ in reading_order(content.spec):
        if name == "rope_turns":
            turns = rope_turns(content.spec.rope_freqs)[None, :]
            stored[name] = QTensor(TensorType.U32, 1, turns.shape[1], codes=turns)
        elif name in content.tensors:
            stored[name] = content.tensors[name]
    return stored


def _pack_spec(spec: ModelSpec, ids: Mapping[str, int]) -> bytes:
    values: dict[str, Any] = {name: ids.get(name, NO_TENSOR) for name in (*MODEL_TENSORS, "rope_turns")}
    values |= {"head": ids.get("tok_embed" if spec.tied else "head", NO_TENSOR), "n_layers": len(spec.layers)}
    values |= {name: getattr(spec, name) for name in ("dim", "n_heads", "head_dim", "vocab", "context", "rope_dims")}
    values |= {name: getattr(spec, name) for name in ("norm_kind", "pos_kind", "act", "input_quant")}
    values |= {"norm_eps": spec.norm_eps, "attn_scale": spec.attn_scale}
    layers = (_pack_layer(i, layer, ids) for i, layer in enumerate(spec.layers))
    return schema.SPEC.pack(values) + b"".join(layers)


def _pack_layer(index: int, layer: LayerSpec, ids: Mapping[str, int]) -> bytes:
    values: dict[str, Any] = {part: ids.get(layer_name(index, part), NO_TENSOR) for part in LAYER_TENSORS}
    values |= {name: getattr(layer, name) for name in ("window", "n_kv_heads", "ffn_dim", "ffn_kind")}
    return schema.LAYER.pack(values)


def _pack_tensors(tensors: Any, data_at: int) -> tuple[bytes, bytes]:
    """The tensor records, and the DATA section that starts at byte `data_at` of the file."""
    records, data = bytearray(), bytearray()
    for t in tensors:
        data += bytes(-len(data) % ALIGN)
        packed = t.pack()
        where = {"offset": data_at + len(data), "bytes": len(packed)}
        if where["offset"] + len(packed) > 0xFFFFFFFF - 2 * ALIGN:
            raise fail("the weights take more than 4 GB")
        records += schema.TENSOR.pack({"type": t.kind, "rows": t.rows, "cols": t.cols, "scale": t.scale, **where})
        data += packed
    return bytes(records), bytes(data + bytes(schema.TAIL_ZEROS))


def _pack_chat(chat: ChatSpec) -> bytes:
    strings = [getattr(chat, name).encode() for name in schema.CHAT_STRINGS] + [s.encode() for s in chat.stop_strings]
    values = {field.name: getattr(chat, field.name, 0) for field in schema.CHAT.fields}
    record = schema.CHAT.pack({**values, "n_stop_ids": len(chat.stop_ids), "n_strings": len(strings)})
    ids = struct.pack(f"<{len(chat.stop_ids)}I", *chat.stop_ids)
    return record + ids + b"".join(struct.pack("<H", len(s)) + s for s in strings)


def _pack_info(info: Mapping[str, str]) -> bytes:
    pairs = sorted((key.encode(), value.encode()) for key, value in info.items())
    return b"".join(key + b"\0" + value + b"\0" for key, value in pairs)


def _assemble(sections: list[tuple[Section, bytes]]) -> bytes:
    at = _first_section(len(sections))
    table, body = bytearray(), bytearray()
    for kind, data in sections:
        body += bytes(-len(body) % ALIGN)
        table += schema.SECTION.pack({"kind": kind, "offset": at + len(body), "bytes": len(data)})
        body += data
    file_bytes = at + len(body)
    if file_bytes > 0xFFFFFFFF:
        raise fail("the blob would take more than 4 GB")
    values = {
        "magic": tuple(schema.MAGIC),
        "version_major": schema.VERSION_MAJOR,
        "version_minor": schema.VERSION_MINOR,
        "file_bytes": file_bytes,
        "n_sections": len(sections),
        "required_features": Feature.CERTIFIED_HEAD if sections[-1][0] is Section.HEAD else 0,
    }
    head = schema.HEADER.pack({**values, "crc32": 0}) + table
    rest = head[schema.CRC_START :] + bytes(at - len(head)) + body
    return schema.HEADER.pack({**values, "crc32": zlib.crc32(rest)})[: schema.CRC_START] + rest
