"""NUMERICS.md as a program: the forward pass of any ModelSpec in float32 numpy, operation by operation.

It never imports the C library: the two are written apart from the same page and compared bit for bit. Rows, positions
and heads are computed together where the page makes them independent; the order inside a sum is always the page's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..blob.content import BlobContent, rope_turns
from ..blob.schema import Act, FfnKind, InputQuant, NormKind, PosKind
from ..kv import check_kv, parse_kv
from ..spec import LayerSpec, layer_name
from . import oracle_math as om
from .oracle_attn import Cache, attention
from .oracle_linear import Certified, Input, Linear
from .oracle_math import OracleError

_ACTS: dict[Act, Callable[[np.ndarray], np.ndarray]] = {
    Act.SILU: om.silu,
    Act.GELU_TANH: om.gelu_tanh,
    Act.GELU_ERF: om.gelu_erf,
    Act.RELU: om.relu,
    Act.RELU2: om.relu2,
}


class Oracle:
    """A model with its context. `position` counts the tokens in it."""

    def __init__(self, content: BlobContent, kv: str = "i8", context: int | None = None) -> None:
        """`kv` is f32, f16, i8, i4 or such as i4/2; `context` defaults to the model's."""
        self.spec = content.spec
        kind = parse_kv(kv)
        check_kv(kind, (layer.n_kv_heads for layer in self.spec.layers))
        self.position = 0
        self.context = min(context or self.spec.context, self.spec.context)
        self._linears: dict[str, Linear] = {}
        self._tensors = content.tensors
        self._certified = None if content.head is None else Certified(content.head)
        self._turns = rope_turns(self.spec.rope_freqs)
        self._caches = [
            Cache(kind, self.context, layer.n_kv_heads, self.spec.head_dim, self._feedback(i))
            for i, layer in enumerate(self.spec.layers)
        ]

    def rewind(self, position: int) -> None:
        """Forget all from `position` on."""
        if not 0 <= position <= self.position:
            raise OracleError(f"position {position} is not in the context", f"it holds {self.position} tokens")
        self.position = position

    def eval(self, ids: Sequence[int]) -> np.ndarray:
        """Append tokens; logits float32 [len(ids), vocab]. OracleError leaves the position as it was."""
        tokens = np.asarray(ids, np.int64)
        n = len(tokens)
        if n == 0 or tokens.min() < 0 or tokens.max() >= self.spec.vocab:
            raise OracleError(
                "no tokens, or a token id that the model does not have", f"ids are below {self.spec.vocab}"
            )
        if self.position + n > self.context:
            raise OracleError("no room left in the context window", f"it holds {self.context} tokens")
        with np.errstate(over="ignore", invalid="ignore"):
            logits = self._forward(tokens)
        self.position += n
        return logits

    def _forward(self, tokens: np.ndarray) -> np.ndarray:
        positions = np.arange(self.position, self.position + len(tokens))
        x = self._linear("tok_embed").rows(tokens)
        if self.spec.pos_kind is PosKind.LEARNED:
            x = x + self._tensors["pos_embed"].codes[positions]
        for i, layer in enumerate(self.spec.layers):
            x = x + self._attention(i, layer, x, positions)
            x = x + self._ffn(i, layer, x)
        h = self._norm("final_norm", x)
        if self._certified is not None:
            return self._certified(h)
        return self._biased("tok_embed" if self.spec.tied else "head", "head_bias", Input(h, InputQuant.PLAIN, 0.0))

    def _linear(self, name: str) -> Linear:
        if name not in self._linears:
            self._linears[name] = Linear(self._tensors[name])
        return self._linears[name]

    def _feedback(self, i: int) -> np.ndarray | None:
        name = layer_name(i, "k_feedback")
        return self._linear(name).rows(np.arange(self.spec.head_dim)) if name in self._tensors else None

    def _vector(self, name: str) -> np.ndarray | None:
        tensor = self._tensors.get(name)
        return None if tensor is None else tensor.codes[0]

    def _biased(self, name: str, bias: str, inp: Input) -> np.ndarray:
        """Rules 7 to 10."""
        y = self._linear(name)(inp)
        b = self._vector(bias)
        return y if b is None else y + b

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """Rule 11, or x itself where the model has no such norm."""
        g = self._vector(name)
        if g is None:
            return x
        return om.norm(x, self.spec.norm_eps, self.spec.norm_kind is NormKind.LAYER, g, self._vector(f"{name}_bias"))

    def _input(self, x: np.ndarray) -> Input:
        return Input(x, self.spec.input_quant, self.spec.norm_eps)

    def _attention(self, i: int, layer: LayerSpec, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        part = lambda name: layer_name(i, name)  # noqa: E731
        n, head_dim = len(x), self.spec.head_dim
        h = self._input(self._norm(part("attn_norm"), x))
        q = self._biased(part("wq"), part("bq"), h).reshape(n, -1, head_dim)
        k = self._biased(part("wk"), part("bk"), h).reshape(n, -1, head_dim)
        v = self._biased(part("wv"), part("bv"), h).reshape(n, -1, head_dim)
        if self.spec.pos_kind is PosKind.ROPE:
            q, k = self._rope(q, positions), self._rope(k, positions)
        if part("k_range") in self._tensors:
            centre, scale = self._tensors[part("k_range")].codes.reshape(2, -1, head_dim)
            q, k = q * np.repeat(scale, self.spec.n_heads // layer.n_kv_heads, axis=0), (k - centre) / scale
        cache = self._caches[i]
        cache.store(int(positions[0]), k, v)
        outs = [attention(q[j], cache, int(t), layer.window, self.spec.attn_scale) for j, t in enumerate(positions)]
        o = self._norm(part("attn_sub_norm"), np.stack(outs).reshape(n, -1))
        return self._biased(part("wo"), part("bo"), self._input(o))

    def _rope(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Rule 12 over x [n, heads, head_dim]."""
        half = self.spec.rope_dims // 2
        phases = positions.astype(np.uint32)[:, None] * self._turns[None, :]
        s, c = (table[:, None, :] for table in om.sin_cos(phases))
        a, b = x[..., :half], x[..., half : 2 * half]
        return np.concatenate([a * c - b * s, b * c + a * s, x[..., 2 * half :]], axis=-1)

    def _ffn(self, i: int, layer: LayerSpec, x: np.ndarray) -> np.ndarray:
        part = lambda name: layer_name(i, name)  # noqa: E731
        act = _ACTS[self.spec.act]
        h = self._input(self._norm(part("ffn_norm"), x))
        y = self._biased(part("w_up"), part("b_up"), h)
        gated = layer.ffn_kind is FfnKind.GATED
        y = act(self._biased(part("w_gate"), part("b_gate"), h)) * y if gated else act(y)
        return self._biased(part("w_down"), part("b_down"), self._input(self._norm(part("ffn_sub_norm"), y)))
