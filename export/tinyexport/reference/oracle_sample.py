"""Ranking, sampling and log-probabilities of the oracle (NUMERICS rules 21 to 24)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..blob.content import MAX_CANDIDATES
from . import oracle_math as om
from .oracle_math import F

_MASK64 = (1 << 64) - 1


class Pcg32:
    """Rule 23: PCG32 XSH-RR, stream 54."""

    def __init__(self, seed: int) -> None:
        """The published initialisation."""
        self._inc = (54 << 1) | 1
        self._state = 0
        self.next()
        self._state = (self._state + seed) & _MASK64
        self.next()

    def next(self) -> int:
        """The next 32-bit output."""
        old = self._state
        self._state = (old * 6364136223846793005 + self._inc) & _MASK64
        shifted = (((old >> 18) ^ old) >> 27) & 0xFFFFFFFF
        turn = old >> 59
        return ((shifted >> turn) | (shifted << (-turn & 31))) & 0xFFFFFFFF


@dataclass
class Choice:
    """A drawn token; log-probabilities are float32 values."""

    id: int
    logprob: float
    logprob_all: float
    candidates: int


class OracleSampler:
    """The chain of rule 22 with the parameters of `tlm_sampling`."""

    def __init__(
        self,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repeat_penalty: float = 1.0,
        repeat_window: int = 0,
        seed: int = 0,
        allowed: Callable[[int], bool] | None = None,
    ) -> None:
        """Parameters become float32 here, as the C struct holds them."""
        self.temperature, self.top_p, self.min_p = F(temperature), F(top_p), F(min_p)
        self.penalty, self.window = F(repeat_penalty), repeat_window
        self.top_k = top_k or MAX_CANDIDATES
        self.allowed = allowed
        self._rng = Pcg32(seed)
        self._recent: list[int] = []

    def accept(self, token: int) -> None:
        """Add a token to the repetition window."""
        self._recent = [*self._recent, token][-self.window :] if self.window else []

    def sample(self, logits: np.ndarray) -> Choice:
        """Draw from float32 logits [vocab]."""
        ids, values = self._ranked(np.asarray(logits, F))
        om.absmax(values)
        logprobs = (values - values[0]) - om.log(running_sum(om.exp(values - values[0]))[-1:])
        at = 0 if self.temperature == 0 else self._draw(values)
        self.accept(int(ids[at]))
        return Choice(int(ids[at]), float(logprobs[at]), self._logprob_all(logits, logits[ids[at]]), len(ids))

    def _ranked(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and penalised logits of the top-k candidates in rank order (rule 21)."""
        values = logits.copy()
        seen = np.unique(np.asarray(self._recent, np.int64))
        old = values[seen]
        values[seen] = np.where(old > 0, old / self.penalty, old * self.penalty)
        ids = np.arange(len(values))
        if self.allowed is not None:
            ids = np.array([i for i in ids if self.allowed(int(i))])
        order = np.lexsort((ids, -(values[ids] + F(0))))[: self.top_k]
        return ids[order], values[ids[order]]

    def _draw(self, values: np.ndarray) -> int:
        e = om.exp((values - values[0]) * (om.ONE / self.temperature))
        below = np.flatnonzero(e < self.min_p)
        e = e[: below[0]] if below.size else e
        prefix = running_sum(e)
        kept = int(np.argmax(prefix >= self.top_p * prefix[-1])) + 1
        target = F(self._rng.next() >> 8) * om.const("0x1p-24") * prefix[kept - 1]
        above = np.flatnonzero(prefix[:kept] > target)
        return int(above[0]) if above.size else kept - 1

    @staticmethod
    def _logprob_all(logits: np.ndarray, value: np.float32) -> float:
        """Rule 24 over the whole vocabulary: the maximum so far rescales the sum when a larger logit arrives."""
        top, total = logits[0], om.ONE
        so_far = np.maximum.accumulate(logits)
        rises = [*(np.flatnonzero(so_far[1:] > so_far[:-1]) + 1), len(logits)]
        at = 1
        for rise in rises:
            total = running_sum(np.concatenate([[total], om.exp(logits[at:rise] - top)]))[-1]
            if rise < len(logits):
                total = total * om.exp(top - logits[rise])[()] + om.ONE
                top, at = logits[rise], rise + 1
        return float((value - top) - om.log(np.asarray(total))[()])


def running_sum(v: np.ndarray) -> np.ndarray:
    """Prefix sums, one float32 addition after the other."""
    return np.add.accumulate(v, dtype=F)
