"""RMSNorm GPT, the family of the 2.5M, 5M, 7M and 10M models: learned positions, RMSNorm, tied head."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .layers import ACTIVATIONS, RMSNorm, attend, init_weights, merge_heads, split_heads


@dataclass(frozen=True)
class RmsGptConfig:
    """Sizes and variants of an RMSNorm GPT."""

    vocab_size: int
    dim: int
    n_layers: int
    n_heads: int
    ffn_dim: int
    max_seq_len: int = 256
    gated: bool = True
    act: str = "silu"  # of `layers.ACTIVATIONS`
    bias: bool = False
    tie_weights: bool = True
    norm_eps: float = 1e-6
    dropout: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """What config.json holds; `model_type` names the architecture for tinyexport."""
        return {"model_type": "rms_gpt", **asdict(self)}


class Attention(nn.Module):
    """Causal multi-head attention with one fused projection for q, k and v."""

    def __init__(self, config: RmsGptConfig) -> None:
        """Projections of the config's sizes."""
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.bias)
        self.proj = nn.Linear(config.dim, config.dim, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, dim] -> [B, T, dim]."""
        q, k, v = (split_heads(part, self.n_heads) for part in self.qkv(x).chunk(3, -1))
        return self.proj(merge_heads(attend(q, k, v)))


class FeedForward(nn.Module):
    """down(act(gate(x)) * up(x)), or down(act(up(x))) without a gate."""

    def __init__(self, config: RmsGptConfig) -> None:
        """Projections of the config's sizes."""
        super().__init__()
        self.act = ACTIVATIONS[config.act]
        self.gate = nn.Linear(config.dim, config.ffn_dim, bias=config.bias) if config.gated else None
        self.up = nn.Linear(config.dim, config.ffn_dim, bias=config.bias)
        self.down = nn.Linear(config.ffn_dim, config.dim, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, dim] -> [B, T, dim]."""
        hidden = self.act(self.up(x)) if self.gate is None else self.act(self.gate(x)) * self.up(x)
        return self.down(hidden)


class Block(nn.Module):
    """Attention and feed-forward, each after a norm and added to the stream."""

    def __init__(self, config: RmsGptConfig) -> None:
        """One layer of the config."""
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(config.dim, config.norm_eps), RMSNorm(config.dim, config.norm_eps)
        self.attn, self.ffn = Attention(config), FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, dim] -> [B, T, dim]."""
        x = x + self.dropout(self.attn(self.norm1(x)))
        return x + self.dropout(self.ffn(self.norm2(x)))


class RmsGpt(nn.Module):
    """The whole model: ids [B, T] -> logits [B, T, vocab]."""

    def __init__(self, config: RmsGptConfig) -> None:
        """Freshly initialised weights."""
        super().__init__()
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.dim)
        self.pos_emb = nn.Embedding(config.max_seq_len, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        self.apply(init_weights)
        if config.tie_weights:
            self.head.weight = self.tok_emb.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, T, vocab]; T is at most max_seq_len."""
        x = self.tok_emb(ids) + self.pos_emb(torch.arange(ids.shape[-1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))
