"""f32: values as they are."""

from __future__ import annotations

import numpy as np

from ..blob.schema import TensorType
from ..errors import QuantError
from .base import QTensor, QuantType, crop_tiles, pad_tiles


class F32(QuantType):
    """IEEE binary32, rows padded to 16 columns."""

    name = "f32"
    kind = TensorType.F32

    def quantise(self, w: np.ndarray, scale: float | None) -> QTensor:
        """Nothing is lost."""
        return QTensor(self.kind, w.shape[0], w.shape[1], codes=w)

    def dequantise(self, t: QTensor) -> np.ndarray:
        """The values themselves."""
        return t.codes

    def pack(self, t: QTensor) -> bytes:
        """Rows of little-endian floats."""
        return pad_tiles(self.kind, t.codes.astype("<f4")).tobytes()

    def unpack(self, data: bytes, rows: int, cols: int, scale: float) -> QTensor:
        """Refuses values that are not finite and pads that are not +0."""
        bits = crop_tiles(np.frombuffer(data, "<u4").reshape(rows, 1, 1, -1), rows, cols)
        values = bits.view("<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise QuantError("a value is not finite", "the blob is damaged")
        return QTensor(self.kind, rows, cols, codes=values)


TYPE = F32()
