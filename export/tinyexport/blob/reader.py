"""bytes -> BlobContent, with every check of the format, written apart from the C reader.

Nothing but BlobError comes out of `read`, whatever the bytes are; the tokenizer section is handed on unread.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, TypeVar

from .. import quant
from ..errors import BlobError, QuantError
from ..quant import QTensor
from ..spec import LAYER_TENSORS, MODEL_TENSORS, LayerSpec, ModelSpec, layer_name
from . import head, schema
from .content import TERNARY, BlobContent, ChatSpec, check, fail, reading_order, rope_freqs
from .schema import (
    ALIGN,
    NO_TENSOR,
    Act,
    ChatKind,
    Feature,
    FfnKind,
    InputQuant,
    NormKind,
    PosKind,
    Record,
    Section,
    TensorType,
    round_up,
)

_KNOWN_FEATURES = int(Feature.CERTIFIED_HEAD)
_Kind = TypeVar("_Kind", bound=int)


def read(data: bytes) -> BlobContent:
    """Everything in a blob; BlobError names what is wrong. Bytes after the blob's own length are not looked at."""
    blob, header = _checked_file(bytes(data))
    sections = _sections(blob, header)
    for kind in (Section.SPEC, Section.TENSORS, Section.DATA):
        if kind not in sections:
            raise fail(f"the section {kind.name} is missing")
    tensors = _tensors(blob, sections)
    certified = None
    if Section.HEAD in sections:
        vocab = _record(schema.SPEC, _bytes(blob, sections[Section.SPEC]))["vocab"]
        certified = head.unpack(_bytes(blob, sections[Section.HEAD]), tensors, vocab)
        tensors = tensors[: len(tensors) - len(certified.tensors)]
    spec, named = _spec(_bytes(blob, sections[Section.SPEC]), tensors)
    content = BlobContent(
        spec=spec,
        tensors=named,
        tokenizer=_bytes(blob, sections[Section.TOKENIZER]) if Section.TOKENIZER in sections else None,
        chat=_chat(_bytes(blob, sections[Section.CHAT])) if Section.CHAT in sections else None,
        info=_info(_bytes(blob, sections[Section.INFO])) if Section.INFO in sections else {},
        head=certified,
    )
    check(content)
    return content


def _record(record: Record, data: bytes, at: int = 0) -> dict[str, Any]:
    try:
        values = record.unpack(data, at)
    except ValueError as err:
        raise fail(f"the {err}") from None
    for name, value in values.items():
        if name.startswith("reserved") and any(value if isinstance(value, tuple) else (value,)):
            raise fail(f"a reserved field of the {record.name} record is not zero")
    return values


def _enum(kind: type[_Kind], value: int) -> _Kind:
    try:
        return kind(value)
    except ValueError:
        raise fail(f"{value} is no known {kind.__name__}") from None


def _checked_file(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """The blob without what follows it, and its header."""
    if data[:4] != schema.MAGIC:
        raise BlobError("this is not a .tlm blob", "make one with `tinyexport quantize`")
    if len(data) < schema.HEADER.size:
        raise BlobError("the blob is cut off inside its header", "copy or export it again")
    header = schema.HEADER.unpack(data)
    version = header["version_major"]
    if version != schema.VERSION_MAJOR:
        raise BlobError(f"the blob has format version {version}, not {schema.VERSION_MAJOR}", "export it again")
    if header["file_bytes"] > len(data):
        raise BlobError(f"the blob is cut off: {len(data)} of {header['file_bytes']} bytes", "copy or export it again")
    if header["file_bytes"] < schema.HEADER.size:
        raise fail("the blob is shorter than its header")
    blob = data[: header["file_bytes"]]
    if zlib.crc32(blob[schema.CRC_START :]) != header["crc32"]:
        raise BlobError("the blob is damaged (checksum)", "copy or export it again")
    if header["required_features"] & ~_KNOWN_FEATURES:
        raise BlobError("the blob needs a feature that this program does not have", "update tinyexport")
    return blob, _record(schema.HEADER, blob)


def _sections(blob: bytes, header: dict[str, Any]) -> dict[Section, tuple[int, int]]:
    """Kind -> (offset, bytes); the sections and zero gaps fill the file exactly."""
    end = schema.HEADER.size + header["n_sections"] * schema.SECTION.size
    if end > len(blob):
        raise fail("the section table is cut off")
    found: dict[Section, tuple[int, int]] = {}
    last_kind = 0
    for i in range(header["n_sections"]):
        row = _record(schema.SECTION, blob, schema.HEADER.size + i * schema.SECTION.size)
        kind, at, size = row["kind"], row["offset"], row["bytes"]
        if kind <= last_kind:
            raise fail("the section kinds do not ascend")
        if at != round_up(end, ALIGN) or size == 0 or at + size > len(blob):
            raise fail("a section does not follow the one before it")
        if any(blob[end:at]):
            raise fail("a gap between sections is not zero")
        last_kind, end = kind, at + size
        if kind in list(Section):
            found[Section(kind)] = (at, size)
        elif header["version_minor"] <= schema.VERSION_MINOR:
            raise fail(f"{kind} is no known kind of section")
    if end != len(blob):
        raise fail("the last section does not end the blob")
    if (Section.HEAD in found) is not bool(header["required_features"] & Feature.CERTIFIED_HEAD):
        raise fail("the certified head is missing, or there without its feature")
    return found


def _bytes(blob: bytes, where: tuple[int, int]) -> bytes:
    return blob[where[0] : where[0] + where[1]]


def _tensors(blob: bytes, sections: dict[Section, tuple[int, int]]) -> list[QTensor]:
    """All tensors in order of their records; they and zero gaps fill DATA exactly."""
    records = _bytes(blob, sections[Section.TENSORS])
    at, size = sections[Section.DATA]
    if len(records) % schema.TENSOR.size or len(records) // schema.TENSOR.size > NO_TENSOR:
        raise fail("the TENSORS section has an impossible length")
    tensors, data_end, end = [], at + size - schema.TAIL_ZEROS, at
    for record_at in range(0, len(records), schema.TENSOR.size):
        row = _record(schema.TENSOR, records, record_at)
        start = round_up(end, ALIGN)
        if row["offset"] != start or start + row["bytes"] > data_end:
            raise fail("a tensor does not follow the one before it")
        if any(blob[end:start]):
            raise fail("a gap between tensors is not zero")
        end = start + row["bytes"]
        tensors.append(_tensor(row, blob[start:end]))
    if end != data_end or any(blob[end : at + size]):
        raise fail("the DATA section does not end with the last tensor and its zero tail")
    return tensors


def _tensor(row: dict[str, Any], data: bytes) -> QTensor:
    kind = _enum(TensorType, row["type"])
    if kind not in TERNARY and row["scale"] != 1.0:
        raise fail(f"a {kind.name.lower()} tensor has a scale of its own")
    try:
        return quant.unpack(kind, data, row["rows"], row["cols"], row["scale"])
    except QuantError as err:
        raise fail(err.message) from None


def _spec(data: bytes, tensors: list[QTensor]) -> tuple[ModelSpec, dict[str, QTensor]]:
    """The architecture, and the tensors by canonical name."""
    row = _record(schema.SPEC, data)
    if row["n_layers"] > schema.MAX_LAYERS or len(data) != schema.SPEC.size + row["n_layers"] * schema.LAYER.size:
        raise fail("the SPEC section has the wrong length")
    layers = [_record(schema.LAYER, data, schema.SPEC.size + i * schema.LAYER.size) for i in range(row["n_layers"])]
    ids = {name: row[name] for name in (*MODEL_TENSORS, "rope_turns")}
    ids |= {layer_name(i, part): layer[part] for i, layer in enumerate(layers) for part in LAYER_TENSORS}
    tied = row["head"] == row["tok_embed"]
    if tied:
        del ids["head"]
    spec = _model_spec(row, layers, tied)
    named = _named(spec, ids, tensors)
    turns = named.pop("rope_turns", None)
    if (turns is None) is (spec.pos_kind is PosKind.ROPE):
        raise fail("RoPE turns are missing, or there without RoPE")
    if turns is not None:
        if turns.kind is not TensorType.U32 or (turns.rows, turns.cols) != (1, spec.rope_dims // 2):
            raise fail("the RoPE turns have the wrong type or shape")
        spec = _model_spec(row, layers, tied, rope_freqs(turns.codes[0]))
    return spec, named


def _model_spec(
    row: dict[str, Any], layers: list[dict[str, Any]], tied: bool, freqs: tuple[float, ...] = ()
) -> ModelSpec:
    kinds = [
        LayerSpec(
            n_kv_heads=layer["n_kv_heads"],
            ffn_dim=layer["ffn_dim"],
            ffn_kind=_enum(FfnKind, layer["ffn_kind"]),
            window=layer["window"],
        )
        for layer in layers
    ]
    plain = {name: row[name] for name in ("dim", "n_heads", "head_dim", "vocab", "context", "rope_dims")}
    return ModelSpec(
        **plain,
        layers=tuple(kinds),
        norm_kind=_enum(NormKind, row["norm_kind"]),
        norm_eps=row["norm_eps"],
        pos_kind=_enum(PosKind, row["pos_kind"]),
        act=_enum(Act, row["act"]),
        attn_scale=row["attn_scale"],
        rope_freqs=freqs,
        input_quant=_enum(InputQuant, row["input_quant"]),
        tied=tied,
    )


def _named(spec: ModelSpec, ids: dict[str, int], tensors: list[QTensor]) -> dict[str, QTensor]:
    """Tensors by name. Records stand in reading order, and each is used once (a tied head aside)."""
    named: dict[str, QTensor] = {}
    for name, _ in reading_order(spec):
        tensor_id = ids.pop(name, NO_TENSOR)
        if tensor_id == NO_TENSOR:
            continue
        if tensor_id != len(named) or tensor_id >= len(tensors):
            raise fail(f"the tensor id of {name} is out of order")
        named[name] = tensors[tensor_id]
    if len(named) != len(tensors):
        raise fail("a tensor belongs to nothing")
    extra = [name for name, tensor_id in ids.items() if tensor_id != NO_TENSOR]
    if extra:
        raise fail(f"the tensor {extra[0]} does not belong to this architecture")
    return named


def _chat(data: bytes) -> ChatSpec:
    row = _record(schema.CHAT, data)
    if row["add_bos"] > 1 or row["n_strings"] < schema.CHAT_FIXED_STRINGS:
        raise fail("the CHAT record has an impossible value")
    at = schema.CHAT.size + 4 * row["n_stop_ids"]
    if at > len(data):
        raise fail("the CHAT section is cut off")
    stop_ids = struct.unpack_from(f"<{row['n_stop_ids']}I", data, schema.CHAT.size)
    strings = []
    for _ in range(row["n_strings"]):
        size = struct.unpack_from("<H", data, at)[0] if at + 2 <= len(data) else 0x10000
        if at + 2 + size > len(data):
            raise fail("the CHAT section is cut off")
        strings.append(_text(data[at + 2 : at + 2 + size]))
        at += 2 + size
    if at != len(data):
        raise fail("the CHAT section is too long")
    names = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_window", "max_tokens")
    return ChatSpec(
        kind=_enum(ChatKind, row["kind"]),
        add_bos=bool(row["add_bos"]),
        stop_ids=stop_ids,
        stop_strings=tuple(strings[schema.CHAT_FIXED_STRINGS :]),
        user_prefix=strings[0],
        reply_prefix=strings[1],
        turn_end=strings[2],
        **{name: row[name] for name in names},
    )


def _info(data: bytes) -> dict[str, str]:
    parts = data.split(b"\0")
    if parts.pop() or len(parts) % 2:
        raise fail("the INFO section is not made of keys and values")
    keys = parts[::2]
    if any(not key for key in keys) or sorted(set(keys)) != keys:
        raise fail("the keys of the INFO section do not ascend")
    return {_text(key): _text(value) for key, value in zip(keys, parts[1::2], strict=True)}


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise fail("a text in the blob is not UTF-8") from None
