"""t1: ternary, five weights a byte (1.6 bits each), one float32 scale a tensor.

A byte is ceil(256 * v / 243) of the base-3 number v of five rows, most significant first, so that the digits come back
as the carries of five multiplications by 3, without a division or a table.
"""

from __future__ import annotations

import numpy as np

from ..blob.schema import TensorType, round_up
from ..errors import QuantError
from .base import QTensor, QuantType, crop_tiles, pad_tiles
from .t2 import ternary, ternary_values

_PLACES = np.array([81, 27, 9, 3, 1], np.uint16)[:, np.newaxis]


class T1(QuantType):
    """Tiles of five rows, np bytes each."""

    name = "t1"
    kind = TensorType.T1

    def quantise(self, w: np.ndarray, scale: float | None) -> QTensor:
        """See `t2.ternary`."""
        return ternary(self.kind, w, scale)

    def dequantise(self, t: QTensor) -> np.ndarray:
        """See `t2.ternary_values`."""
        return ternary_values(t)

    def pack(self, t: QTensor) -> bytes:
        """Five rows a byte."""
        digits = (pad_tiles(self.kind, t.codes) + np.int8(1)).astype(np.uint16)
        v = (digits * _PLACES).sum(axis=2, dtype=np.uint16)
        return ((v * np.uint16(256) + np.uint16(242)) // np.uint16(243)).astype(np.uint8).tobytes()

    def unpack(self, data: bytes, rows: int, cols: int, scale: float) -> QTensor:
        """Refuses bytes that `pack` does not make."""
        packed = np.frombuffer(data, np.uint8).reshape(round_up(rows, 5) // 5, 1, -1)
        rest = packed.astype(np.uint16)
        digits = []
        for _ in range(5):
            rest = rest * np.uint16(3)
            digits.append((rest >> np.uint16(8)).astype(np.int8) - np.int8(1))
            rest = rest & np.uint16(255)
        codes = crop_tiles(np.stack(digits, axis=2), rows, cols)
        t = QTensor(self.kind, rows, cols, codes=codes, scale=scale)
        if self.pack(t) != data:
            raise QuantError("a t1 byte is not canonical", "the blob was not written by this format's writer")
        return t


TYPE = T1()
