"""Linear layers and embedding rows of the oracle (NUMERICS rules 5 to 10)."""

from __future__ import annotations

import numpy as np

from ..blob.content import CertifiedHead
from ..blob.schema import BLOCK, InputQuant, TensorType, round_up
from ..quant import QTensor
from . import oracle_math as om
from .oracle_math import F

PER_BLOCK = (TensorType.Q8_0, TensorType.Q4_0)
PER_VECTOR = (TensorType.T2, TensorType.T1)
_CHUNK = 1 << 17  # floats of the lanes that one chunk of rows keeps: about a second-level cache


def _pad_last(x: np.ndarray, to: int) -> np.ndarray:
    """Zeros after the last axis up to a multiple of `to`."""
    short = round_up(x.shape[-1], to) - x.shape[-1]
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, short)])


class Input:
    """Vectors x [n, cols] that enter linear layers, quantised at most once a way (rule 6)."""

    def __init__(self, x: np.ndarray, mode: InputQuant, eps: float) -> None:
        """`mode` NORM_CLAMP applies the unit-gain RMS norm here, before any type looks at x."""
        self.x = om.norm(x, eps, False, None, None) if mode is InputQuant.NORM_CLAMP else x
        self._floor = 0.0 if mode is InputQuant.PLAIN else 1e-5
        self._blocks: tuple[np.ndarray, np.ndarray] | None = None
        self._vector: tuple[np.ndarray, np.ndarray] | None = None

    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Codes as float32 [n, blocks, 32] and scales [n, blocks]."""
        if self._blocks is None:
            padded = _pad_last(self.x, BLOCK)
            codes, scales = om.quant(padded.reshape(len(padded), -1, BLOCK))
            self._blocks = codes.astype(F), scales
        return self._blocks

    def vector(self) -> tuple[np.ndarray, np.ndarray]:
        """Codes as float32 [n, cols] and scales [n]."""
        if self._vector is None:
            codes, scales = om.quant(self.x, self._floor)
            self._vector = codes.astype(F), scales
        return self._vector


class Linear:
    """A weight matrix, unpacked once."""

    def __init__(self, tensor: QTensor) -> None:
        """Floats stay floats; codes become float32, in which all their sums are exact."""
        self.t = tensor
        if tensor.kind in PER_BLOCK:
            assert tensor.scales is not None
            codes = _pad_last(tensor.codes, BLOCK).astype(F)
            self._codes = np.ascontiguousarray(codes.reshape(tensor.rows, -1, BLOCK).transpose(1, 0, 2))
            self._scales = np.ascontiguousarray(tensor.scales.astype(F).T)
        elif tensor.kind in PER_VECTOR:
            self._codes = tensor.codes.astype(F)
        else:
            self._codes = _pad_last(tensor.codes.astype(F), 8)

    def __call__(self, inp: Input) -> np.ndarray:
        """y [n, rows], without bias."""
        if self.t.kind in PER_BLOCK:
            return self._block_products(*inp.blocks())
        if self.t.kind in PER_VECTOR:
            codes, scales = inp.vector()
            total = om.int_product(codes, self._codes.T)  # |sum| <= 127 * 65536
            return total * (F(self.t.scale) * scales)[:, None]
        om.absmax(inp.x)  # rule 3: refused when not finite
        return self._float_products(_pad_last(inp.x, 8))

    def _block_products(self, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Rule 7."""
        acc = np.zeros(0, F)
        for k in range(len(self._codes)):
            total = om.int_product(codes[:, k], self._codes[k].T)  # |sum| <= 32 * 127 * 127
            p = total * (self._scales[k] * scales[:, k, None])
            acc = p if k == 0 else acc + p
        return acc

    def _float_products(self, x: np.ndarray) -> np.ndarray:
        """Rule 9."""
        n, cols = x.shape
        y = np.empty((n, self.t.rows), F)
        step = max(1, _CHUNK // (8 * n))
        for row in range(0, self.t.rows, step):
            w = self._codes[row : row + step]
            lanes = w[None, :, :8] * x[:, None, :8]
            for at in range(8, cols, 8):
                lanes += w[None, :, at : at + 8] * x[:, None, at : at + 8]
            y[:, row : row + step] = om.fold8(lanes)
        return y

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Values of rows, float32 [n, cols] (rule 10): code * scale for packed types."""
        t = self.t
        codes = t.codes[ids].astype(F)
        if t.kind in PER_BLOCK:
            assert t.scales is not None
            return codes * np.repeat(t.scales[ids].astype(F), BLOCK, axis=1)[:, : t.cols]
        return codes * F(t.scale) if t.kind in PER_VECTOR else codes


class Certified:
    """All logits of a certified head (rule 20): what a search may leave out is a matter of speed."""

    def __init__(self, head: CertifiedHead) -> None:
        """Rows stay in stored order; only the result is sorted."""
        self._rotation, self._centre = Linear(head.rotation), Linear(head.centre)
        self._offset = head.offset.codes[0]
        self._stages = [Linear(t) for t in head.stages]
        self._bias = head.biases
        self._order = np.argsort(head.ids)

    def __call__(self, hidden: np.ndarray) -> np.ndarray:
        """Logits [n, vocab] in id order of normed hidden states [n, dim]."""
        inp = Input(hidden, InputQuant.PLAIN, 0.0)
        y = self._rotation(inp) + self._offset
        acc, at = self._bias, 0
        for stage in self._stages:
            part = Input(np.ascontiguousarray(y[:, at : at + stage.t.cols]), InputQuant.PLAIN, 0.0)
            acc = acc + stage(part)
            at += stage.t.cols
        return np.ascontiguousarray((acc + self._centre(inp))[:, self._order])
