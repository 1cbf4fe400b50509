"""t2: ternary, two bits a weight, one float32 scale a tensor.

t1 holds the same values in another packing, so the rounding stands here once. Latent BitNet b1.58 weights become
round(W / mean|W|) clipped to -1..1 with the scale mean|W|; a tensor whose values are already -s, 0, +s keeps them.
"""

from __future__ import annotations

import numpy as np

from ..blob.schema import MAX_TERNARY_COLS, TensorType, round_up
from ..errors import QuantError
from .base import QTensor, QuantType, crop_tiles, pad_tiles


def ternary(kind: TensorType, w: np.ndarray, scale: float | None) -> QTensor:
    """Ternary codes of `w`; QuantError when a given `scale` is not the one of its values."""
    if w.shape[1] > MAX_TERNARY_COLS:
        raise QuantError(f"a ternary row has {w.shape[1]} columns", f"the limit is {MAX_TERNARY_COLS}; use q8_0")
    size = np.abs(w)
    s = np.float32(size.max() if scale is None else scale)
    if not (np.isfinite(s) and s >= 0):
        raise QuantError("a ternary scale is negative or not finite", "the checkpoint is damaged")
    if ((size == 0) | (size == s)).all():
        return QTensor(kind, w.shape[0], w.shape[1], codes=np.sign(w).astype(np.int8), scale=float(s))
    if scale is not None:
        raise QuantError(
            f"the weights are not -{s:g}, 0 and +{s:g}", "the given ternary scale belongs to another tensor"
        )
    s = np.float32(size.mean(dtype=np.float64))
    codes = np.clip(np.rint(w / s), -1, 1).astype(np.int8) if s > 0 else np.zeros(w.shape, np.int8)
    return QTensor(kind, w.shape[0], w.shape[1], codes=codes, scale=float(s))


def ternary_values(t: QTensor) -> np.ndarray:
    """code * scale, float32 [rows, cols]."""
    return t.codes.astype(np.float32) * np.float32(t.scale)


class T2(QuantType):
    """Tiles of 8 rows, two groups of four; row 4g in bits 0-1, value + 1."""

    name = "t2"
    kind = TensorType.T2

    def quantise(self, w: np.ndarray, scale: float | None) -> QTensor:
        """See `ternary`."""
        return ternary(self.kind, w, scale)

    def dequantise(self, t: QTensor) -> np.ndarray:
        """See `ternary_values`."""
        return ternary_values(t)

    def pack(self, t: QTensor) -> bytes:
        """Four rows a byte."""
        digits = (pad_tiles(self.kind, t.codes) + np.int8(1)).view(np.uint8)
        shifts = np.array([0, 2, 4, 6], np.uint8)[:, np.newaxis]
        return np.bitwise_or.reduce(digits << shifts, axis=2).tobytes()

    def unpack(self, data: bytes, rows: int, cols: int, scale: float) -> QTensor:
        """Refuses the unused bit pattern 3."""
        packed = np.frombuffer(data, np.uint8).reshape(round_up(rows, 8) // 8, 2, 1, -1)
        digits = (packed >> np.array([0, 2, 4, 6], np.uint8)[:, np.newaxis]) & np.uint8(3)
        if (digits == 3).any():
            raise QuantError("a t2 code is not ternary", "the blob was not written by this format's writer")
        codes = crop_tiles(digits.view(np.int8) - np.int8(1), rows, cols)
        return QTensor(self.kind, rows, cols, codes=codes, scale=scale)


TYPE = T2()
