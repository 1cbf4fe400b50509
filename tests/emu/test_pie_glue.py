"""The C around the assembly kernels, on the desk: `pie_stub.c` stands for the assembly and checks its contracts."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pie_host import ROOT, SOURCE, aligned, build, make_case

SLOTS = 16


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return build()


class CAttn(ctypes.Structure):
    """tlm_attn."""

    _fields_ = (
        ("q", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("pages", ctypes.c_void_p),
        ("k", ctypes.c_size_t),
        ("v", ctypes.c_size_t),
        ("ks", ctypes.c_size_t),
        ("vs", ctypes.c_size_t),
        ("head_dim", ctypes.c_uint32),
        ("n_heads", ctypes.c_uint32),
        ("n_kv_heads", ctypes.c_uint32),
        ("first", ctypes.c_uint32),
        ("last", ctypes.c_uint32),
        ("head0", ctypes.c_uint32),
        ("head1", ctypes.c_uint32),
        ("scale", ctypes.c_float),
        ("scratch", ctypes.c_void_p),
    )


def test_every_slot_by_the_test_of_backends(tmp_path: Path) -> None:
    """tests/c/test_backends.c, which knows the contract of each slot, with the sanitisers on."""
    kernels = SOURCE / "kernels"
    sources = [ROOT / "tests" / "c" / "test_backends.c", Path(__file__).parent / "pie_stub.c"]
    for folder in (kernels, kernels / "ref", kernels / "esp32s3"):
        sources += sorted(folder.glob("*.c"))
    command = ["cc", "-O1", "-std=c99", "-ffp-contract=off", "-D_POSIX_C_SOURCE=200809L", "-DTLM_TARGET_ESP32S3"]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command += [f"-I{SOURCE}", f"-I{ROOT / 'runtime_c' / 'include'}", *map(str, sources), "-o", str(tmp_path / "test")]
    subprocess.run(command, check=True, timeout=120)
    done = subprocess.run([str(tmp_path / "test"), "esp32s3"], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("ok "), done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["q4_0", "q8_0", "t2"])
def test_linear_slots_equal_the_reference(library: ctypes.CDLL, kind: str) -> None:
    """Rows that are no whole tile, tile ranges, odd strides and unaligned results, 1 to 16 vectors."""
    rng = np.random.default_rng(1)
    for trial in range(40):
        rows, batch = int(rng.integers(1, 60)), int(rng.integers(1, 17))
        n = int(rng.choice([16, 32, 48, 128, 172, 272, 512, 848, 1472, 1504]))
        case = make_case(kind, rows, n, batch, trial)
        first = int(rng.integers(0, case.n_tiles))
        tiles = (first, int(rng.integers(first, case.n_tiles)) + 1)
        stride, shift = rows + int(rng.integers(0, 9)), int(rng.integers(0, 4))
        mark = float(rng.normal())
        ours = case.call(library, f"tlm_k_s3_{kind}", tiles, stride, shift, mark)
        theirs = case.call(library, f"tlm_k_ref_linear_{kind}", tiles, stride, shift, mark)
        assert ours.tobytes() == theirs.tobytes(), (rows, n, batch, tiles, stride, shift)


def test_large_input_scales_go_to_the_reference(library: ctypes.CDLL) -> None:
    case = make_case("q4_0", 16, 128, 5, 3)
    case.scales[3, 2] = 1e30
    ours = case.call(library, "tlm_k_s3_q4_0", (0, 2), 16, 0)
    assert ours.tobytes() == case.reference(library).tobytes()


@pytest.mark.parametrize("name", ["quant_block", "quant_vector"])
def test_quantisation_slots_equal_the_reference(library: ctypes.CDLL, name: str) -> None:
    rng = np.random.default_rng(2)
    for n in (1, 16, 33, 48, 128, 172, 512):
        padded = (n + 15) // 16 * 16
        for floor, factor, broken in ((0.0, 1.0, None), (1e-5, 1e-9, None), (0.0, 1e-33, None), (0.0, 1.0, np.nan)):
            x = aligned((rng.normal(0, factor, padded)).astype(np.float32))
            x[n:] = 0
            if broken is not None:
                x[n // 2] = broken
            results = []
            for prefix in ("s3", "k_ref"):
                function = getattr(library, f"tlm_{'k_s3' if prefix == 's3' else 'k_ref'}_{name}")
                function.restype = ctypes.c_bool
                codes, scales = aligned(np.ones(padded, np.int8)), np.zeros(16, np.float32)
                sums = np.zeros(16, np.int32)
                at = [ctypes.c_void_p(v.ctypes.data) for v in (codes, scales, sums)]
                ok = function(ctypes.c_void_p(x.ctypes.data), ctypes.c_uint32(n), ctypes.c_float(floor), *at)
                blocks = (padded + 31) // 32
                results.append((ok, codes.tobytes(), scales.tobytes(), sums[:blocks].tobytes()) if ok else (ok,))
            assert results[0] == results[1], (n, floor, factor, broken)


def attention(
    library: ctypes.CDLL, name: str, values: dict[str, int], seed: int, poison: bool, broken: str = ""
) -> np.ndarray | None:
    """Output [heads, dims] of an attention kernel over random pages, None where it gives up.

    Slots after `last` hold any bytes; `broken` makes the query or the scores overflow.
    """
    rng = np.random.default_rng(seed)
    dims, heads, kv = values["head_dim"], values["n_heads"], values["n_kv_heads"]
    region = kv * dims * SLOTS
    count = values["last"] // SLOTS + 1
    pages = [aligned(np.zeros(2 * region + 64, np.uint8)) for _ in range(count)]
    for p, page in enumerate(pages):
        page[: 2 * region] = rng.integers(-127, 128, 2 * region).astype(np.int8).view(np.uint8)
        scales = (rng.uniform(0.001, 0.1, 2 * SLOTS).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        page[2 * region :] = scales.view(np.uint8)
        unused = np.arange(p * SLOTS, (p + 1) * SLOTS) > values["last"]
        if poison:
            page[2 * region :].view(np.uint16).reshape(2, SLOTS)[:, unused] = 0xFFC1
            page[: 2 * region].reshape(-1, SLOTS)[:, unused] = 0x80
    table = np.array([p.ctypes.data for p in pages], np.uint64)
    q = aligned(rng.normal(0, 1, heads * dims).astype(np.float32))
    if broken == "query":
        q[-1] = np.inf
    out = np.zeros(heads * dims, np.float32)
    scratch = aligned(np.full(1 << 16, 0xFF, np.uint8), 64)  # NaN where nothing was written
    args = CAttn(
        q.ctypes.data, out.ctypes.data, table.ctypes.data, 0, region, 2 * region, 2 * region + 32, dims, heads, kv
    )
    args.first, args.last, args.head0, args.head1 = values["first"], values["last"], values["head0"], values["head1"]
    args.scale, args.scratch = 1e38 if broken == "scores" else 1.0, scratch.ctypes.data
    function = getattr(library, name)
    function.restype = ctypes.c_bool
    return out if function(ctypes.byref(args)) else None


@pytest.mark.parametrize("cache", ["i8", "i4"])
def test_attention_slot_equals_the_reference(library: ctypes.CDLL, cache: str) -> None:
    rng = np.random.default_rng(5)
    for trial in range(60):
        kv = int(rng.integers(1, 4))
        heads = kv * int(rng.integers(1, 4))
        last = int(rng.integers(0, 130))
        values = {
            "head_dim": int(rng.choice([1, 6, 7, 8, 16, 32, 40, 68, 600])),
            "n_heads": heads,
            "n_kv_heads": kv,
            "last": last,
            "first": int(rng.integers(0, last + 1)) if trial % 2 else 0,
            "head0": trial % 3 % heads,
            "head1": heads,
        }
        ours = attention(library, f"tlm_k_s3_attn_{cache}", values, trial, poison=True)
        theirs = attention(library, f"tlm_k_ref_attn_{cache}", values, trial, poison=False)
        assert ours is not None and theirs is not None and ours.tobytes() == theirs.tobytes(), values


@pytest.mark.parametrize("broken", ["query", "scores"])
def test_attention_reports_what_is_not_finite(library: ctypes.CDLL, broken: str) -> None:
    values = {"head_dim": 8, "n_heads": 2, "n_kv_heads": 1, "first": 3, "last": 40, "head0": 0, "head1": 2}
    for name in ("tlm_k_s3_attn_i8", "tlm_k_ref_attn_i8"):
        assert attention(library, name, values, 1, poison=False, broken=broken) is None


def test_attention_scratch_holds_what_is_used(library: ctypes.CDLL) -> None:
    """Three rows of floats over the context, whole blocks; the reference asks for as much, for a desk to plan with."""
    library.tlm_k_s3_attn_scratch.restype = library.tlm_k_ref_attn_scratch.restype = ctypes.c_size_t
    for context in (1, 31, 32, 33, 256, 1000):
        for dims in (1, 8, 64, 1024):
            size = library.tlm_k_s3_attn_scratch(ctypes.c_uint32(context), ctypes.c_uint32(dims))
            assert size == library.tlm_k_ref_attn_scratch(ctypes.c_uint32(context), ctypes.c_uint32(dims))
            assert size >= 3 * 4 * ((context + 31) // 32 * 32)
