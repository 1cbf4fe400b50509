"""The two products of attention over int8 and int4 caches (rule 17), against a plain statement in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from pie_run import run_mix, run_score

SLOTS = 16


def pack(cache: str, values: np.ndarray) -> np.ndarray:
    """Codes [..., dims, 16] as the cache holds them: int4 has two dims a byte, the even one as value + 8 below."""
    if cache == "i8":
        return values.astype(np.int8)
    if values.shape[-2] % 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1, :])], -2)
    return (values[..., 1::2, :] * 16 + values[..., 0::2, :] + 8).astype(np.int8)


def draws(cache: str, rng: np.random.Generator, extreme: bool, *shape: int) -> np.ndarray:
    most = 127 if cache == "i8" else 7
    return rng.choice([-most, most], shape) if extreme else rng.integers(-most, most + 1, shape)


@pytest.mark.parametrize(
    ("cache", "dims"), [("i8", d) for d in (1, 7, 8, 16, 32)] + [("i4", d) for d in (1, 7, 8, 33, 512)]
)
def test_scores(cache: str, dims: int) -> None:
    rng = np.random.default_rng(dims)
    for extreme in (False, True):
        pages = draws(cache, rng, extreme, 3, dims, SLOTS)
        q = draws("i8", rng, extreme, dims).astype(np.int8)
        if extreme:
            q[:] = 127  # the largest sums in every lane, int4 garbage of -8 included
            pages[0], pages[1] = pages.max(), -127 if cache == "i8" else -8
        ks = (rng.normal(0, 0.01, 3 * SLOTS).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
        qa = np.float32(rng.normal(0, 0.1))
        found, _ = run_score(cache, pack(cache, pages), q, ks, float(qa), 64)
        sums = np.einsum("pds,d->ps", pages.astype(np.int64), q.astype(np.int64)).ravel()
        assert found.tobytes() == (sums.astype(np.float32) * (qa * ks)).tobytes()


@pytest.mark.parametrize("cache", ["i8", "i4"])
@pytest.mark.parametrize("dims", [1, 8, 17, 64])
def test_mix(cache: str, dims: int) -> None:
    rng = np.random.default_rng(dims)
    for out in (np.full(dims, -0.0, np.float32), rng.normal(0, 1, dims).astype(np.float32)):
        w = rng.integers(-127, 128, 2 * SLOTS).astype(np.int8)
        v = draws(cache, rng, False, 2, dims, SLOTS)
        v[:, 0] = 0  # a sum of zero keeps the sign rules visible
        scale = np.float32(rng.normal(0, 0.01))
        found, _ = run_mix(cache, w, pack(cache, v), scale, out)
        sums = np.einsum("pds,ps->d", v.astype(np.int64), w.reshape(2, SLOTS).astype(np.int64))
        assert found == (out + sums.astype(np.float32) * scale).tobytes()
