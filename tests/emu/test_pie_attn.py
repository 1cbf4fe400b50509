"""The two products of attention over an int8 cache (rule 17), against a plain statement in numpy."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from pie import Machine
from pie_run import poison, program

SLOTS = 16


def run_score(pages: np.ndarray, q: np.ndarray, ks: np.ndarray, qa: float, offset: int) -> tuple[np.ndarray, int]:
    """scores [pages*16] for K [pages, dims, 16] at `offset` of each page, and the instruction count."""
    machine = Machine()
    place = machine.memory.place
    count, dims = len(pages), len(q)
    at = [place(poison(offset) + page.tobytes(), "page", writable=False, align=16) for page in pages]
    out = place(poison(4 * SLOTS * count), "scores", align=16)
    args = struct.pack(
        "<7If",
        place(struct.pack(f"<{count}I", *at), "pages", writable=False, align=4),
        offset,
        place(q.tobytes() + poison(1), "q", writable=False, align=1),
        place(ks.tobytes(), "ks", writable=False, align=16),
        out,
        dims,
        count,
        qa,
    )
    code = machine.code(program("tlm_k_s3_attn_i8"))
    code.call("tlm_k_s3_score_i8", [place(args, "args", writable=False, align=4)])
    return np.frombuffer(machine.memory.read(out, 4 * SLOTS * count), np.float32), machine.count


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
        machine = Machine()
        place = machine.memory.place
        at = place(out.tobytes(), "out", align=4)
        args = [
            place(w.tobytes(), "w", writable=False, align=16),
            place(v[0].tobytes() + poison(16), "v0", writable=False, align=16),
            place(v[1].tobytes() + poison(16), "v1", writable=False, align=16),
            dims,
            place(scale.tobytes(), "scale", writable=False, align=4),
            at,
        ]
        machine.code(program("tlm_k_s3_attn_i8")).call("tlm_k_s3_mix_i8", args)
        sums = np.einsum("pds,ps->d", v.astype(np.int64), w.reshape(2, SLOTS).astype(np.int64))
        expected = out + sums.astype(np.float32) * scale
        assert machine.memory.read(at, 4 * dims) == expected.tobytes()
