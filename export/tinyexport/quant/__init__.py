"""Quantisation types by name: f32, f16, q8_0, q4_0, t2, t1. One file a type, numpy only."""

from __future__ import annotations

import numpy as np

from ..blob.schema import TensorType, tensor_bytes
from ..errors import QuantError
from . import f16, f32, q4_0, q8_0, t1, t2, u32
from .base import REGISTRY, QTensor, QuantType, as_matrix, by_kind, register

for _module in (f32, f16, q8_0, q4_0, t2, t1, u32):
    register(_module.TYPE)

__all__ = ["NAMES", "QTensor", "QuantType", "get", "quantise", "unpack"]

NAMES = tuple(name for name in REGISTRY if name != "u32")


def get(name: str) -> QuantType:
    """The type called `name`; QuantError when there is none."""
    if name not in NAMES:
        raise QuantError(f"unknown weight type {name!r}", f"use one of {', '.join(NAMES)}")
    return REGISTRY[name]


def quantise(name: str, w: np.ndarray, scale: float | None = None) -> QTensor:
    """Hold the float matrix (or vector) `w` in the type `name`.

    `scale` is for ternary types: the known s of values in {-s, 0, +s}. QuantError on NaN, Inf, float16 overflow, or
    values that contradict `scale`.
    """
    return get(name).quantise(as_matrix(w), scale)


def unpack(kind: TensorType, data: bytes, rows: int, cols: int, scale: float) -> QTensor:
    """Inverse of `QTensor.pack`; QuantError when `data` is not what `pack` would have written."""
    if rows < 1 or cols < 1 or len(data) != tensor_bytes(kind, rows, cols):
        raise QuantError("a packed tensor has the wrong length", "the blob is damaged")
    return by_kind(kind).unpack(bytes(data), rows, cols, scale)
