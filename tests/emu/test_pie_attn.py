"""The two products of attention over an int8 cache (rule 17), against a plain statement in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from pie_run import run_mix, run_score

SLOTS = 16


@pytest.mark.parametrize("dims", [1, 7, 8, 16, 24, 32])
def test_scores(dims: int) -> None:
    rng = np.random.default_rng(dims)
    for extreme in (False, True):
        draw = (lambda *s: rng.choice([-127, 127], s)) if extreme else (lambda *s: rng.integers(-127, 128, s))
        pages, q = draw(3, dims, SLOTS).astype(np.int8), draw(dims).astype(np.int8)
        if extreme:
            pages[0], q[:] = 127, 127  # the largest sum in every lane
            pages[1] = -127
        ks = (rng.normal(0, 0.01, 3 * SLOTS).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
        qa = np.float32(rng.normal(0, 0.1))
        found, _ = run_score(pages, q, ks, float(qa), 64)
        sums = np.einsum("pds,d->ps", pages.astype(np.int64), q.astype(np.int64)).ravel()
        assert found.tobytes() == (sums.astype(np.float32) * (qa * ks)).tobytes()


@pytest.mark.parametrize("dims", [1, 8, 17, 64])
def test_mix(dims: int) -> None:
    rng = np.random.default_rng(dims)
    for out in (np.full(dims, -0.0, np.float32), rng.normal(0, 1, dims).astype(np.float32)):
        w = rng.integers(-127, 128, 2 * SLOTS).astype(np.int8)
        v = rng.integers(-127, 128, (2, dims, SLOTS)).astype(np.int8)
        v[:, 0] = 0  # a sum of zero keeps the sign rules visible
        scale = np.float32(rng.normal(0, 0.01))
        found, _ = run_mix(w, v, scale, out)
        sums = np.einsum("pds,ps->d", v.astype(np.int64), w.reshape(2, SLOTS).astype(np.int64))
        expected = out + sums.astype(np.float32) * scale
        assert found == expected.tobytes()
