"""KV cache and attention of the oracle (NUMERICS rules 15 to 18)."""

from __future__ import annotations

import numpy as np

from ..blob.schema import BLOCK
from ..kv import KvKind
from . import oracle_math as om
from .oracle_math import F, OracleError


class Cache:
    """Keys and values of one layer: values (f32, f16) or codes (i8, i4), as float32 [context, kv heads, head_dim].

    Scales [context, kv heads] are equal within a group of heads.
    """

    def __init__(
        self, kind: KvKind, context: int, n_kv_heads: int, head_dim: int, feedback: np.ndarray | None = None
    ) -> None:
        """Zeros; nothing is read before it was stored. `feedback` [head_dim, channels] belongs to the keys of i4."""
        self.kv_type, self.groups = kind
        self.feedback = feedback if self.kv_type == "i4" else None
        self.k = np.zeros((context, n_kv_heads, head_dim), F)
        self.v = np.zeros_like(self.k)
        self.ks = np.zeros((context, n_kv_heads), F)
        self.vs = np.zeros_like(self.ks)

    def store(self, at: int, k: np.ndarray, v: np.ndarray) -> None:
        """Store positions at..at+n, k and v [n, kv heads, head_dim] (rule 15)."""
        for x, values, scales, feedback in ((k, self.k, self.ks, self.feedback), (v, self.v, self.vs, None)):
            here = slice(at, at + len(x))
            if self.kv_type in ("i8", "i4"):
                self._store_codes(values[here], scales[here], x, feedback)
            else:
                values[here] = _as_stored(x, self.kv_type)

    def _store_codes(self, values: np.ndarray, scales: np.ndarray, x: np.ndarray, feedback: np.ndarray | None) -> None:
        heads, head_dim = x.shape[1] // self.groups, x.shape[2]
        for first in range(0, x.shape[1], heads):
            group = slice(first, first + heads)
            fed = None if feedback is None else feedback[:, first * head_dim : (first + heads) * head_dim]
            flat = x[:, group].reshape(len(x), -1)
            codes, scale = om.kv_codes(flat, 127 if self.kv_type == "i8" else 7, fed)
            values[:, group] = codes.reshape(len(x), heads, head_dim)
            scales[:, group] = scale[:, None]


def _as_stored(x: np.ndarray, kv_type: str) -> np.ndarray:
    if kv_type == "f16":
        with np.errstate(over="ignore"):
            x = x.astype(np.float16).astype(F)
    if not np.isfinite(x).all():
        raise OracleError("a key or value is not finite in the KV cache", "use the f32 or i8 cache")
    return x


def attention(q: np.ndarray, cache: Cache, t: int, window: int, scale: float) -> np.ndarray:
    """Outputs [heads, head_dim] of the query heads q at position t."""
    first = max(0, t - window + 1) if window else 0
    heads, head_dim = q.shape
    groups = q.reshape(cache.k.shape[1], -1, head_dim)
    mix = _attend_codes if cache.kv_type in ("i8", "i4") else _attend_floats
    return mix(groups, cache, first, t, F(scale)).reshape(heads, head_dim)


def _softmax_terms(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """e_t and 1/Z of scores [..., positions]; OracleError when a score is not finite (rule 3)."""
    om.absmax(score)
    e = om.exp(score - score.max(axis=-1, keepdims=True))
    return e, om.ONE / om.sum8(e)


def _attend_floats(q: np.ndarray, cache: Cache, first: int, t: int, scale: np.float32) -> np.ndarray:
    """Rule 16; q [kv heads, heads a kv head, head_dim]."""
    k = cache.k[first : t + 1].transpose(1, 0, 2)[:, None]
    v = cache.v[first : t + 1].transpose(1, 0, 2)[:, None]
    score = om.sum8(q[:, :, None, :] * k) * scale
    e, inv_z = _softmax_terms(score)
    o = np.add.accumulate(e[..., None] * v, axis=2)[:, :, -1]  # accumulate adds one position after the other
    return o * inv_z[..., None]


def _attend_codes(q: np.ndarray, cache: Cache, first: int, t: int, scale: np.float32) -> np.ndarray:
    """Rule 17; q [kv heads, heads a kv head, head_dim]."""
    codes, qs = om.quant(q)
    k = cache.k[first : t + 1].transpose(1, 2, 0)
    total = om.int_product(codes.astype(F), k)  # |sum| <= 1024 * 127 * 127
    score = total * ((qs * scale)[..., None] * cache.ks[first : t + 1].T[:, None])
    e, inv_z = _softmax_terms(score)
    start = first // BLOCK * BLOCK
    blocks = t // BLOCK + 1 - first // BLOCK
    w = np.zeros((*e.shape[:2], blocks * BLOCK), F)
    w[..., first - start : t + 1 - start] = e * cache.vs[first : t + 1].T[:, None]
    w_codes, ws = om.quant(w.reshape(*e.shape[:2], blocks, BLOCK))
    v = np.zeros((blocks * BLOCK, *cache.v.shape[1:]), F)
    v[first - start : t + 1 - start] = cache.v[first : t + 1]
    v = v.reshape(blocks, BLOCK, *v.shape[1:]).transpose(2, 0, 1, 3)  # [kv heads, blocks, 32, head_dim]
    sums = om.int_product(w_codes.transpose(0, 2, 1, 3).astype(F), v)  # |sum| <= 32 * 127 * 127
    o = np.add.accumulate(sums * ws.transpose(0, 2, 1)[..., None], axis=1)[:, -1]
    return o * inv_z[..., None]
