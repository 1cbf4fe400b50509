"""The floating-point kernels: activations, softmax and addition, against the C reference or a plain statement."""

from __future__ import annotations

import ctypes
import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pie import Machine
from pie_host import aligned, build
from pie_run import program

HERE = Path(__file__).parent
LOG2E, LN2_HI, LN2_LO = (float.fromhex(v) for v in ("0x1.715476p+0", "0x1.63p-1", "-0x1.bd0106p-13"))
E = [
    0.5,
    *(
        float.fromhex(v)
        for v in ("0x1.555554p-3", "0x1.55548ep-5", "0x1.111272p-7", "0x1.6d8db2p-10", "0x1.9f0816p-13")
    ),
]


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return build()


def hard_values(rng: np.random.Generator, count: int) -> np.ndarray:
    """Values in the middle, at the ends of the exponential's range, tiny, huge and of both zeros."""
    x = rng.normal(0, 3, count)
    x[: count // 4] *= np.exp(rng.uniform(-40, 40, count // 4))
    edges = [
        0.0,
        -0.0,
        60.0,
        -60.0,
        60.000004,
        -60.000004,
        30.0,
        -30.0,
        1e-40,
        -1e-40,
        3e38,
        -3e38,
        1e13,
        -1e13,
        1.19e-7,
    ]
    x[-len(edges) :] = edges
    return x.astype(np.float32)


@pytest.mark.parametrize("name", ["gelu_tanh", "silu"])
def test_activations_equal_the_reference(library: ctypes.CDLL, name: str) -> None:
    rng = np.random.default_rng(3)
    up = rng.normal(0, 1, 300).astype(np.float32)
    small = rng.uniform(-1, 1, 300).astype(np.float32) * np.float32(8.5 if name == "gelu_tanh" else 60)
    small[:6] = (0.0, -0.0, 1e-40, -1e-40, small.max(), small.min())
    larger = small.copy()
    larger[299] = 61
    for x, gate in itertools.product((hard_values(rng, 300), small, larger, small[:4]), (None, up)):
        expected = x.copy()
        function = getattr(library, f"tlm_k_ref_act_{name}")
        function.restype = None
        at = ctypes.c_void_p(gate.ctypes.data if gate is not None else None)
        function(ctypes.c_void_p(expected.ctypes.data), at, ctypes.c_uint32(len(x)))
        machine = Machine()
        place = machine.memory.place
        g = place(x.tobytes(), "g", align=16)
        u = 0 if gate is None else place(gate[: len(x)].tobytes(), "up", writable=False, align=16)
        machine.code(program("tlm_k_s3_act")).call(f"tlm_k_s3_act_{name}", [g, u, len(x)])
        found = np.frombuffer(machine.memory.read(g, x.nbytes), np.float32)
        assert found.tobytes() == expected.tobytes()


def test_activations_keep_what_is_not_finite() -> None:
    """So that the next quantisation sees it."""
    for name in ("gelu_tanh", "silu"):
        for value in (np.nan, np.inf, -np.inf):
            machine = Machine()
            x = np.array([1, 2, value, 3], np.float32)
            g = machine.memory.place(x.tobytes(), "g", align=16)
            machine.code(program("tlm_k_s3_act")).call(f"tlm_k_s3_act_{name}", [g, 0, 4])
            found = np.frombuffer(machine.memory.read(g, 16), np.float32)
            assert (np.isfinite(found) == np.isfinite(x)).all()


def test_the_quotient_is_right_for_every_significand(tmp_path: Path) -> None:
    """All 2^23: the steps of tlm_k_s3_recip.h in C, fused as there."""
    command = [
        "cc",
        "-O2",
        "-std=c99",
        "-ffp-contract=off",
        str(HERE / "pie_recip.c"),
        "-o",
        str(tmp_path / "recip"),
        "-lm",
    ]
    subprocess.run(command, check=True, timeout=60)
    done = subprocess.run([str(tmp_path / "recip")], check=True, timeout=120, capture_output=True, text=True)
    assert done.stdout == "0 0 0\n"


def statement_exp(x: np.ndarray) -> np.ndarray:
    """Rule 13 in binary32, x <= 0."""
    f = np.float32
    t = x * f(LOG2E) + f(12582912.0)
    n = t.view(np.uint32) - np.uint32(0x4B400000)
    nf = t - f(12582912.0)
    r = x - nf * f(LN2_HI)
    r = r - nf * f(LN2_LO)
    p = ((((f(E[5]) * r + f(E[4])) * r + f(E[3])) * r + f(E[2])) * r + f(E[1])) * r + f(E[0])
    y = ((p * r) * r + r) + f(1.0)
    return np.where(x < -60, f(0), (y.view(np.uint32) + (n << np.uint32(23))).view(np.float32))


@pytest.mark.parametrize("signs", [(-1, 1), (0.1, 1), (-1, -0.1)])
def test_range(signs: tuple[float, float]) -> None:
    """The largest of mixed, positive and negative values; how far they lie apart; what is not finite."""
    rng = np.random.default_rng(11)

    def run(x: np.ndarray) -> tuple[int, np.float32]:
        machine = Machine()
        place, call = machine.memory.place, machine.code(program("tlm_k_s3_softmax")).call
        top = place(bytes(4), "top", align=4)
        at = place(x.astype(np.float32).tobytes(), "x", writable=False, align=16)
        return call("tlm_k_s3_range", [at, len(x) // 4, top]), np.frombuffer(machine.memory.read(top, 4), np.float32)[0]

    for n in (4, 8, 48):
        x = rng.uniform(*signs, n).astype(np.float32)
        assert run(x) == (1, x.max())
        assert run(x * 300) == (2 if np.ptp(x * np.float32(300)) > 60 else 1, (x * np.float32(300)).max())
        for value in (np.nan, np.inf, -np.inf, -np.nan):
            broken = x.copy()
            broken[n - 2] = value
            assert run(broken)[0] == 0
    top = np.float32(30)
    for bottom, verdict in ((np.float32(-30), 1), (np.float32(-30.00001), 2)):
        assert run(np.array([top, bottom, 0.0, -0.0], np.float32)) == (verdict, top)


def test_softmax_steps() -> None:
    rng = np.random.default_rng(9)
    for n in (1, 2, 7, 8, 9, 40, 64):
        x = np.concatenate([rng.normal(0, 20, n), [0.0] * (-n % 8)]).astype(np.float32)
        if n > 8:
            x[:5] = (-3e38, -200.0, x[:n].max() - 60, x[:n].max() - 60.00001, -0.0)
        machine = Machine()
        call = machine.code(program("tlm_k_s3_softmax")).call
        at = machine.memory.place(x.tobytes(), "x", align=16)
        top = x[:n].max()
        call("tlm_k_s3_exp", [at, n, machine.memory.place(top.tobytes(), "top", writable=False, align=4)])
        with np.errstate(all="ignore"):
            x[:n] = statement_exp(x[:n] - top)
        assert machine.memory.read(at, x.nbytes) == x.tobytes()
        total = np.uint32(call("tlm_k_s3_sum8", [at, len(x) // 8])).view(np.float32)
        lanes = x[:8].copy()
        for i in range(8, len(x), 8):
            lanes = lanes + x[i : i + 8]
        a = lanes
        assert total == ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))


def test_exponentials_near_the_largest() -> None:
    """Down to 60 below, subnormal differences, equal values."""
    rng = np.random.default_rng(10)
    for quads in (1, 2, 12):
        for spread in (1e-38, 1, 30, 60):
            x = (-rng.uniform(0, spread, 4 * quads)).astype(np.float32)
            x[:4] = (-spread, 0.0, -0.0, x[1])
            top = x.max() + np.float32(spread == 30)
            machine = Machine()
            place = machine.memory.place
            at, top_at = place(x.tobytes(), "x", align=16), place(top.tobytes(), "top", writable=False, align=4)
            machine.code(program("tlm_k_s3_softmax")).call("tlm_k_s3_exp_near", [at, quads, top_at])
            assert machine.memory.read(at, x.nbytes) == statement_exp(x - top).tobytes()


def test_the_statement_is_the_reference(library: ctypes.CDLL) -> None:
    """Rule 13 as stated here, through the reference's silu: x * 1/(1 + exp(-x)) for x >= 0."""
    x = np.linspace(0, 70, 500).astype(np.float32)
    found = aligned(x)
    library.tlm_k_ref_act_silu(ctypes.c_void_p(found.ctypes.data), None, ctypes.c_uint32(len(x)))
    assert found.tobytes() == (x * (np.float32(1) / (np.float32(1) + statement_exp(-x)))).tobytes()


def test_products() -> None:
    x, y = np.random.default_rng(8).normal(0, 1, (2, 32)).astype(np.float32)
    machine = Machine()
    place = machine.memory.place
    out = place(bytes(128), "out", align=16)
    args = [out, *(place(v.tobytes(), "factor", writable=False, align=16) for v in (x, y)), 32]
    machine.code(program("tlm_k_s3_softmax")).call("tlm_k_s3_mul", args)
    assert machine.memory.read(out, 128) == (x * y).tobytes()


def test_quotients() -> None:
    rng = np.random.default_rng(12)
    for n in (4, 8, 64):
        for z in (1.0, 2.0, np.nextafter(np.float32(2), np.float32(1)), 256.0, *rng.uniform(1, 300, 20)):
            x, divisor = rng.normal(0, 1, n).astype(np.float32), np.float32(z)
            x[:2] = (-0.0, 1e-40)
            machine = Machine()
            at = machine.memory.place(x.tobytes(), "x", align=16)
            by = machine.memory.place(divisor.tobytes(), "z", writable=False, align=4)
            machine.code(program("tlm_k_s3_softmax")).call("tlm_k_s3_divide", [at, n // 4, by])
            assert machine.memory.read(at, x.nbytes) == (x * (np.float32(1) / divisor)).tobytes()


def test_scales_of_pages() -> None:
    halves = np.random.default_rng(13).integers(0, 1 << 16, (3, 16), np.uint16)
    halves[0, :2] = (0, 0x8000)
    machine = Machine()
    place = machine.memory.place
    pages = [place(bytes(32) + page.tobytes(), "page", writable=False, align=16) for page in halves]
    out = place(bytes(192), "out", align=16)
    args = [place(np.uint32(pages).tobytes(), "pages", writable=False, align=4), 32, out, 3]
    machine.code(program("tlm_k_s3_softmax")).call("tlm_k_s3_scales", args)
    assert machine.memory.read(out, 192) == (halves.astype(np.uint32) << 16).tobytes()


def test_addition() -> None:
    rng = np.random.default_rng(6)
    for n in (0, 1, 3, 4, 7, 128):
        y, x = rng.normal(0, 1, (2, n)).astype(np.float32)
        machine = Machine()
        place = machine.memory.place
        at, other = place(y.tobytes(), "y", align=16), place(x.tobytes(), "x", writable=False, align=16)
        machine.code(program("tlm_k_s3_add")).call("tlm_k_s3_add", [at, other, n])
        assert machine.memory.read(at, y.nbytes) == (y + x).tobytes()


@pytest.mark.parametrize("with_bias", [True, False])
def test_norm_passes(with_bias: bool) -> None:
    rng = np.random.default_rng(3)
    for n in (8, 24, 128):
        x, g, b = rng.normal(0, 1, (3, n)).astype(np.float32)
        x[:3] = (-0.0, 0.0, 1e-40)
        m, r = np.float32([0.125]), np.float32([1.7])
        machine = Machine()
        place, call = machine.memory.place, machine.code(program("tlm_k_s3_norm")).call
        vectors = [place(v.tobytes(), "vector", writable=False, align=16) for v in (x, g, b)]
        y = place(bytes(4 * n), "y", align=16)
        factors = [place(v.tobytes(), "factor", writable=False, align=4) for v in (m, r)]
        total = np.uint32(call("tlm_k_s3_centre", [y, vectors[0], factors[0], n // 8])).view(np.float32)
        d = x - m
        assert machine.memory.read(y, 4 * n) == d.tobytes()
        a, *rest = (d * d).reshape(-1, 8)
        for row in rest:
            a = a + row
        assert total == ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
        call("tlm_k_s3_gain", [y, factors[1], vectors[1], vectors[2] if with_bias else 0, n // 4])
        expected = (d * r) * g + b if with_bias else (d * r) * g
        assert machine.memory.read(y, 4 * n) == expected.tobytes()
