"""q4_0: codes -8..7, one float16 scale per row and 32 columns.

The rule is that of the `gguf` package's reference quantiser, value for value: the element of largest magnitude gets the
code -8, so scale = extreme / -8 (negative scales occur), code = trunc(w / scale + 8.5) - 8.

That rule recovers a block that was dequantised from Q4_0 when its largest element had the code -8, as a block that
some absmax quantiser made has. For other grids it may not. So where it misses a value and an exact float16 scale
exists (all w = scale * code), that scale is taken: the block was on a grid and stays on it. An ordinary float block
never is: 32 random values are no multiples of one 11-bit number, and there the result is gguf's.
"""

from __future__ import annotations

import numpy as np

from ..blob.schema import TensorType, round_up
from .base import QTensor, QuantType, block_view, crop_tiles, n_blocks, pack_scales, pad_tiles, to_f16, unpack_scales
from .q8_0 import reciprocal

# Codes that the extreme of an exact block may have; -8 is the ordinary rule. Falling magnitude: the finest grid first.
_EXTREME_CODES = (7, -7, 6, -6, 5, -5, 4, -4, 3, -3, 2, -2, 1, -1)


def _extremes(blocks: np.ndarray) -> np.ndarray:
    """The first element of largest magnitude of each block, [n, 1]."""
    at = np.abs(blocks).argmax(axis=1)[:, np.newaxis]
    return np.take_along_axis(blocks, at, axis=1)


def _plain_rule(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes int8 [n, 32] and float32 scales [n] of blocks [n, 32]."""
    d = _extremes(blocks) / np.float32(-8)
    codes = np.trunc(blocks * reciprocal(d) + np.float32(8.5))
    return (np.clip(codes, 0, 15) - np.float32(8)).astype(np.int8), d[:, 0]


def _recover_grid(blocks: np.ndarray, codes: np.ndarray, half: np.ndarray) -> None:
    """Replace codes and float16 scales, in place, of blocks that the plain rule misses and a grid holds."""
    missed = np.flatnonzero((codes.astype(np.float32) * half.astype(np.float32)[:, np.newaxis] != blocks).any(axis=1))
    for extreme_code in _EXTREME_CODES:
        if not missed.size:
            return
        w = blocks[missed]
        with np.errstate(over="ignore"):
            d16 = (_extremes(w) / np.float32(extreme_code)).astype(np.float16)
        d = d16.astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            q = np.clip(np.rint(w * reciprocal(d)), -8, 7)
            exact = (q * d == w).all(axis=1)
        codes[missed[exact]] = q[exact].astype(np.int8)
        half[missed[exact]] = d16[exact, 0]
        missed = missed[~exact]


class Q40(QuantType):
    """Tiles of 8 rows: scales block-major, then four groups of two rows."""

    name = "q4_0"
    kind = TensorType.Q4_0

    def quantise(self, w: np.ndarray, scale: float | None) -> QTensor:
        """QuantError when a scale overflows float16."""
        rows, cols = w.shape
        blocks = block_view(w).reshape(-1, 32)
        codes, d = _plain_rule(blocks)
        half = to_f16(d)
        _recover_grid(blocks, codes, half)
        codes = np.ascontiguousarray(codes.reshape(rows, -1)[:, :cols])
        return QTensor(self.kind, rows, cols, codes=codes, scales=half.reshape(rows, -1))

    def dequantise(self, t: QTensor) -> np.ndarray:
        """code * scale, one float product each."""
        assert t.scales is not None
        wide = np.repeat(t.scales.astype(np.float32), 32, axis=1)[:, : t.cols]
        return t.codes.astype(np.float32) * wide

    def pack(self, t: QTensor) -> bytes:
        """[scales][codes] a tile; low nibble the even row, value + 8; high nibble the odd row, signed."""
        assert t.scales is not None
        pairs = pad_tiles(self.kind, t.codes)
        low = (pairs[:, :, 0] + np.int8(8)).view(np.uint8)
        high = pairs[:, :, 1].view(np.uint8) & np.uint8(15)
        codes = low | (high << np.uint8(4))
        return np.concatenate([pack_scales(t.scales), codes.reshape(len(codes), -1)], axis=1).tobytes()

    def unpack(self, data: bytes, rows: int, cols: int, scale: float) -> QTensor:
        """Every nibble is a code."""
        tiles = np.frombuffer(data, np.uint8).reshape(round_up(rows, 8) // 8, -1)
        at = 16 * n_blocks(cols)
        packed = tiles[:, at:].reshape(len(tiles), 4, 1, -1)
        low = (packed & np.uint8(15)).view(np.int8) - np.int8(8)
        high = packed.view(np.int8) >> 4
        codes = crop_tiles(np.concatenate([low, high], axis=2), rows, cols)
        return QTensor(self.kind, rows, cols, codes=codes, scales=unpack_scales(tiles[:, :at], rows))


TYPE = Q40()
