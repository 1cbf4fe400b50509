"""Any ModelSpec in plain numpy floats over many windows at once, with a door at every linear layer.

PyTorch is not needed, and nothing is bit-exact here: these numbers only weigh rounding errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..blob.schema import Act, FfnKind, InputQuant, NormKind
from ..reference import oracle_math as om
from ..spec import ModelSpec, layer_name

Linear = Callable[[str, np.ndarray], np.ndarray]  # (canonical name, inputs [n, cols]) -> outputs [n, rows], no bias
_ACTS: Mapping[Act, Callable[[np.ndarray], np.ndarray]] = {
    Act.SILU: om.silu,
    Act.GELU_TANH: om.gelu_tanh,
    Act.GELU_ERF: om.gelu_erf,
    Act.RELU: om.relu,
    Act.RELU2: om.relu2,
}


class Forward:
    """Hidden states of windows [windows, positions, dim], one layer after the other."""

    def __init__(self, spec: ModelSpec, vectors: Mapping[str, np.ndarray]) -> None:
        """`vectors` holds what is no matrix of a linear layer: norms, biases, position embeddings."""
        self.spec = spec
        self.vectors = vectors

    def embed(self, table: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Hidden states before the first layer; ids [windows, positions]."""
        x = table[ids]
        return x + self.vectors["pos_embed"][: ids.shape[1]] if "pos_embed" in self.vectors else x

    def final(self, weights: Mapping[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
        """Normed last hidden states [tokens, dim] of ids [windows, positions], with these matrices."""
        x = self.embed(weights["tok_embed"], ids)
        for i in range(len(self.spec.layers)):
            for part in (self.attention, self.ffn):
                x = x + part(i, x, lambda name, inputs: np.asarray(inputs @ weights[name].T))
        return self.norm("final_norm", x).reshape(-1, self.spec.dim)

    def attention(self, i: int, x: np.ndarray, linear: Linear) -> np.ndarray:
        """What the attention of layer `i` adds to the hidden states `x`."""
        window = self.spec.layers[i].window
        h = self._input(self.norm(layer_name(i, "attn_norm"), x))
        q, k, v = (self.heads(i, part, h, linear) for part in "qkv")
        out = np.stack([self._attend(*qkv, window) for qkv in zip(q, k, v, strict=True)])
        out = self.norm(layer_name(i, "attn_sub_norm"), out)
        return self.linear(i, "wo", "bo", self._input(out), linear)

    def heads(self, i: int, part: str, h: np.ndarray, linear: Linear) -> np.ndarray:
        """Queries, keys or values (`part` q, k, v) of the inputs h: [windows, positions, heads, head_dim]."""
        y = self.linear(i, f"w{part}", f"b{part}", h, linear).reshape(*h.shape[:2], -1, self.spec.head_dim)
        return y if part == "v" else self._turned(y)

    def ffn(self, i: int, x: np.ndarray, linear: Linear) -> np.ndarray:
        """What the feed-forward part of layer `i` adds to the hidden states `x`."""
        h = self._input(self.norm(layer_name(i, "ffn_norm"), x))
        act = _ACTS[self.spec.act]
        if self.spec.layers[i].ffn_kind is FfnKind.GATED:
            gate = act(self.linear(i, "w_gate", "b_gate", h, linear))
            hidden = gate * self.linear(i, "w_up", "b_up", h, linear)
        else:
            hidden = act(self.linear(i, "w_up", "b_up", h, linear))
        hidden = self.norm(layer_name(i, "ffn_sub_norm"), hidden)
        return self.linear(i, "w_down", "b_down", self._input(hidden), linear)

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """The spec's norm; `x` itself where the model has none of this name."""
        gain = self.vectors.get(name)
        if gain is None:
            return x
        centred = x - x.mean(-1, keepdims=True) if self.spec.norm_kind is NormKind.LAYER else x
        y = self._unit(centred) * gain
        bias = self.vectors.get(f"{name}_bias")
        return y if bias is None else y + bias

    def linear(self, i: int, weight: str, bias: str, x: np.ndarray, linear: Linear) -> np.ndarray:
        """One linear layer with its bias; any leading axes."""
        y = linear(layer_name(i, weight), x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
        b = self.vectors.get(layer_name(i, bias))
        return y if b is None else y + b

    def _unit(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.spec.norm_eps)))

    def _input(self, x: np.ndarray) -> np.ndarray:
        return self._unit(x) if self.spec.input_quant is InputQuant.NORM_CLAMP else x

    def _turned(self, x: np.ndarray) -> np.ndarray:
        """RoPE over x [windows, positions, heads, head_dim]."""
        half = self.spec.rope_dims // 2
        if half == 0:
            return x
        angles = np.arange(x.shape[1])[:, None, None] * np.asarray(self.spec.rope_freqs)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)

    def _attend(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, window: int) -> np.ndarray:
        """One window: q [n, heads, head_dim], k and v [n, kv heads, head_dim] -> [n, heads * head_dim]."""
        n, heads, _ = q.shape
        group = heads // k.shape[1]
        keys, values = (np.repeat(t.transpose(1, 0, 2), group, axis=0) for t in (k, v))
        out = self.attention_weights(q.transpose(1, 0, 2), keys, window) @ values
        return np.asarray(out.transpose(1, 0, 2).reshape(n, -1))

    def attention_weights(self, q: np.ndarray, k: np.ndarray, window: int) -> np.ndarray:
        """Softmax weights [heads, n, n] of q and k [heads, n, head_dim]; `window` 0 looks back all the way."""
        n = q.shape[1]
        scores = q @ k.transpose(0, 2, 1) * np.float32(self.spec.attn_scale)
        back = np.arange(n)[:, None] - np.arange(n)
        hidden = (back < 0) | (back >= window) if window else back < 0
        scores[:, hidden] = -np.inf
        e = np.exp(scores - scores.max(-1, keepdims=True))
        return np.asarray(e / e.sum(-1, keepdims=True))
