"""BitLM: a Llama-shaped model whose linear layers are BitLinear, trained with a straight-through estimator."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import ACTIVATIONS, RMSNorm, attend, init_weights, merge_heads, split_heads

_LEAST = 1e-5


@dataclass(frozen=True)
class BitLMConfig:
    """Sizes and variants; the defaults are the shape of tiny-tiny-stories (998,784 parameters)."""

    vocab_size: int = 192
    dim: int = 128
    n_layers: int = 5
    n_heads: int = 4
    n_kv_heads: int = 4
    ffn_dim: int = 336
    max_seq_len: int = 512
    act: str = "silu"
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tie_weights: bool = True
    input_quant: str = "none"  # "none" or "per_token" (int8)
    norm_inside: bool = False  # a unit-gain norm in each BitLinear, before its input is quantised

    def to_dict(self) -> dict[str, Any]:
        """What config.json holds; `model_type` names the architecture for tinyexport."""
        return {"model_type": "bitlm", **asdict(self)}


def ternary_weight(weight: Tensor) -> Tensor:
    """clip(round(W / s), -1, 1) * s with s = mean |W|; gradients pass straight through."""
    scale = weight.abs().mean().clamp(min=_LEAST)
    return weight + ((weight / scale).round().clamp(-1, 1) * scale - weight).detach()


def int8_tokens(x: Tensor) -> Tensor:
    """Each token rounded to 8 bits by its largest magnitude; gradients pass straight through."""
    scale = x.abs().amax(-1, keepdim=True).clamp(min=_LEAST) / 127
    return x + ((x / scale).round() * scale - x).detach()


class BitLinear(nn.Linear):
    """A linear layer that computes with ternary weights made from its float (latent) ones."""

    def __init__(self, config: BitLMConfig, columns: int, rows: int) -> None:
        """Latent weight [rows, columns], no bias."""
        super().__init__(columns, rows, bias=False)
        self.quantise_input = config.input_quant == "per_token"
        self.norm_inside, self.eps = config.norm_inside, config.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., columns] -> [..., rows]."""
        if self.norm_inside:
            x = x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return functional.linear(int8_tokens(x) if self.quantise_input else x, ternary_weight(self.weight))


def rotate(x: Tensor, theta: float) -> Tensor:
    """RoPE over half-split pairs; x [B, heads, T, d]."""
    half = x.shape[-1] // 2
    freqs = theta ** (-torch.arange(half, dtype=torch.float64, device=x.device) / half)
    angles = torch.arange(x.shape[-2], dtype=torch.float64, device=x.device)[:, None] * freqs
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Attention(nn.Module):
    """Causal attention with RoPE and grouped kv heads."""

    def __init__(self, config: BitLMConfig) -> None:
        """Projections of the config's sizes."""
        super().__init__()
        self.config = config
        kv_dim = config.dim // config.n_heads * config.n_kv_heads
        self.wq, self.wo = BitLinear(config, config.dim, config.dim), BitLinear(config, config.dim, config.dim)
        self.wk, self.wv = BitLinear(config, config.dim, kv_dim), BitLinear(config, config.dim, kv_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, dim] -> [B, T, dim]."""
        c = self.config
        q, k = split_heads(self.wq(x), c.n_heads), split_heads(self.wk(x), c.n_kv_heads)
        v = split_heads(self.wv(x), c.n_kv_heads)
        return self.wo(merge_heads(attend(rotate(q, c.rope_theta), rotate(k, c.rope_theta), v)))


class FeedForward(nn.Module):
    """down(act(gate(x)) * up(x))."""

    def __init__(self, config: BitLMConfig) -> None:
        """Projections of the config's sizes."""
        super().__init__()
        self.act = ACTIVATIONS[config.act]
        self.gate, self.up = (BitLinear(config, config.dim, config.ffn_dim) for _ in range(2))
        self.down = BitLinear(config, config.ffn_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, dim] -> [B, T, dim]."""
        return self.down(self.act(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention and feed-forward, each after a norm and added to the stream."""

    def __init__(self, config: BitLMConfig) -> None:
        """One layer of the config."""
        super().__init__()
        self.attn_norm, self.ffn_norm = RMSNorm(config.dim, config.norm_eps), RMSNorm(config.dim, config.norm_eps)
        self.attn, self.ffn = Attention(config), FeedForward(config)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, dim] -> [B, T, dim]."""
        x = x + self.attn(self.attn_norm(x))
        return x + self.ffn(self.ffn_norm(x))


class BitLM(nn.Module):
    """The whole model: ids [B, T] -> logits [B, T, vocab]. Embedding and head stay in full precision."""

    def __init__(self, config: BitLMConfig) -> None:
        """Freshly initialised latent weights."""
        super().__init__()
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        self.apply(init_weights)
        if config.tie_weights:
            self.head.weight = self.tok_emb.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, T, vocab]."""
        x = self.tok_emb(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))
