"""q8_0: int8 codes, one float16 scale per row and 32 columns.

Codes and scales equal the `gguf` package's reference quantiser value for value: scale = absmax / 127, code =
w * (1 / scale) rounded half away from zero, the scale rounded to float16 only afterwards.
"""

from __future__ import annotations

import numpy as np

from ..blob.schema import TensorType, round_up
from ..errors import QuantError
from .base import QTensor, QuantType, block_view, crop_tiles, n_blocks, pack_scales, pad_tiles, to_f16, unpack_scales


def reciprocal(d: np.ndarray) -> np.ndarray:
    """1/d, and 0 where that is not a finite number (d zero or deeply subnormal)."""
    with np.errstate(divide="ignore", over="ignore"):
        inv = np.float32(1) / d
    return np.where(np.isfinite(inv), inv, np.float32(0))


class Q80(QuantType):
    """Tiles of 8 rows: scales block-major, then the rows."""

    name = "q8_0"
    kind = TensorType.Q8_0

    def quantise(self, w: np.ndarray, scale: float | None) -> QTensor:
        """QuantError when a scale overflows float16."""
        blocks = block_view(w)
        d = np.abs(blocks).max(axis=2, keepdims=True) / np.float32(127)
        x = blocks * reciprocal(d)
        size = np.abs(x)
        floor = np.floor(size)
        codes = np.sign(x) * (floor + np.floor(np.float32(2) * (size - floor)))
        codes = np.clip(codes, -127, 127).astype(np.int8).reshape(len(w), -1)[:, : w.shape[1]]
        return QTensor(self.kind, w.shape[0], w.shape[1], codes=np.ascontiguousarray(codes), scales=to_f16(d[:, :, 0]))

    def dequantise(self, t: QTensor) -> np.ndarray:
        """code * scale, one float product each."""
        assert t.scales is not None
        wide = np.repeat(t.scales.astype(np.float32), 32, axis=1)[:, : t.cols]
        return t.codes.astype(np.float32) * wide

    def pack(self, t: QTensor) -> bytes:
        """[scales][codes] a tile."""
        assert t.scales is not None
        codes = pad_tiles(self.kind, t.codes).view(np.uint8)
        return np.concatenate([pack_scales(t.scales), codes.reshape(len(codes), -1)], axis=1).tobytes()

    def unpack(self, data: bytes, rows: int, cols: int, scale: float) -> QTensor:
        """Refuses the code -128, which no kernel is made for."""
        tiles = np.frombuffer(data, np.uint8).reshape(round_up(rows, 8) // 8, -1)
        at = 16 * n_blocks(cols)
        codes = crop_tiles(np.ascontiguousarray(tiles[:, at:]).view(np.int8).reshape(len(tiles), 8, 1, -1), rows, cols)
        if (codes == -128).any():
            raise QuantError("a q8_0 code is -128", "the blob was not written by this format's writer")
        return QTensor(self.kind, rows, cols, codes=codes, scales=unpack_scales(tiles[:, :at], rows))


TYPE = Q80()
