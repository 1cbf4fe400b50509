"""What the reference PyTorch models share. torch is imported with this module: import it inside functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "relu2": lambda x: functional.relu(x).square(),
}


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * gain over the last dimension."""

    def __init__(self, dim: int, eps: float) -> None:
        """Gain of ones [dim]."""
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention scaled by 1/sqrt(head_dim); q [B, heads, T, d], k and v [B, kv_heads, T, d]."""
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, T, heads*d] -> [B, heads, T, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, heads, T, d] -> [B, T, heads*d]."""
    return x.transpose(1, 2).flatten(-2)


def init_weights(module: nn.Module) -> None:
    """Normal(0, 0.02) for linear layers and embeddings, zero biases."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
