"""q4_0 codes and scales that minimise the error of a layer's outputs instead of that of its weights.

With inputs x of second moments H = E[x x^T], rows w of weights and q of rounded ones, the mean squared error of a
layer's outputs is sum over rows of (w - q)^T H (w - q). Two steps lower it in turn, and neither can raise it: every
code in turn takes its best value while the others stand (coordinate descent: an error made in one column is answered
in the next ones), and every block's scale becomes the least-squares one for its codes, rounded to float16.
"""

from __future__ import annotations

import numpy as np

from ..quant import QTensor
from ..quant.base import block_view

BLOCK = 32
_FACTORS = np.linspace(0.6, 1.1, 26, dtype=np.float32)  # of the scale that maps the extreme to a code
_LOW, _HIGH = -8, 7


def start_scales(w: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """float32 [rows, blocks]: the scale of each block with the least error, each column weighted by `diagonal` [cols].

    Both signs are tried, for the codes reach further down than up; values are those of float16.
    """
    blocks = block_view(w)
    weight = block_view(diagonal[np.newaxis, :])
    extreme = np.abs(blocks).max(-1)
    best = np.full(extreme.shape, np.inf, np.float32)
    scales = np.zeros_like(extreme)
    for factor in _FACTORS:
        for end in (_LOW, -_LOW):
            s = (extreme * factor / end).astype(np.float16).astype(np.float32)
            error = blocks - nearest(blocks, s[..., None]) * s[..., None]
            loss = (error * error * weight).sum(-1)
            better = loss < best
            best, scales = np.where(better, loss, best), np.where(better, s, scales)
    return scales


def nearest(w: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Codes as float32; 0 where the scale is 0."""
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    return np.asarray(np.clip(np.rint(w * inverse), _LOW, _HIGH), np.float32)


class RowProblem:
    """Rows of one matrix on their way to better codes; all rows move together."""

    def __init__(self, w: np.ndarray, moments: np.ndarray) -> None:
        """`w` float32 [rows, cols]; `moments` float32 [cols, cols], positive definite."""
        self.w, self.moments = w, moments
        self.cols = w.shape[1]
        self.scales = start_scales(w, np.ascontiguousarray(np.diagonal(moments)))
        self.codes = nearest(w, self._wide())
        self._pull = (w - self.codes * self._wide()) @ moments  # minus half the gradient of the error

    def _wide(self) -> np.ndarray:
        return np.repeat(self.scales, BLOCK, axis=1)[:, : self.cols]

    @property
    def loss(self) -> float:
        """Sum of (w - q)^T H (w - q) over the rows."""
        return float((self._pull * (self.w - self.codes * self._wide())).sum())

    def sweep_codes(self) -> None:
        """Each column once: its best code while the others stand."""
        for j in range(self.cols):
            s = self.scales[:, j // BLOCK]
            now = self.codes[:, j] * s
            best = nearest(now + self._pull[:, j] / self.moments[j, j], s)
            self._pull -= np.outer(best * s - now, self.moments[j])
            self.codes[:, j] = best

    def fit_scales(self) -> None:
        """Each block once: the least-squares scale of its codes."""
        for b in range(self.scales.shape[1]):
            part = slice(b * BLOCK, min((b + 1) * BLOCK, self.cols))
            codes = self.codes[:, part]
            reach = codes @ self.moments[part]
            size = (reach[:, part] * codes).sum(1)
            step = np.divide((codes * self._pull[:, part]).sum(1), size, out=np.zeros_like(size), where=size > 0)
            new = (self.scales[:, b] + step).astype(np.float16).astype(np.float32)
            new = np.where(np.isfinite(new), new, self.scales[:, b])
            self._pull -= (new - self.scales[:, b])[:, None] * reach
            self.scales[:, b] = new


def round_rows(start: QTensor, w: np.ndarray, moments: np.ndarray, rounds: int = 8) -> QTensor:
    """`w` in the type of the q4_0 tensor `start`, its error weighted by `moments`."""
    problem = RowProblem(np.asarray(w, np.float32), np.asarray(moments, np.float32))
    for _ in range(rounds):
        problem.sweep_codes()
        problem.fit_scales()
    problem.sweep_codes()
    codes = np.ascontiguousarray(problem.codes.astype(np.int8))
    return QTensor(start.kind, start.rows, start.cols, codes=codes, scales=problem.scales.astype(np.float16))
