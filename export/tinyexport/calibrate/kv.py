"""Keys and values that a 4-bit cache holds better: the same function, its channels evened out.

The cache keeps one scale for all channels of a position (NUMERICS rule 15), so the widest channel sets the step of
every other one. Three folds change what is cached and nothing of what is computed: key channels divided by what the
queries are multiplied with; values likewise, undone in the output projection; and a constant taken off the keys (the
softmax does not see it, where positions are not rotated in) and off the values (attention weights sum to one, so it
returns through the output bias).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ..blob.schema import InputQuant, TensorType
from ..quant import QTensor, quantise
from ..quant.base import to_f16
from ..spec import Checkpoint, ModelSpec, layer_name
from .forward import Forward

BLOCK = 32
_PER_BLOCK = (TensorType.Q4_0, TensorType.Q8_0)
_FLOATS = (TensorType.F32, TensorType.F16)
_POWERS = (1, 2, 4, 8, 16)
_SWEEPS = 60
_MAX_FACTOR = 16.0
_MAX_ROWS = 2048  # positions that the search looks at


def smooth(checkpoint: Checkpoint, tensors: Mapping[str, QTensor], ids: np.ndarray) -> dict[str, QTensor]:
    """`tensors` with all folds that their types allow; ids [windows, positions] tell the ranges of the channels."""
    out = dict(tensors)
    spec = checkpoint.spec
    forward = Forward(spec, checkpoint.tensors)
    x = forward.embed(checkpoint.tensors["tok_embed"], ids)
    for i in range(len(spec.layers)):
        seen: dict[str, np.ndarray] = {}

        def linear(name: str, h: np.ndarray, seen: dict[str, np.ndarray] = seen) -> np.ndarray:
            seen[name] = h
            return np.asarray(h @ checkpoint.tensors[name].T)

        attention = forward.attention(i, x, linear)
        h = seen[layer_name(i, "wk")].reshape(*ids.shape, -1)
        heads = {part: _thinned(forward.heads(i, part, h, linear)) for part in "qkv"}
        _fold_keys(spec, i, out, heads["q"], heads["k"])
        _fold_values(spec, i, out, heads["v"])
        x = x + attention
        x = x + forward.ffn(i, x, linear)
    return out


def _thinned(y: np.ndarray) -> np.ndarray:
    """Channels [positions, channels] of y [windows, positions, heads, head_dim], not all positions."""
    flat = y.reshape(-1, y.shape[2] * y.shape[3])
    return flat[:: -(-len(flat) // _MAX_ROWS)]


def _fold_keys(spec: ModelSpec, i: int, tensors: dict[str, QTensor], q: np.ndarray, k: np.ndarray) -> None:
    wq, wk = layer_name(i, "wq"), layer_name(i, "wk")
    if not all(tensors[name].kind in (*_PER_BLOCK, *_FLOATS) for name in (wq, wk)):
        return
    if spec.rope_dims == 0:
        centre = _centre(k)
        _add_bias(tensors, layer_name(i, "bk"), -centre)
        k = k - centre
    group = q.shape[1] // k.shape[1]
    weight = (q * q).mean(0).reshape(-1, group, spec.head_dim).sum(1).reshape(-1)
    scales = even_out(k, weight, _rope_ties(spec, k.shape[1]))
    for name, bias, factor in (
        (wk, "bk", 1 / scales),
        (wq, "bq", np.repeat(scales.reshape(-1, spec.head_dim), group, axis=0).reshape(-1)),
    ):
        tensors[name] = scale_rows(tensors[name], factor)
        _scale_bias(tensors, layer_name(i, bias), factor)


def _fold_values(spec: ModelSpec, i: int, tensors: dict[str, QTensor], v: np.ndarray) -> None:
    wv, wo = layer_name(i, "wv"), layer_name(i, "wo")
    if layer_name(i, "attn_sub_norm") in tensors or spec.input_quant is InputQuant.NORM_CLAMP:
        return
    if not all(tensors[name].kind in (*_PER_BLOCK, *_FLOATS) for name in (wv, wo)):
        return
    group = tensors[wo].cols // v.shape[1]
    per_head = np.repeat(np.arange(v.shape[1]).reshape(-1, spec.head_dim), group, axis=0).reshape(-1)
    mix = tensors[wo].dequantise()
    centre = _centre(v)
    _add_bias(tensors, layer_name(i, "bv"), -centre)
    _add_bias(tensors, layer_name(i, "bo"), mix @ centre[per_head])
    weight = np.bincount(per_head, (mix * mix).sum(0), v.shape[1])
    ties = np.arange(v.shape[1])
    if tensors[wo].kind in _PER_BLOCK:
        if group > 1:
            return
        ties = ties // BLOCK
    scales = even_out(v - centre, weight, ties)
    tensors[wv] = scale_rows(tensors[wv], 1 / scales)
    _scale_bias(tensors, layer_name(i, "bv"), 1 / scales)
    tensors[wo] = scale_columns(tensors[wo], scales[per_head])


def _centre(x: np.ndarray) -> np.ndarray:
    """The middle of each channel's range, rare ends left out."""
    low, high = np.quantile(x, [0.005, 0.995], axis=0)
    return ((low + high) / 2).astype(np.float32)


def _rope_ties(spec: ModelSpec, channels: int) -> np.ndarray:
    """Group of each key channel: both elements of a rotated pair share their scale."""
    half = spec.rope_dims // 2
    at = np.arange(channels)
    within = at % spec.head_dim
    return np.where((within >= half) & (within < 2 * half), at - half, at)


def even_out(x: np.ndarray, weight: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Scales [channels] that lower sum(weight * scale^2) * E[max |x / scale|^2], equal where `ties` are equal.

    That product is the error that a step set by the widest channel makes in what is computed from x [n, channels].
    """
    groups, index = np.unique(ties, return_inverse=True)
    reach = np.stack([np.abs(x[:, index == g]).max(1) for g in range(len(groups))], 1).astype(np.float64) ** 2
    cost = np.bincount(index, weight)
    cost = np.maximum(cost, 1e-12 * cost.max())

    def error(s2: np.ndarray) -> float:
        return float((reach / s2).max(1).mean() * (cost * s2).sum())

    starts = [np.ones(len(cost)), np.maximum(reach.mean(0), 1e-12 * reach.mean())]
    found = min(starts, key=error)
    best, s2 = error(found), starts[1]
    # A high norm stands in for the maximum first: its gradient moves all channels at once.
    for power in _POWERS:
        for _ in range(_SWEEPS):
            part = (reach / s2) ** power
            total = part.sum(1)
            share = (part / total[:, None] * (total ** (1 / power))[:, None]).mean(0)
            share /= share.sum()
            s2 *= (share / (cost * s2 / (cost * s2).sum())) ** (1 / (power + 1))
            if error(s2) < best:
                best, found = error(s2), s2.copy()
    s2 = found
    scales = np.sqrt(s2)
    scales = np.clip(scales / np.exp(np.log(scales).mean()), 1 / _MAX_FACTOR, _MAX_FACTOR)
    return np.asarray(scales[index], np.float32)


def scale_rows(t: QTensor, factor: np.ndarray) -> QTensor:
    """Row r times factor[r], codes kept."""
    if t.scales is not None:
        return dataclasses.replace(t, scales=to_f16(t.scales.astype(np.float32) * factor[:, None]))
    return dataclasses.replace(t, codes=(t.codes * factor[:, None]).astype(t.codes.dtype))


def scale_columns(t: QTensor, factor: np.ndarray) -> QTensor:
    """Column c times factor[c]; equal within a block of a type with block scales."""
    if t.scales is not None:
        return dataclasses.replace(t, scales=to_f16(t.scales.astype(np.float32) * factor[::BLOCK]))
    return dataclasses.replace(t, codes=(t.codes * factor).astype(t.codes.dtype))


def _add_bias(tensors: dict[str, QTensor], name: str, value: np.ndarray) -> None:
    old = tensors[name].codes[0] if name in tensors else 0
    tensors[name] = quantise("f32", (old + value)[np.newaxis].astype(np.float32))


def _scale_bias(tensors: dict[str, QTensor], name: str, factor: np.ndarray) -> None:
    if name in tensors:
        tensors[name] = quantise("f32", (tensors[name].codes * factor).astype(np.float32))
