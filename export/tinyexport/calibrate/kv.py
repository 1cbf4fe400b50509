"""Keys and values that a 4-bit cache holds better: the same function, its channels evened out.

The cache keeps one scale for all channels of a position (NUMERICS rule 15), so the widest channel sets the step of
every other one. Three things change what is cached and nothing of what is computed: key channels divided by what the
queries are multiplied with; values likewise, undone in the output projection; and a constant taken off the keys (the
softmax does not see it) and off the values (attention weights sum to one, so it returns through the output bias). They
are folded into the weights, except for keys that are rotated first: those have `k_range`.

What is left of the error is turned to where queries rarely look: the dimensions of a key are rounded one after the
other, each for the errors of those before it (`k_feedback`).
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
_DAMP = 1e-3  # of the mean second moment of the queries
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
        _fit_keys(spec, i, out, heads["q"], heads["k"])
        _fold_values(spec, i, out, heads["v"])
        x = x + attention
        x = x + forward.ffn(i, x, linear)
    return out


def _thinned(y: np.ndarray) -> np.ndarray:
    """Channels [positions, channels] of y [windows, positions, heads, head_dim], not all positions."""
    flat = y.reshape(-1, y.shape[2] * y.shape[3])
    return flat[:: -(-len(flat) // _MAX_ROWS)]


def _fit_keys(spec: ModelSpec, i: int, tensors: dict[str, QTensor], q: np.ndarray, k: np.ndarray) -> None:
    group = q.shape[1] // k.shape[1]
    centre = _centre(k)
    metric = _moments(q.reshape(len(q), -1, group, spec.head_dim))
    scales = even_out(k - centre, _triangular(metric)[1].reshape(-1), np.arange(k.shape[1]))
    q_factor = np.repeat(scales.reshape(-1, spec.head_dim), group, axis=0).reshape(-1)
    wq, wk = layer_name(i, "wq"), layer_name(i, "wk")
    if spec.rope_dims == 0 and all(tensors[name].kind in (*_PER_BLOCK, *_FLOATS) for name in (wq, wk)):
        _add_bias(tensors, layer_name(i, "bk"), -centre)
        for name, bias, factor in ((wk, "bk", 1 / scales), (wq, "bq", q_factor)):
            tensors[name] = scale_rows(tensors[name], factor)
            _scale_bias(tensors, layer_name(i, bias), factor)
    else:
        tensors[layer_name(i, "k_range")] = quantise("f32", np.stack([centre, scales]))
    s = scales.reshape(-1, spec.head_dim)
    tensors[layer_name(i, "k_feedback")] = feedback(metric * s[:, :, None] * s[:, None, :])


def feedback(metric: np.ndarray) -> QTensor:
    """The tensor `k_feedback`: how rounding a dimension makes up for what rounding did to the dimensions after it.

    `metric` M [heads, head_dim, head_dim] weighs the errors e of a key; e.M.e = sum_d D_d (e_d + sum_i>d L_id e_i)^2,
    and each of the brackets can be made a plain rounding error.
    """
    lower = np.tril(_triangular(metric)[0], -1)
    return quantise("q4_0", lower.transpose(2, 0, 1).reshape(metric.shape[1], -1).astype(np.float32))


def _moments(q: np.ndarray) -> np.ndarray:
    """Second moments [kv heads, head_dim, head_dim] of the queries [n, kv heads, heads of each, head_dim]."""
    return np.einsum("nhgi,nhgj->hij", q, q, dtype=np.float64) / len(q)


def _triangular(metric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """L [heads, d, d], unit lower, and D [heads, d] of metric = L D L^T, damped."""
    traces = np.trace(metric, axis1=1, axis2=2) / metric.shape[1]
    damp = _DAMP * traces + _DAMP**2 * traces.max() + np.finfo(np.float32).tiny
    root = np.linalg.cholesky(metric + damp[:, None, None] * np.eye(metric.shape[1]))
    d = np.diagonal(root, axis1=1, axis2=2)
    return root / d[:, None, :], d * d


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
