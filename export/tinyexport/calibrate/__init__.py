"""Better q4_0 from a calibration text: the same format, codes and scales chosen by what the model does with them.

Layers are rounded in the order in which a token meets them. Each sees the inputs that the already rounded layers
before it produce, and aims at the outputs that the original model had there: what rounding broke earlier is mended
later as far as one matrix can. A layer that adds to the hidden states aims at the original model's hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .. import tok
from ..blob.content import CertifiedHead
from ..blob.schema import TensorType
from ..errors import ConfigError
from ..quant import QTensor
from ..spec import Checkpoint
from ..tok.encode import encode
from .forward import Forward
from .head import Head, certify
from .kv import smooth
from .rounding import round_rows

Progress = Callable[[Iterable[Any], str], Iterable[Any]]
MAX_TOKENS = 16384
WINDOW = 256
KV_WINDOWS = 32
DAMP = 0.001  # of the mean second moment, more for a short text: columns that it hardly uses keep their weights
EMBED_SHARE = 0.3  # of the mean second moment: what a tied table owes to its use as an embedding


def improve(
    checkpoint: Checkpoint, tensors: Mapping[str, QTensor], ids: np.ndarray, progress: Progress
) -> dict[str, QTensor]:
    """`tensors` with every q4_0 matrix rounded anew by what the tokens `ids` [windows, positions] make of it.

    A matrix that q4_0 holds exactly stays as it is.
    """
    return Calibration(checkpoint, dict(tensors), ids).run(progress)


def smooth_kv(checkpoint: Checkpoint, tensors: Mapping[str, QTensor], ids: np.ndarray) -> dict[str, QTensor]:
    """`tensors` of the same function whose keys and values lose less in a 4-bit cache; see `kv`."""
    return smooth(checkpoint, tensors, ids[:KV_WINDOWS])


def certify_head(checkpoint: Checkpoint, tensors: Mapping[str, QTensor], ids: np.ndarray) -> CertifiedHead:
    """The head of a quantised model in certified form, for hidden states like those of `ids`; see `head`."""
    spec = checkpoint.spec
    values = {name: t.dequantise() for name, t in tensors.items()}
    forward = Forward(spec, {name: v[0] if len(v) == 1 else v for name, v in values.items()})
    states = forward.final(values, ids)
    name = "tok_embed" if spec.tied else "head"
    bias = values["head_bias"][0] if "head_bias" in values else np.zeros(spec.vocab, np.float32)
    return certify(Head(checkpoint.tensors[name], bias, tensors[name].kind), states)


def windows(checkpoint: Checkpoint, tokenizer: tok.Tokenizer, text: str) -> np.ndarray:
    """Token ids [windows, positions] of a text, spread over all of it, BOS first where the model wants one.

    ConfigError when the text has too few tokens.
    """
    bos = [tokenizer.bos] if checkpoint.facts["bos"].value and tokenizer.bos is not None else []
    ids = encode(tokenizer, text)
    size = min(WINDOW, checkpoint.spec.context)
    take = size - len(bos)
    count = len(ids) // take if take else 0
    if count == 0:
        raise ConfigError(
            f"the calibration text has {len(ids)} tokens, less than one window of {size}", "give a longer text"
        )
    chosen = np.unique(np.linspace(0, count - 1, min(count, max(1, MAX_TOKENS // size))).astype(int))
    return np.array([bos + ids[i * take : (i + 1) * take] for i in chosen])


class Calibration:
    """Two passes side by side: `true` through the original weights, `ours` through the rounded ones."""

    def __init__(self, checkpoint: Checkpoint, tensors: dict[str, QTensor], ids: np.ndarray) -> None:
        """`tensors` is rounded anew in place."""
        self.weights, self.tensors, self.ids = checkpoint.tensors, tensors, ids
        self.forward = Forward(checkpoint.spec, checkpoint.tensors)
        self.spec = checkpoint.spec
        self._inputs: dict[str, np.ndarray] = {}
        self._gap = np.zeros(0, np.float32)  # how far the hidden states have drifted, [tokens, dim]

    def run(self, progress: Progress) -> dict[str, QTensor]:
        """All layers; the improved tensors."""
        layers = range(len(self.spec.layers))
        self._round_table()
        true = self.forward.embed(self.weights["tok_embed"], self.ids)
        ours = self.forward.embed(self.tensors["tok_embed"].dequantise(), self.ids)
        for i in progress(list(layers), "calibrate"):
            for part in (self.forward.attention, self.forward.ffn):
                self._gap = (true - ours).reshape(-1, self.spec.dim)
                true = true + part(i, true, self._watched)
                ours = ours + part(i, ours, self._rounded)
                self._inputs.clear()
        if not self.spec.tied:
            self._watched("head", self._final(true))
            self._rounded("head", self._final(ours))
        return self.tensors

    def _final(self, x: np.ndarray) -> np.ndarray:
        return self.forward.norm("final_norm", x).reshape(-1, self.spec.dim)

    def _round_table(self) -> None:
        """The embedding comes first, so a tied one is weighed by what the original model's head sees."""
        if not self._can_improve("tok_embed"):
            return
        table = self.weights["tok_embed"]
        moments = np.eye(self.spec.dim, dtype=np.float32)
        if self.spec.tied:
            final = self.forward.final(self.weights, self.ids)
            seen = final.T @ final / len(final)
            moments = seen + EMBED_SHARE * np.trace(seen) / len(seen) * moments
        self.tensors["tok_embed"] = round_rows(self.tensors["tok_embed"], table, moments)

    def _can_improve(self, name: str) -> bool:
        tensor = self.tensors[name]
        return tensor.kind is TensorType.Q4_0 and not np.array_equal(tensor.dequantise(), self.weights[name])

    def _plain(self, name: str, x: np.ndarray) -> np.ndarray:
        return np.asarray(x @ self.weights[name].T)

    def _watched(self, name: str, x: np.ndarray) -> np.ndarray:
        """The original layer; its inputs are kept for `_rounded`."""
        self._inputs[name] = x
        return self._plain(name, x)

    def _rounded(self, name: str, x: np.ndarray) -> np.ndarray:
        """Round this layer for the inputs `x` that it really gets, then run it."""
        if self._can_improve(name):
            gap = self._gap if name.endswith(("wo", "w_down")) else None
            w, moments = aim(self.weights[name], self._inputs[name], x, gap)
            self.tensors[name] = round_rows(self.tensors[name], w, moments)
        return np.asarray(x @ self.tensors[name].dequantise().T)


def aim(w: np.ndarray, true: np.ndarray, ours: np.ndarray, gap: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The float weights that turn the inputs `ours` into the outputs w @ true + gap best, and the moments of `ours`.

    `true` and `ours` are [tokens, cols], `gap` is [tokens, rows]; both sums are damped towards `w` itself.
    """
    n, wide = len(ours), ours.astype(np.float64)
    moments = wide.T @ wide / n
    damp = (DAMP + len(moments) / n) * np.trace(moments) / len(moments) * np.eye(len(moments))
    cross = w @ (true.T @ wide / n + damp)
    if gap is not None:
        cross += gap.T @ wide / n
    moments += damp
    return np.linalg.solve(moments, cross.T).T.astype(np.float32), moments.astype(np.float32)
