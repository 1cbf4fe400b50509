"""RoPE at export: frequencies with their scaling applied, and rows brought to half-split pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ConfigError
from .settings import positive


def frequencies(theta: float, dims: int, scaling: Mapping[str, Any], context: int) -> tuple[float, ...]:
    """Radians per position of each pair [dims/2]; ConfigError for a scaling that depends on the length."""
    plain = [theta ** (-2 * i / dims) for i in range(dims // 2)]
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    if kind in ("default", "none"):
        return tuple(plain)
    if kind == "linear":
        factor = _number(scaling, "factor")
        return tuple(f / factor for f in plain)
    if kind == "llama3":
        return tuple(_llama3(f, scaling) for f in plain)
    if kind == "dynamic":
        # Frequencies change only beyond the trained length, and no position lies beyond it here.
        trained = _number({"original_max_position_embeddings": context, **scaling}, "original_max_position_embeddings")
        if context <= trained:
            return tuple(plain)
        raise ConfigError(
            f"dynamic RoPE scaling changes the frequencies beyond {trained:.0f} positions",
            f"export with --context {trained:.0f}",
        )
    raise ConfigError(f"RoPE scaling {kind!r} is not supported", "supported: default, linear, llama3, dynamic")


def _number(scaling: Mapping[str, Any], key: str) -> float:
    return positive(f"{key} of the RoPE scaling", scaling.get(key))


def _llama3(freq: float, scaling: Mapping[str, Any]) -> float:
    """Llama 3.1: long waves are slowed by `factor`, short ones kept, those between blended."""
    factor, low, high = (_number(scaling, k) for k in ("factor", "low_freq_factor", "high_freq_factor"))
    trained = _number(scaling, "original_max_position_embeddings")
    turns = trained * freq / (2 * math.pi)  # full turns within the trained length
    if turns < low:
        return freq / factor
    if turns > high:
        return freq
    blend = (turns - low) / (high - low)
    return (1 - blend) * freq / factor + blend * freq


def half_split_rows(rows: np.ndarray, head_dim: int, rope_dims: int) -> np.ndarray:
    """Reorder [heads*head_dim, ...] rows from interleaved pairs (2i, 2i+1) to pairs (i, i + rope_dims/2)."""
    heads = rows.reshape(-1, head_dim, *rows.shape[1:])
    order = [*range(0, rope_dims, 2), *range(1, rope_dims, 2), *range(rope_dims, head_dim)]
    return np.ascontiguousarray(heads[:, order].reshape(rows.shape))


def interleaved_rows(rows: np.ndarray, head_dim: int, rope_dims: int) -> np.ndarray:
    """The inverse of `half_split_rows`."""
    heads = rows.reshape(-1, head_dim, *rows.shape[1:])
    half = rope_dims // 2
    order = [i for pair in range(half) for i in (pair, pair + half)] + list(range(rope_dims, head_dim))
    return np.ascontiguousarray(heads[:, order].reshape(rows.shape))
