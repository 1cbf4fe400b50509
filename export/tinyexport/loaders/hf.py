"""Safetensors: one file, or the shards that an index names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from .raw import RawCheckpoint, bfloat16_bits

_DTYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def read_safetensors(path: Path, raw: RawCheckpoint) -> None:
    """Add every tensor of the file to `raw`; CheckpointError when the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as opened:  # checks lengths, offsets and overlaps
            opened.keys()
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path.name} is not a whole safetensors file ({error})", "copy or download it again; it may be cut off"
        ) from None
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int(data[:8].view("<u8")[0])
    header = json.loads(bytes(data[8:start]))
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind = entry["dtype"]
        if kind not in _DTYPES:
            raise CheckpointError(
                f"{path.name}: tensor {name} has type {kind}, which is not supported",
                "save the weights as float32, float16 or bfloat16",
            )
        begin, end = entry["data_offsets"]
        # A copy, so that arrays are aligned and outlive the mapping.
        values = np.frombuffer(data[start + begin : start + end].tobytes(), _DTYPES[kind]).reshape(entry["shape"])
        raw.add(name, bfloat16_bits(values) if kind == "BF16" else values, kind)


def index_shards(index: Path) -> list[Path]:
    """The shard files that a `*.index.json` names, in order; CheckpointError when one is missing."""
    try:
        names = json.loads(index.read_text("utf-8"))["weight_map"].values()
        shards = sorted({str(name) for name in names})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise CheckpointError(f"{index.name} is not a shard index", "download the checkpoint again") from None
    for name in shards:
        if Path(name).name != name:
            raise CheckpointError(f"{index.name} names {name!r}, outside its folder", "download the checkpoint again")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index.name} names {name}, which is not there", "download the missing shard")
    if not shards:
        raise CheckpointError(f"{index.name} names no shards", "download the checkpoint again")
    return [index.parent / name for name in shards]
