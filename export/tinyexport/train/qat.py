"""Training through a quantiser: weights are rounded in the forward pass, gradients pass straight through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .recipe import Recipe

Rounding = Callable[[dict[str, Any]], dict[str, Any]]
BLOCK = 32


def q4_0_round(weight: Any) -> Any:
    """`weight` [rows, columns] as q4_0 holds it; same shape, type and device.

    The rule of `tinyexport.quant.q4_0` on a device of PyTorch's: blocks of 32 along a row, the last one shorter;
    the first element of largest magnitude gets the code -8; the scale is stored in float16.
    """
    import torch

    rows, columns = weight.shape
    pad = -columns % BLOCK
    blocks = torch.nn.functional.pad(weight.float(), (0, pad)).view(rows, -1, BLOCK)
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scale = largest / -8
    inverse = torch.nan_to_num(1 / scale, posinf=0.0, neginf=0.0)
    codes = torch.trunc(blocks * inverse + 8.5).clamp(max=15)
    values = (codes - 8) * scale.half().float()
    return values.view(rows, -1)[:, :columns].to(weight.dtype)


def straight_through(weight: Any, rounded: Any) -> Any:
    """`rounded` in the forward pass, the identity in the backward pass."""
    return weight + (rounded - weight).detach()


def rounding_of(recipe: Recipe) -> Rounding | None:
    """What the recipe's `qat` does to the named parameters of each step; None without it."""
    if not recipe.qat:
        return None

    def q4_0(params: dict[str, Any]) -> dict[str, Any]:
        return {
            name: straight_through(p, q4_0_round(p.detach())) if p.dim() == 2 and not is_position(name) else p
            for name, p in params.items()
        }

    return q4_0


def is_position(name: str) -> bool:
    """Position tables stay float32 in every blob."""
    return any(part in name for part in ("wpe", "pos_emb", "position"))
