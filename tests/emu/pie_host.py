"""The C reference kernels, compiled for this machine and called through ctypes, and cases in the blob's layout."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "runtime_c" / "src"
ROWS = 8
BLOCK = 32
FOLDER = tempfile.TemporaryDirectory(prefix="tlm_pie_")
FLAGS = ["-O1", "-std=c99", "-ffp-contract=off", "-fPIC", "-shared"]


@cache
def build() -> ctypes.CDLL:
    """The reference kernels, and those of the ESP32-S3 with plain C for their assembly; compiled once a run."""
    library = Path(FOLDER.name) / "libtlm_ref.so"
    sources = [*sorted((SOURCE / "kernels" / "ref").glob("*.c")), *sorted((SOURCE / "kernels" / "esp32s3").glob("*.c"))]
    include = [f"-I{SOURCE}", f"-I{ROOT / 'runtime_c' / 'include'}"]
    stub = Path(__file__).parent / "pie_stub.c"
    command = ["cc", *FLAGS, *include, *map(str, sources), str(stub), "-o", str(library)]
    subprocess.run(command, check=True, timeout=120)
    return ctypes.CDLL(str(library))


class CWeight(ctypes.Structure):
    """tlm_weight."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("rows", ctypes.c_uint32),
        ("cols", ctypes.c_uint32),
        ("scale", ctypes.c_float),
        ("type", ctypes.c_uint8),
        ("repacked", ctypes.c_bool),
    )


class CInput(ctypes.Structure):
    """tlm_input."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("n", ctypes.c_uint32),
        ("batch", ctypes.c_uint32),
        ("x_stride", ctypes.c_uint32),
        ("code_stride", ctypes.c_uint32),
        ("block_stride", ctypes.c_uint32),
    )


@dataclass
class Case:
    """A weight matrix in the blob's layout and quantised input vectors.

    Attributes:
        kind: q4_0, q8_0 or t2.
        tiles: uint8 bytes of all tiles.
        codes: int8 [batch, np], zero past n.
        scales: float32 [batch, blocks]; [batch, 0] for t2.
        sums: int32 [batch, blocks].
        scale: the tensor's scale (t2).
    """

    kind: str
    rows: int
    n: int
    tiles: np.ndarray
    codes: np.ndarray
    scales: np.ndarray
    sums: np.ndarray
    scale: float = 1.0

    @property
    def batch(self) -> int:
        return int(self.codes.shape[0])

    @property
    def padded(self) -> int:
        return (self.n + 15) // 16 * 16

    @property
    def blocks(self) -> int:
        return (self.padded + BLOCK - 1) // BLOCK

    @property
    def n_tiles(self) -> int:
        return (self.rows + ROWS - 1) // ROWS

    @cached_property
    def weights(self) -> int:
        """Weights of whole tiles times input vectors: what instruction counts are divided by."""
        return self.n_tiles * ROWS * self.n * self.batch

    def reference(self, library: ctypes.CDLL) -> np.ndarray:
        """float32 [batch, rows] of tlm_k_ref_linear_<kind>."""
        return self.call(library, f"tlm_k_ref_linear_{self.kind}", (0, self.n_tiles), self.rows, 0)

    def call(
        self, library: ctypes.CDLL, name: str, tiles: tuple[int, int], y_stride: int, shift: int, mark: float = 0.0
    ) -> np.ndarray:
        """float32 [batch, rows] of a tlm_linear_fn over a range of tiles; y begins `shift` floats past 16 bytes."""
        data = aligned(np.concatenate([self.tiles, np.zeros(64, np.uint8)]), 64)
        codes = aligned(self.codes)
        scales, sums = np.ascontiguousarray(self.scales), np.ascontiguousarray(self.sums)
        y = aligned(np.full(shift + self.batch * y_stride, mark, np.float32))
        weight = CWeight(data.ctypes.data, self.rows, self.n, self.scale, 0, False)
        given = CInput(None, codes.ctypes.data, scales.ctypes.data, sums.ctypes.data, self.n, self.batch)
        given.code_stride, given.block_stride = codes.shape[1], scales.shape[1]
        function = getattr(library, name)
        function.restype = None
        function(
            ctypes.byref(weight),
            ctypes.byref(given),
            ctypes.c_uint32(tiles[0]),
            ctypes.c_uint32(tiles[1]),
            ctypes.c_void_p(y[shift:].ctypes.data),
            ctypes.c_uint32(y_stride),
        )
        return y[shift:].reshape(self.batch, y_stride)[:, : self.rows].copy()


def aligned(values: np.ndarray, to: int = 16) -> np.ndarray:
    """A copy whose data begins at a multiple of `to` bytes."""
    raw = np.zeros(values.nbytes + to, np.uint8)
    start = -raw.ctypes.data % to
    copy = raw[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def make_case(kind: str, rows: int, n: int, batch: int, seed: int, extreme: str = "") -> Case:
    """Random or extreme codes and scales in the blob's layout (pad rows and columns hold value 0, scale +0)."""
    rng = np.random.default_rng(seed)
    padded = (n + 15) // 16 * 16
    blocks = (padded + BLOCK - 1) // BLOCK
    tiles = (rows + ROWS - 1) // ROWS
    low, high = {"q4_0": (-8, 7), "q8_0": (-127, 127), "t2": (-1, 1)}[kind]
    values = rng.integers(low, high + 1, (tiles * ROWS, padded))
    x = rng.integers(-127, 128, (batch, padded))
    if extreme:
        values = rng.choice(np.array([low, high]), values.shape)
        x = rng.choice(np.array([-127, 127]), x.shape)
    if extreme == "one sign":
        values[:] = low
        x[:] = 127
    values[rows:] = 0
    values[:, n:] = 0
    x[:, n:] = 0
    ws = rng.normal(0, 0.02, (tiles * ROWS, blocks)).astype(np.float16)
    xs = np.abs(rng.normal(0, 0.05, (batch, blocks))).astype(np.float32)
    if extreme:
        bits = np.array([0, 0x8000, 1, 0x8001, 0x3FF, 0x83FF, 0x400, 0x7BFF, 0xFBFF, 0x3C00], np.uint16)
        ws = rng.choice(bits, ws.shape).view(np.float16)
        xs = rng.choice(np.array([0.0, 2.0**-107, 1e-30, 1.0, 32767.0], np.float32), xs.shape)
    ws[rows:] = 0
    x = x.astype(np.int8)
    wide = np.zeros((batch, blocks * BLOCK), np.int64)
    wide[:, :padded] = x
    sums = wide.reshape(batch, blocks, BLOCK).sum(2).astype(np.int32)
    scale = float(np.float32(rng.normal(0, 0.05)))
    return Case(kind, rows, n, _pack(kind, values, ws), x, xs, sums, scale)


def _pack(kind: str, values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    parts = []
    for at in range(0, len(values), ROWS):
        v = values[at : at + ROWS]
        if kind != "t2":
            parts.append(np.ascontiguousarray(scales[at : at + ROWS].T).view(np.uint8).ravel())
        if kind == "q8_0":
            parts.append(v.astype(np.int8).view(np.uint8).ravel())
        elif kind == "q4_0":
            parts.append((((v[1::2] & 15) << 4) | (v[0::2] + 8)).astype(np.uint8).ravel())
        else:
            fields = (v + 1).reshape(2, 4, -1)
            parts.append(
                (fields[:, 0] | fields[:, 1] << 2 | fields[:, 2] << 4 | fields[:, 3] << 6).astype(np.uint8).ravel()
            )
    return np.concatenate(parts)
