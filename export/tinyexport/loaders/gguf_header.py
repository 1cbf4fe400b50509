"""The header of a GGUF file, read with every length checked against the file first.

The `gguf` package believes the counts that a file claims; a hostile file makes it allocate or
loop without end. Here nothing is allocated that the file does not hold.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_DIMS = 4
_MAX_ALIGNMENT = 1 << 20
HINT = "copy or download it again; it is damaged or not a GGUF file"


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies; `shape` is [out, in] as numpy has it (GGUF stores it reversed)."""

    name: str
    shape: tuple[int, ...]
    kind: int  # ggml type number
    offset: int  # from the start of the data


@dataclass(frozen=True)
class GGUFHeader:
    """Metadata, tensor directory, and where the tensor data starts."""

    fields: dict[str, Any]
    tensors: list[TensorInfo]
    data_start: int


class _Reader:
    """Reads forward through a buffer; CheckpointError instead of reading past its end."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def need(self, count: int) -> int:
        """Claim `count` bytes and return where they start."""
        if count < 0 or count > len(self.data) - self.at:
            raise CheckpointError("the GGUF header claims more than the file holds", HINT)
        start, self.at = self.at, self.at + count
        return start

    def scalar(self, code: str) -> Any:
        size = struct.calcsize("<" + code)
        return struct.unpack_from("<" + code, self.data, self.need(size))[0]

    def text(self) -> str:
        length = self.scalar("Q")
        start = self.need(length)
        try:
            return bytes(self.data[start : start + length]).decode("utf-8")
        except UnicodeDecodeError:
            raise CheckpointError("the GGUF header holds a string that is not UTF-8", HINT) from None

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self.array()
        raise CheckpointError(f"the GGUF header holds a value of unknown type {kind}", HINT)

    def array(self) -> list[Any]:
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind in _SCALARS:
            code = _SCALARS[kind]
            start = self.need(count * struct.calcsize("<" + code))
            return list(struct.unpack_from(f"<{count}{code}", self.data, start))
        if kind == _STRING:
            if count > (len(self.data) - self.at) // 8:  # a string takes eight bytes at least
                raise CheckpointError("the GGUF header claims more strings than the file holds", HINT)
            return [self.text() for _ in range(count)]
        raise CheckpointError("the GGUF header holds an array in an array, or one of unknown type", HINT)


def parse_header(data: memoryview) -> GGUFHeader:
    """Parse the header of a little-endian GGUF file, versions 2 and 3."""
    reader = _Reader(data)
    if bytes(data[:4]) != b"GGUF":
        raise CheckpointError("this file does not start with GGUF", HINT)
    reader.need(4)
    version = reader.scalar("I")
    if version not in (2, 3):
        raise CheckpointError(f"GGUF version {version} is not supported", "convert it to version 3, little-endian")
    n_tensors, n_fields = reader.scalar("Q"), reader.scalar("Q")
    fields: dict[str, Any] = {}
    for _ in range(n_fields):  # ends at the first field that the file does not hold
        key = reader.text()
        if key in fields:
            raise CheckpointError(f"the GGUF header holds {key} twice", HINT)
        fields[key] = reader.value(reader.scalar("I"))
    tensors = [_tensor_info(reader) for _ in range(min(n_tensors, len(data)))]
    if len({t.name for t in tensors}) != len(tensors):
        raise CheckpointError("the GGUF header names a tensor twice", HINT)
    alignment = fields.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
        raise CheckpointError(f"the GGUF alignment {alignment!r} is not a power of two", HINT)
    return GGUFHeader(fields, tensors, -(-reader.at // alignment) * alignment)


def _tensor_info(reader: _Reader) -> TensorInfo:
    name, n_dims = reader.text(), reader.scalar("I")
    if not 1 <= n_dims <= _MAX_DIMS:
        raise CheckpointError(f"GGUF tensor {name!r} has {n_dims} dimensions", HINT)
    dims = [reader.scalar("Q") for _ in range(n_dims)]
    return TensorInfo(name, tuple(reversed(dims)), reader.scalar("I"), reader.scalar("Q"))
