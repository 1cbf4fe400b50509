"""u32: the RoPE turns. Not a type for weights; the writer alone makes these."""

from __future__ import annotations

import numpy as np

from ..blob.schema import TensorType
from ..errors import QuantError
from .base import QTensor, QuantType, crop_tiles, pad_tiles


class U32(QuantType):
    """Integers modulo 2^32, rows padded to 16 columns."""

    name = "u32"
    kind = TensorType.U32

    def quantise(self, w: np.ndarray, scale: float | None) -> QTensor:
        """Floats are never stored as integers."""
        raise QuantError("u32 is not a type for weights", "use f32")

    def dequantise(self, t: QTensor) -> np.ndarray:
        """Integers have no float value."""
        raise QuantError("u32 tensors have no float value", "read `codes`")

    def pack(self, t: QTensor) -> bytes:
        """Rows of little-endian integers."""
        return pad_tiles(self.kind, t.codes.astype("<u4")).tobytes()

    def unpack(self, data: bytes, rows: int, cols: int, scale: float) -> QTensor:
        """Refuses pads that are not 0."""
        codes = crop_tiles(np.frombuffer(data, "<u4").reshape(rows, 1, 1, -1), rows, cols)
        return QTensor(self.kind, rows, cols, codes=codes.astype(np.uint32))


TYPE = U32()
