"""llama2.c checkpoints (.bin): version 0 (float32), 1 (float32 with a header) and 2 (int8 groups).

All are read into the names of a Llama state dict with interleaved RoPE pairs. The tokenizer lies
beside in tokenizer.bin or tok<N>.bin; BOS starts every context.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CheckpointError
from .raw import RawCheckpoint

_MAGIC = 0x616B3432  # "ak42"
_HEADER_BYTES = 256  # of versions 1 and 2
_MOST = 1 << 24
_WILD_SCALE = 1e4  # of an int8 group


@dataclass(frozen=True)
class _Header:
    version: int
    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    context: int
    tied: bool
    group: int = 0

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def kv_dim(self) -> int:
        return self.head_dim * self.kv_heads


def is_llama2c(path: Path) -> bool:
    """Whether the file starts with a llama2.c header that agrees with its length."""
    try:
        header = _header(path)
        _check_length(header, path)
    except CheckpointError:
        with path.open("rb") as file:
            return file.read(4) == struct.pack("<I", _MAGIC)
    return True


def read_llama2c(path: Path, raw: RawCheckpoint) -> None:
    """Add the tensors and the config of a llama2.c file; CheckpointError when lengths disagree."""
    header = _header(path)
    _check_length(header, path)
    data = path.read_bytes()
    for name, values in (_read_v0 if header.version == 0 else _read_v1 if header.version == 1 else _read_v2)(
        header, data
    ):
        raw.add(name, values, "int8 groups" if header.version == 2 and values.ndim > 1 else "float32")
    if header.version == 0:
        raw.left_out.append("freq_cis: RoPE tables, computed from theta instead")
    raw.config = {
        "model_type": "llama", "hidden_size": header.dim, "intermediate_size": header.hidden,
        "num_hidden_layers": header.layers, "num_attention_heads": header.heads,
        "num_key_value_heads": header.kv_heads, "vocab_size": header.vocab,
        "max_position_embeddings": header.context, "tie_word_embeddings": header.tied,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_interleaved": True,
        "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "add_bos_token": True,
    }  # fmt: skip


def _header(path: Path) -> _Header:
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    if len(head) < 28:
        raise CheckpointError(f"{path.name} is too short for a checkpoint", "copy or download it again")
    magic, version = struct.unpack_from("<II", head)
    if magic == _MAGIC:
        if version not in (1, 2) or len(head) < _HEADER_BYTES:
            raise CheckpointError(f"{path.name} has llama2.c version {version}", "versions 0, 1 and 2 are supported")
        dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack_from("<7i", head, 8)
        tied = bool(head[36])
        group = struct.unpack_from("<i", head, 37)[0] if version == 2 else 0
        header = _Header(version, dim, hidden, layers, heads, kv_heads, vocab, context, tied, group)
    else:
        dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack_from("<7i", head)
        header = _Header(0, dim, hidden, layers, heads, kv_heads, abs(vocab), context, tied=vocab > 0)
    sizes = (header.dim, header.hidden, header.layers, header.heads, header.kv_heads, header.vocab, header.context)
    grouped = header.version == 2
    if not all(0 < n < _MOST for n in sizes) or header.dim % header.heads or header.heads % header.kv_heads:
        raise CheckpointError(f"{path.name} has an impossible llama2.c header", "it may be another kind of .bin file")
    if grouped and (header.group <= 0 or header.dim % header.group):
        raise CheckpointError(f"{path.name} has an impossible group size {header.group}", "export it again")
    return header


def _matrices(h: _Header) -> list[tuple[str, tuple[int, int]]]:
    """Per-layer matrices in the order of every version."""
    return [
        ("attention.wq", (h.dim, h.dim)), ("attention.wk", (h.kv_dim, h.dim)), ("attention.wv", (h.kv_dim, h.dim)),
        ("attention.wo", (h.dim, h.dim)), ("feed_forward.w1", (h.hidden, h.dim)),
        ("feed_forward.w2", (h.dim, h.hidden)), ("feed_forward.w3", (h.hidden, h.dim)),
    ]  # fmt: skip


def _check_length(h: _Header, path: Path) -> None:
    weights = sum(math.prod(shape) for _, shape in _matrices(h)) * h.layers
    embed = h.vocab * h.dim * (1 if h.tied else 2)
    norms = h.dim * (2 * h.layers + 1)
    if h.version == 0:
        need = 28 + 4 * (weights + embed + norms + h.context * h.head_dim)
    elif h.version == 1:
        need = _HEADER_BYTES + 4 * (weights + embed + norms)
    else:
        need = _HEADER_BYTES + 4 * norms + (weights + embed) + 4 * ((weights + embed) // h.group)
    size = path.stat().st_size
    if size != need:
        raise CheckpointError(
            f"{path.name} has {size} bytes, its llama2.c header asks for {need}",
            "it is cut off, or another kind of file",
        )


class _Cursor:
    """Reads arrays one after the other; the length was checked before."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, shape: tuple[int, ...], kind: str = "<f4") -> np.ndarray:
        count = math.prod(shape)
        values = np.frombuffer(self.data, kind, count, self.at).reshape(shape)
        self.at += values.nbytes
        return values


_Tensors = list[tuple[str, np.ndarray]]


def _read_v0(h: _Header, data: bytes) -> _Tensors:
    """Version 0: layer tensors stacked by kind; norms stand before attention and before the FFN."""
    cursor, out = _Cursor(data, 28), []
    out.append(("tok_embeddings.weight", cursor.take((h.vocab, h.dim))))
    by_name = dict(_matrices(h))
    order = ["attention_norm", *list(by_name)[:4], "ffn_norm", *list(by_name)[4:]]
    for name in order:
        shape = by_name.get(name, (h.dim,))
        for i, values in enumerate(cursor.take((h.layers, *shape))):
            out.append((f"layers.{i}.{name}.weight", values))
    out.append(("norm.weight", cursor.take((h.dim,))))
    cursor.take((h.context, h.head_dim))  # cos and sin tables
    if not h.tied:
        out.append(("output.weight", cursor.take((h.vocab, h.dim))))
    return out


def _read_v1(h: _Header, data: bytes) -> _Tensors:
    """Version 1: all norms first, then the embedding, then matrices stacked by kind."""
    cursor = _Cursor(data, _HEADER_BYTES)
    out = _norms(h, cursor)
    out.append(("tok_embeddings.weight", cursor.take((h.vocab, h.dim))))
    for name, shape in _matrices(h):
        out += [(f"layers.{i}.{name}.weight", v) for i, v in enumerate(cursor.take((h.layers, *shape)))]
    if not h.tied:
        out.append(("output.weight", cursor.take((h.vocab, h.dim))))
    return out


def _norms(h: _Header, cursor: _Cursor) -> _Tensors:
    out = []
    for name in ("attention_norm", "ffn_norm"):
        out += [(f"layers.{i}.{name}.weight", cursor.take((h.dim,))) for i in range(h.layers)]
    return [*out, ("norm.weight", cursor.take((h.dim,)))]


def _read_v2(h: _Header, data: bytes) -> _Tensors:
    """Version 2: float norms, then int8 codes with one float scale a group.

    Scales follow each tensor, as runq.c reads them; an early exporter wrote them all at the end.
    Codes taken for scales are wild, so the order shows.
    """
    for scales_last in (False, True):
        cursor = _Cursor(data, _HEADER_BYTES)
        out = _norms(h, cursor)
        shapes = _quantised_shapes(h)
        groups = [math.prod(shape) // h.group for _, shape in shapes]
        if scales_last:
            codes = [cursor.take(shape, "i1") for _, shape in shapes]
            scales = [cursor.take((n, 1)) for n in groups]
        else:
            pairs = [
                (cursor.take(shape, "i1"), cursor.take((n, 1))) for (_, shape), n in zip(shapes, groups, strict=True)
            ]
            codes, scales = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if all(np.isfinite(s).all() and (s >= 0).all() and (s < _WILD_SCALE).all() for s in scales):
            for (name, shape), code, scale in zip(shapes, codes, scales, strict=True):
                values = code.reshape(-1, h.group).astype(np.float32) * scale
                out.append((name, values.reshape(shape)))
            return out
    raise CheckpointError("the scales of this llama2.c version 2 file are not usable numbers", "export it again")


def _quantised_shapes(h: _Header) -> list[tuple[str, tuple[int, int]]]:
    out = [("tok_embeddings.weight", (h.vocab, h.dim))]
    for name, shape in _matrices(h):
        out += [(f"layers.{i}.{name}.weight", shape) for i in range(h.layers)]
    return out if h.tied else [*out, ("output.weight", (h.vocab, h.dim))]
