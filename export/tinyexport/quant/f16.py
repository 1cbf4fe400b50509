"""f16: values rounded to IEEE binary16, to nearest even."""

from __future__ import annotations

import numpy as np

from ..blob.schema import TensorType
from ..errors import QuantError
from .base import QTensor, QuantType, crop_tiles, pad_tiles, to_f16


class F16(QuantType):
    """IEEE binary16, rows padded to 16 columns."""

    name = "f16"
    kind = TensorType.F16

    def quantise(self, w: np.ndarray, scale: float | None) -> QTensor:
        """QuantError when a value overflows."""
        return QTensor(self.kind, w.shape[0], w.shape[1], codes=to_f16(w))

    def dequantise(self, t: QTensor) -> np.ndarray:
        """Exact widening."""
        return t.codes.astype(np.float32)

    def pack(self, t: QTensor) -> bytes:
        """Rows of little-endian halves."""
        return pad_tiles(self.kind, t.codes.astype("<f2")).tobytes()

    def unpack(self, data: bytes, rows: int, cols: int, scale: float) -> QTensor:
        """Refuses values that are not finite and pads that are not +0."""
        bits = crop_tiles(np.frombuffer(data, "<u2").reshape(rows, 1, 1, -1), rows, cols)
        values = bits.view("<f2").astype(np.float16)
        if not np.isfinite(values).all():
            raise QuantError("a value is not finite", "the blob is damaged")
        return QTensor(self.kind, rows, cols, codes=values)


TYPE = F16()
