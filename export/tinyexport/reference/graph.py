"""Any ModelSpec as a plain PyTorch float32 forward pass: what verify compares the runtime with.

Nothing is quantised here and nothing is cached; positions are computed all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..blob.schema import Act, FfnKind, InputQuant, NormKind
from ..errors import ConfigError
from ..spec import Checkpoint, ModelSpec, layer_name

if TYPE_CHECKING:
    import torch


def torch_logits(
    checkpoint: Checkpoint, ids: Sequence[int], weights: Mapping[str, np.ndarray] | None = None
) -> np.ndarray:
    """Logits float32 [n, vocab] of the token ids; `weights` replaces the checkpoint's tensors.

    ConfigError when there are more ids than the context holds.
    """
    import torch

    spec = checkpoint.spec
    if not 0 < len(ids) <= spec.context:
        raise ConfigError(f"{len(ids)} tokens do not fit a context of {spec.context}", "give 1 to context tokens")
    graph = Graph(spec, checkpoint.tensors if weights is None else weights)
    with torch.no_grad():
        out: np.ndarray = graph(torch.tensor(list(ids))).numpy()
    return out


class Graph:
    """The forward pass of one spec over canonical tensors."""

    def __init__(self, spec: ModelSpec, tensors: Mapping[str, np.ndarray]) -> None:
        import torch

        self.spec = spec
        self.tensors = {name: torch.from_numpy(np.array(t, np.float32)) for name, t in tensors.items()}

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [n, vocab] of ids [n]."""
        t, spec = self.tensors, self.spec
        x = t["tok_embed"][ids]
        if "pos_embed" in t:
            x = x + t["pos_embed"][: len(ids)]
        for i in range(len(spec.layers)):
            x = x + self._attention(i, self._norm(x, layer_name(i, "attn_norm")))
            x = x + self._ffn(i, self._norm(x, layer_name(i, "ffn_norm")))
        x = self._norm(x, "final_norm")
        logits = x @ t["tok_embed" if spec.tied else "head"].T
        return logits + t["head_bias"] if "head_bias" in t else logits

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """The spec's norm with gain and bias where these exist; x itself where there is no gain."""
        if name not in self.tensors:
            return x
        centred = x - x.mean(-1, keepdim=True) if self.spec.norm_kind is NormKind.LAYER else x
        y = self._unit(centred) * self.tensors[name]
        bias = self.tensors.get(name + "_bias")
        return y if bias is None else y + bias

    def _unit(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x.square().mean(-1, keepdim=True) + self.spec.norm_eps).rsqrt()

    def _input(self, x: torch.Tensor) -> torch.Tensor:
        """What a linear layer of a block sees: normed first where the norm is inside of it."""
        return self._unit(x) if self.spec.input_quant is InputQuant.NORM_CLAMP else x

    def _linear(self, i: int, weight: str, bias: str, x: torch.Tensor) -> torch.Tensor:
        y = x @ self.tensors[layer_name(i, weight)].T
        b = self.tensors.get(layer_name(i, bias))
        return y if b is None else y + b

    def _attention(self, i: int, x: torch.Tensor) -> torch.Tensor:
        import torch

        spec, layer, n = self.spec, self.spec.layers[i], len(x)
        x = self._input(x)
        q = self._turned(self._linear(i, "wq", "bq", x).view(n, spec.n_heads, spec.head_dim))
        k = self._turned(self._linear(i, "wk", "bk", x).view(n, layer.n_kv_heads, spec.head_dim))
        v = self._linear(i, "wv", "bv", x).view(n, layer.n_kv_heads, spec.head_dim)
        group = spec.n_heads // layer.n_kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * spec.attn_scale
        back = torch.arange(n)[:, None] - torch.arange(n)  # how far each key lies behind each query
        hidden = back < 0 if layer.window == 0 else (back < 0) | (back >= layer.window)
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        out = torch.einsum("hqk,khd->qhd", weights, v).reshape(n, -1)
        return self._linear(i, "wo", "bo", self._input(self._norm(out, layer_name(i, "attn_sub_norm"))))

    def _turned(self, x: torch.Tensor) -> torch.Tensor:
        """RoPE over half-split pairs of the leading elements of each head; x [n, heads, head_dim]."""
        import torch

        half = self.spec.rope_dims // 2
        if half == 0:
            return x
        angles = torch.arange(len(x))[:, None] * torch.tensor(self.spec.rope_freqs, dtype=torch.float64)
        cos, sin = (f(angles).float()[:, None] for f in (torch.cos, torch.sin))
        a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1)

    def _ffn(self, i: int, x: torch.Tensor) -> torch.Tensor:
        x = self._input(x)
        up, act = self._linear(i, "w_up", "b_up", x), _activation(self.spec.act)
        if self.spec.layers[i].ffn_kind is FfnKind.GATED:
            hidden = act(self._linear(i, "w_gate", "b_gate", x)) * up
        else:
            hidden = act(up)
        return self._linear(i, "w_down", "b_down", self._input(self._norm(hidden, layer_name(i, "ffn_sub_norm"))))


def _activation(act: Act) -> Callable[[torch.Tensor], torch.Tensor]:
    from torch.nn import functional

    functions: dict[Act, Callable[[torch.Tensor], torch.Tensor]] = {
        Act.SILU: functional.silu,
        Act.GELU_TANH: lambda x: functional.gelu(x, approximate="tanh"),
        Act.GELU_ERF: functional.gelu,
        Act.RELU: functional.relu,
        Act.RELU2: lambda x: functional.relu(x).square(),
    }
    return functions[act]
