"""Activation quantisation (rule 5): the two assembly halves around one division a block, against the C reference."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from pie import POISON, Machine
from pie_host import BLOCK, aligned, build
from pie_run import poison, program

TINY = np.float32(2.0**-100)
TO_SCALE = np.float32(float.fromhex("0x1.020408p-7"))


@pytest.fixture(scope="module")
def reference() -> ctypes.CDLL:
    return build()


def expected(library: ctypes.CDLL, x: np.ndarray, n: int, whole: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes [np], scales and sums of the reference kernel for x [np]."""
    blocks = (len(x) + BLOCK - 1) // BLOCK
    codes, scales, sums = (
        np.zeros(len(x), np.int8),
        np.zeros(1 if whole else blocks, np.float32),
        np.zeros(blocks, "i4"),
    )
    call = library.tlm_k_ref_quant_vector if whole else library.tlm_k_ref_quant_block
    call.restype = ctypes.c_bool
    ok = call(
        ctypes.c_void_p(x.ctypes.data),
        ctypes.c_uint32(n),
        ctypes.c_float(0.0),
        ctypes.c_void_p(codes.ctypes.data),
        ctypes.c_void_p(scales.ctypes.data),
        ctypes.c_void_p(sums.ctypes.data),
    )
    assert ok
    return codes, scales, sums


def run_quant(x: np.ndarray, whole: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Codes, scales, sums of x [np] and the instructions of both halves."""
    machine = Machine()
    place, call = machine.memory.place, machine.code(program("tlm_k_s3_quant")).call
    blocks = (len(x) + BLOCK - 1) // BLOCK
    at = place(x.tobytes(), "x", writable=False, align=16)
    peaks_at = place(poison(4 * blocks), "peaks", align=4)
    call("tlm_k_s3_absmax", [at, len(x), peaks_at])
    peaks = np.frombuffer(machine.memory.read(peaks_at, 4 * blocks), np.uint32)
    if whole:
        peaks = peaks.max(keepdims=True)
    peaks = peaks.copy().view(np.float32)
    live = peaks >= TINY
    inverse = np.where(live, np.float32(127) / np.where(live, peaks, np.float32(1)), np.float32(0)).astype(np.float32)
    inverse_at = place(inverse.tobytes(), "inverse", writable=False, align=4)
    codes_at, sums_at = place(poison(len(x)), "codes", align=16), place(poison(4 * blocks), "sums", align=4)
    call("tlm_k_s3_codes", [at, codes_at, inverse_at, 0 if whole else 4, sums_at, len(x)])
    codes = np.frombuffer(machine.memory.read(codes_at, len(x)), np.int8)
    sums = np.frombuffer(machine.memory.read(sums_at, 4 * blocks), np.int32)
    return codes, np.where(live, peaks * TO_SCALE, np.float32(0)), sums, machine.count


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("n", [1, 16, 31, 48, 128, 172, 272, 512])
def test_codes_scales_and_sums_equal_the_reference(reference: ctypes.CDLL, n: int, whole: bool) -> None:
    rng = np.random.default_rng(n)
    padded = (n + 15) // 16 * 16
    ties = np.arange(padded, dtype=np.float32) - padded // 2
    ties[0] = 254.0  # codes fall on halves
    inputs = [
        rng.normal(0, 1, padded),
        rng.normal(0, 1, padded) * np.exp(rng.uniform(-80, 80, padded)),
        np.where(np.arange(padded) % 64 < 32, 0.0, -0.0),
        ties,
        np.full(padded, 3.4e38),
        rng.normal(0, 1e-30, padded),
        np.full(padded, 2.0**-100) * rng.choice([1.0, 0.999], padded),
        np.full(padded, 1e-42),
    ]
    for values in inputs:
        x = np.asarray(values, np.float32)
        x[n:] = 0
        codes, scales, sums, _ = run_quant(x, whole)
        for found, right in zip((codes, scales, sums), expected(reference, x, n, whole), strict=True):
            assert found.tobytes() == right.tobytes()


def test_peaks_keep_what_is_not_finite() -> None:
    """The caller sees NaN and Inf as bits of 0x7f800000 and more, whatever their sign and lane."""
    for bits in (0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7F800001):
        for where in (0, 5, 30, 47):
            x = np.ones(48, np.float32)
            x.view(np.uint32)[where] = bits
            machine = Machine()
            out = machine.memory.place(poison(8), "peaks", align=4)
            at = machine.memory.place(x.tobytes(), "x", writable=False, align=16)
            machine.code(program("tlm_k_s3_quant")).call("tlm_k_s3_absmax", [at, 48, out])
            peaks = np.frombuffer(machine.memory.read(out, 8), np.uint32)
            assert peaks[where // BLOCK] == bits & 0x7FFFFFFF
            assert peaks[1 - where // BLOCK] == 0x3F800000


def run_whole(x: np.ndarray, floor: float = 0.0) -> tuple[bytes, bytes, bytes] | None:
    """Codes, scales and sums of tlm_k_s3_quant, None where it gives up."""
    machine = Machine()
    place, call = machine.memory.place, machine.code(program("tlm_k_s3_quant")).call
    blocks = (len(x) + BLOCK - 1) // BLOCK
    sizes = (len(x), 4 * blocks, 4 * blocks)
    out = [place(poison(size), "out", align=16 if i == 0 else 4) for i, size in enumerate(sizes)]
    at = place(x.tobytes(), "x", writable=False, align=16)
    bits = int(np.float32(floor).view(np.uint32))
    if not call("tlm_k_s3_quant", [at, *out, len(x) // 16, bits]):
        return None
    codes, scales, sums = (machine.memory.read(a, size) for a, size in zip(out, sizes, strict=True))
    return codes, scales, sums


def test_whole_quantisation_equals_the_reference(reference: ctypes.CDLL) -> None:
    rng = np.random.default_rng(4)
    for n in (16, 32, 48, 128, 176, 512):
        for peak in (1.0, 1e-30, 2.0**-100, 2.0**-101, 3e38, 1e-40, 0.0, 127.0, 1.9999999):
            x = aligned((rng.uniform(-1, 1, n) * peak).astype(np.float32))
            x[n // 3] = -peak
            found = run_whole(x)
            assert found is not None
            for ours, theirs in zip(found, expected(reference, x, n, False), strict=True):
                assert ours == theirs.tobytes(), (n, peak)


def test_whole_quantisation_has_a_floor_and_refuses_what_is_not_finite() -> None:
    x = np.full(32, 1e-9, np.float32)
    found = run_whole(x, 1e-5)
    assert found is not None
    assert np.frombuffer(found[1], np.float32)[0] == np.float32(1e-5) * TO_SCALE
    for value in (np.nan, np.inf, -np.inf):
        x = np.ones(48, np.float32)
        x[40] = value
        assert run_whole(x) is None


def test_queries_equal_the_reference(reference: ctypes.CDLL) -> None:
    """One scale for all values, codes at any place, nothing beside them; what is not finite is refused."""
    rng = np.random.default_rng(5)
    for n in (4, 8, 20, 64, 256):
        for peak in (1.0, 1e-30, 2.0**-100, 2.0**-101, 3e38, 1e-40, 0.0, 1.9999999, np.inf, np.nan):
            x = rng.uniform(-1, 1, (n + 15) // 16 * 16).astype(np.float32)
            x = aligned(x * np.float32(peak if np.isfinite(peak) else 1))
            x[n // 3], x[n:] = -peak, 0
            machine = Machine()
            place = machine.memory.place
            out, scale = place(poison(n + 2), "codes"), place(poison(4), "scale", align=4)
            at = place(x[:n].tobytes(), "x", writable=False, align=16)
            done = machine.code(program("tlm_k_s3_quant")).call("tlm_k_s3_query", [at, out + 1, scale, n // 4])
            assert done == np.isfinite(peak)
            if done:
                codes, scales, _ = expected(reference, x, n, True)
                assert machine.memory.read(out, n + 2) == poison(1) + codes[:n].tobytes() + poison(1)
                assert machine.memory.read(scale, 4) == scales.tobytes()


@pytest.mark.parametrize("cache", ["i8", "i4"])
def test_stores_equal_the_reference(reference: ctypes.CDLL, cache: str) -> None:
    """Every code at its place, nothing beside it."""
    most = 127 if cache == "i8" else 7
    rng = np.random.default_rng(7)
    for heads, dims in ((1, 4), (2, 8), (16, 8), (3, 64)):
        n = heads * dims
        x = aligned(rng.uniform(-1, 1, n).astype(np.float32))
        x[: min(n, 6)] = (1.0, -1.0, 2.5 / most, 3.5 / most, -0.5 / most, 0.5 / most)[: min(n, 6)]
        region, scales = np.full(16 * n, POISON, np.uint8), np.zeros(16, np.uint16)
        expected = region.copy()
        function = getattr(reference, f"tlm_k_ref_kv_store_{cache}")
        function.restype = ctypes.c_bool
        at = [ctypes.c_void_p(v.ctypes.data) for v in (expected, scales)]
        sizes = ctypes.c_uint32(heads), ctypes.c_uint32(dims)
        assert function(ctypes.c_void_p(x.ctypes.data), *sizes, False, *at, ctypes.c_uint32(5))
        inverse = np.float32(1) / (np.array([scales[5]], np.uint32) << 16).view(np.float32)
        machine = Machine()
        place = machine.memory.place
        args = [place(x.tobytes(), "x", writable=False, align=16), place(region.tobytes(), "region") + 5]
        args += [place(inverse.tobytes(), "inv", writable=False), n]
        machine.code(program("tlm_k_s3_store")).call(f"tlm_k_s3_store_{cache}", args)
        assert machine.memory.read(args[1] - 5, 16 * n) == expected.tobytes()
