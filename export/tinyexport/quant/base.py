"""What every quantisation type shares: the tensor it makes and the tile geometry of BLOB.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ..blob.schema import BLOCK, COL_PAD, PACKING, TensorType, round_up, tensor_bytes
from ..errors import QuantError


@dataclass(frozen=True, eq=False)
class QTensor:
    """A matrix [rows, cols] as the runtime holds it; a vector has one row.

    `codes` is int8 for packed types, float32 for f32, float16 for f16, uint32 for u32. `scales` is float16
    [rows, blocks of 32 columns] for q8_0 and q4_0, else None. `scale` belongs to the whole tensor for t2 and t1
    and is 1 otherwise.
    """

    kind: TensorType
    rows: int
    cols: int
    codes: np.ndarray
    scales: np.ndarray | None = None
    scale: float = 1.0

    def dequantise(self) -> np.ndarray:
        """The values, float32 [rows, cols]."""
        return by_kind(self.kind).dequantise(self)

    def pack(self) -> bytes:
        """The canonical bytes of BLOB.md, pads included: tensor_bytes(kind, rows, cols) of them."""
        return by_kind(self.kind).pack(self)

    @property
    def nbytes(self) -> int:
        """Bytes in the blob, pads included."""
        return tensor_bytes(self.kind, self.rows, self.cols)


class QuantType(ABC):
    """One way of holding weights. Subclasses are stateless; a module registers one instance."""

    name: str
    kind: TensorType

    @abstractmethod
    def quantise(self, w: np.ndarray, scale: float | None) -> QTensor:
        """Codes of the finite float32 matrix `w`; `scale` is a known tensor scale (ternary types only)."""

    @abstractmethod
    def dequantise(self, t: QTensor) -> np.ndarray:
        """See QTensor.dequantise."""

    @abstractmethod
    def pack(self, t: QTensor) -> bytes:
        """See QTensor.pack."""

    @abstractmethod
    def unpack(self, data: bytes, rows: int, cols: int, scale: float) -> QTensor:
        """Inverse of `pack`; `data` has the right length. QuantError when it is not canonical."""


REGISTRY: dict[str, QuantType] = {}
_BY_KIND: dict[TensorType, QuantType] = {}


def register(quant_type: QuantType) -> None:
    """Make a type known under its name and its kind."""
    REGISTRY[quant_type.name] = quant_type
    _BY_KIND[quant_type.kind] = quant_type


def by_kind(kind: TensorType) -> QuantType:
    """The type that packs `kind`."""
    return _BY_KIND[kind]


def as_matrix(w: np.ndarray) -> np.ndarray:
    """`w` as a finite float32 matrix, a vector as one row; QuantError otherwise."""
    m = np.ascontiguousarray(w, dtype=np.float32)
    if m.ndim == 1:
        m = m[np.newaxis, :]
    if m.ndim != 2 or m.size == 0:
        raise QuantError(f"a tensor of shape {w.shape} is not a matrix", "only vectors and matrices are exported")
    if not np.isfinite(m).all():
        raise QuantError("the weights hold NaN or Inf", "the checkpoint is damaged, or its training diverged")
    return m


def n_blocks(cols: int) -> int:
    """Number of scales of a row; the last block may be short."""
    return -(-cols // BLOCK)


def block_view(w: np.ndarray) -> np.ndarray:
    """`w` [rows, cols] as [rows, blocks, 32]; zeros complete a short last block (they change no absmax)."""
    rows, cols = w.shape
    out = np.zeros((rows, n_blocks(cols) * BLOCK), w.dtype)
    out[:, :cols] = w
    return out.reshape(rows, -1, BLOCK)


def to_f16(scales: np.ndarray) -> np.ndarray:
    """Scales rounded to float16; QuantError on overflow."""
    with np.errstate(over="ignore"):
        half = scales.astype(np.float16)
    if not np.isfinite(half).all():
        raise QuantError("a weight is too large for float16", "keep this tensor in f32 (--keep-f32)")
    return half


def pad_tiles(kind: TensorType, codes: np.ndarray) -> np.ndarray:
    """Codes [rows, cols] padded with zeros to whole tiles and 16 columns: [tiles, groups, rows a byte, np]."""
    rows, cols = codes.shape
    pack = PACKING[kind]
    out = np.zeros((round_up(rows, pack.tile), round_up(cols, COL_PAD)), codes.dtype)
    out[:rows, :cols] = codes
    return out.reshape(-1, pack.tile // pack.group, pack.group, out.shape[1])


def crop_tiles(tiles: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Inverse of `pad_tiles`; QuantError when a pad is not zero."""
    full = tiles.reshape(-1, tiles.shape[-1])
    if full[rows:].any() or full[:, cols:].any():
        raise QuantError("a pad of a packed tensor is not zero", "the blob was not written by this format's writer")
    return np.ascontiguousarray(full[:rows, :cols])


def pack_scales(scales: np.ndarray) -> np.ndarray:
    """Float16 scales [rows, blocks] as bytes [tiles, 16 * blocks]: block-major, 8 rows a block."""
    rows, blocks = scales.shape
    full = np.zeros((round_up(rows, 8), blocks), "<f2")
    full[:rows] = scales
    tiles = np.ascontiguousarray(full.reshape(-1, 8, blocks).transpose(0, 2, 1))
    return tiles.view(np.uint8).reshape(len(tiles), -1)


def unpack_scales(tiles: np.ndarray, rows: int) -> np.ndarray:
    """Inverse of `pack_scales`; QuantError when a scale is not finite or a pad row has one."""
    half = np.ascontiguousarray(tiles).view("<f2").reshape(len(tiles), -1, 8).transpose(0, 2, 1)
    full = half.reshape(-1, half.shape[2])
    if not np.isfinite(full).all():
        raise QuantError("a scale is not finite", "the blob is damaged")
    if np.ascontiguousarray(full[rows:]).view(np.uint16).any():
        raise QuantError("a pad row has a scale", "the blob was not written by this format's writer")
    return np.ascontiguousarray(full[:rows]).astype(np.float16)
