"""Ternary weights: told from their values, unpacked from 2 bits, or made from latent floats."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import CheckpointError

_LEAST_SCALE = np.float32(1e-5)
_BAND = (0.4, 0.6)  # around the rounding threshold, in units of mean |W|
_CROWDED = 0.15


def exact_scale(weight: np.ndarray) -> float | None:
    """The s of a matrix whose values are all -s, 0 or +s; None for any other matrix."""
    magnitude = np.abs(weight)
    scale = magnitude.max(initial=0.0)
    if scale == 0 or not np.all((magnitude == 0) | (magnitude == scale)):
        return None
    return float(scale)


def from_latent(weight: np.ndarray) -> tuple[np.ndarray, float]:
    """What a BitLinear layer computes with: clip(round(W / s), -1, 1) * s, s = mean |W| of the matrix.

    Returns the float32 matrix and s.
    """
    scale = np.maximum(np.float32(np.abs(weight).mean(dtype=np.float64)), _LEAST_SCALE)
    codes = np.clip(np.rint(weight / scale), -1, 1)
    return (codes * scale).astype(np.float32), float(scale)


def looks_latent(matrices: Iterable[np.ndarray]) -> bool:
    """Whether matrices look like latent weights of BitLinear layers.

    Training through a straight-through estimator holds weights at the threshold where their rounding
    flips: more than 15 % lie within a fifth of it. Float models have 12 % there, whether their weights
    are normal (11.8 %), uniform (10 %) or trained (12.0 to 12.5 % in three tiny models; a ternary one
    has 18 % early in training).
    """
    shares = []
    for weight in matrices:
        magnitude = np.abs(weight)
        mean = magnitude.mean()
        shares.append(np.mean((magnitude > _BAND[0] * mean) & (magnitude < _BAND[1] * mean)))
    return bool(shares) and float(np.mean(shares)) > _CROWDED


def unpack(packed: np.ndarray, name: str) -> np.ndarray:
    """Values -1, 0, 1 [4*rows, cols] of transformers' packed uint8: row r + k*rows/4 is in bits 2k, 2k+1."""
    codes = np.concatenate([(packed >> shift) & 3 for shift in (0, 2, 4, 6)])
    if codes.max(initial=0) > 2:
        raise CheckpointError(f"packed ternary tensor {name} holds the code 3", "download the checkpoint again")
    return codes.astype(np.float32) - 1.0
