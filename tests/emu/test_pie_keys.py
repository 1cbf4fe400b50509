"""Keys of rules 12 and 15: the assembly against the C reference, bit for bit."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest
from pie import Machine
from pie_host import CWeight, aligned, build, make_case
from pie_run import poison, program

SLOT = 5
HEADS = 4


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return build()


class CFedKeys(ctypes.Structure):
    """tlm_fed_keys."""

    _fields_ = (
        ("k", ctypes.c_void_p),
        ("n", ctypes.c_uint32),
        ("stride", ctypes.c_uint32),
        ("position", ctypes.c_uint32),
        ("n_kv_heads", ctypes.c_uint32),
        ("head_dim", ctypes.c_uint32),
        ("feedback", ctypes.c_void_p),
        ("pages", ctypes.c_void_p),
        ("codes", ctypes.c_size_t),
        ("scales", ctypes.c_size_t),
        ("head0", ctypes.c_uint32),
    )


def weights(tiles: np.ndarray, dims: int) -> np.ndarray:
    """float32 [dims, HEADS*dims] of a q4_0 matrix in the blob's layout."""
    cols, padded = HEADS * dims, (HEADS * dims + 15) // 16 * 16
    blocks, found = (padded + 31) // 32, []
    for tile in tiles.reshape(-1, 16 * blocks + 4 * padded):
        scales = tile[: 16 * blocks].view(np.float16).reshape(blocks, 8).T.astype(np.float32)
        bytes_of = tile[16 * blocks :].reshape(4, padded).astype(np.int32)
        codes = np.stack([(bytes_of & 15) - 8, (bytes_of >> 4 ^ 8) - 8], 1).reshape(8, padded)
        found.append(codes.astype(np.float32) * np.repeat(scales, 32, 1)[:, :padded])
    return np.concatenate(found)[:dims, :cols]


def expected_codes(library: ctypes.CDLL, tiles: np.ndarray, x: np.ndarray, dims: int) -> tuple[bytes, np.float32]:
    """The page's codes after the reference kernel, and the inverse of the scale."""
    data, keys = aligned(np.concatenate([tiles, np.zeros(64, np.uint8)]), 64), aligned(x)
    page = aligned(np.frombuffer(poison(32 + 8 * x.size), np.uint8))
    w = CWeight(data.ctypes.data, dims, x.size, 0.0, 0, False)
    pages = np.array([page.ctypes.data], np.uint64)
    args = CFedKeys(keys.ctypes.data, 1, x.size, SLOT, HEADS, dims, ctypes.addressof(w), pages.ctypes.data, 32, 0, 0)
    library.tlm_k_ref_kv_feed.restype = ctypes.c_bool
    assert library.tlm_k_ref_kv_feed(ctypes.byref(args))
    scale = np.array([page[:32].view(np.uint16)[SLOT]], np.uint32) << 16
    inverse = np.float32(1) / scale.view(np.float32)[0] if scale[0] else np.float32(0)
    return page[32:].tobytes(), inverse


def run_feed(f: np.ndarray, x: np.ndarray, inverse: np.float32, dims: int) -> tuple[bytes, int]:
    """The same page after tlm_k_s3_feed, and its instructions."""
    machine = Machine()
    place = machine.memory.place
    fours = [f.reshape(dims, HEADS, dims)[d, :, i] for d in range(dims - 2, -1, -1) for i in range(d + 1, dims)]
    fours = np.concatenate([np.zeros((1, HEADS), np.float32), np.reshape(fours, (-1, HEADS))])
    page = place(poison(8 * x.size), "page")
    args = [
        place(x.tobytes(), "k", writable=False, align=4),
        page + SLOT,
        place(fours.astype(np.float32).tobytes(), "f", writable=False, align=16),
        place(poison(16 * dims) + bytes(16), "e", align=16),
        place(inverse.tobytes(), "inv", writable=False, align=4),
        dims,
    ]
    machine.code(program("tlm_k_s3_feed")).call("tlm_k_s3_feed", args)
    return machine.memory.read(page, 8 * x.size), machine.count


@pytest.mark.parametrize("extreme", ["", "scales", "zeros"])
def test_fed_keys_equal_the_reference(library: ctypes.CDLL, extreme: str) -> None:
    """Every code at its place and nothing beside it; sums far out of a code's range, ties, keys of no size."""
    rng = np.random.default_rng(3)
    for dims in (2, 4, 6, 8, 8, 12, 16):
        for trial in range(4):
            tiles = make_case("q4_0", dims, HEADS * dims, 1, trial, extreme).tiles.copy()
            size = 16 * ((HEADS * dims + 31) // 32)
            if not extreme:  # errors that matter
                for at in range(0, len(tiles), size + 4 * ((HEADS * dims + 15) // 16 * 16)):
                    tiles[at : at + size] = rng.normal(0, 0.1, size // 2).astype(np.float16).view(np.uint8)
            x = rng.uniform(-1, 1, HEADS * dims).astype(np.float32)
            x[rng.integers(0, x.size, 4)] = (1, -1, 0.5 / 7, -0.0)
            x *= np.float32(0 if extreme == "zeros" else 10.0 ** rng.integers(-20, 20))
            codes, inverse = expected_codes(library, tiles, x, dims)
            assert run_feed(weights(tiles, dims), x, inverse, dims)[0] == codes, (dims, trial)


def test_centred_keys_are_true_quotients() -> None:
    """All sizes of scales and centres that the contract allows; keys on their centre and huge."""
    rng = np.random.default_rng(8)
    for n, size in itertools.product((1, 2, 16), (-20, 0, 20)):
        k = rng.normal(0, 1, (n, 8)).astype(np.float32)
        centre, scale = rng.normal(0, 1, 4).astype(np.float32), np.exp2(rng.uniform(-20, 20, 4)).astype(np.float32)
        scale[:2] = np.float32(2.0) ** size, np.nextafter(np.float32(2), np.float32(1))
        centre[0] = np.float32(2.0**-70) if size < 0 else np.nextafter(np.float32(2.0**70), np.float32(0))
        k[0, :4] = (np.nextafter(centre[0], np.float32(np.inf)), centre[1], -0.0, 1e38 if size < 0 else 1e-40)
        machine = Machine()
        place = machine.memory.place
        at = place(k.tobytes(), "k", align=16)
        rest = [place(v.tobytes(), "vector", writable=False, align=16) for v in (centre, scale)]
        machine.code(program("tlm_k_s3_keys")).call("tlm_k_s3_keys", [at, n, 32, *rest])
        with np.errstate(over="ignore"):
            k[:, :4] = (k[:, :4] - centre) / scale
        found = np.frombuffer(machine.memory.read(at, k.nbytes), np.float32).reshape(k.shape)
        finite = np.isfinite(k)
        assert found[finite].tobytes() == k[finite].tobytes() and not np.isfinite(found[~finite]).any()
