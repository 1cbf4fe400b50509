"""Puts a case into the interpreter's memory as the contracts allow, no more, and runs one .S kernel on it.

Every buffer ends where its contract says; what may be read past an end is poison, what may not is not mapped.
"""

from __future__ import annotations

import struct
from functools import cache

import numpy as np
from pie import POISON, Machine
from pie_asm import Program, parse
from pie_host import ROWS, SOURCE, Case

KERNELS = SOURCE / "kernels" / "esp32s3"


@cache
def program(name: str) -> Program:
    """The parsed file of one kernel."""
    return parse(KERNELS / f"{name}.S")


def poison(size: int) -> bytes:
    """Bytes that are wrong as codes, scales and results."""
    return bytes([POISON]) * size


def tile_tail(name: str, case: Case) -> int:
    """How far past the tiles the contract over the kernel lets it read."""
    if name == "four_q4_0":
        return 32
    return 16 if name in ("linear_t2", "batch_q4_0") or case.padded % 32 == 16 else 0


def run_linear(name: str, case: Case, vectors: slice) -> tuple[np.ndarray, int]:
    """Runs tlm_k_s3_<name> on `vectors` of the case.

    Returns:
        float32 [vectors, rows of whole tiles] and the instruction count.
    """
    machine = Machine()
    place = machine.memory.place
    codes, scales, sums = case.codes[vectors], case.scales[vectors], case.sums[vectors]
    batch, blocks = len(codes), case.blocks
    half = case.padded % 32 == 16
    y_stride = case.n_tiles * ROWS * 4
    scratch = {
        "linear_q4_0": 8 * blocks,
        "linear_q8_0": 4 * blocks,
        "linear_t2": 8 * batch,
        "batch_q4_0": blocks * (4 * batch + 160) + 96,
        "batch_q8_0": blocks * (4 * batch + 32),
        "four_q4_0": 80 * blocks,
    }[name]
    y = place(poison(batch * y_stride), "y", align=16)
    args = struct.pack(
        "<12If",
        place(case.tiles.tobytes() + poison(tile_tail(name, case)), "tiles", writable=False, align=16),
        place(codes.tobytes() + poison(16 if half and name != "linear_t2" else 0), "codes", writable=False, align=16),
        place(scales.tobytes(), "scales", writable=False, align=4),
        place(sums.tobytes(), "sums", writable=False, align=4),
        y,
        place(poison(scratch), "scratch", align=16 if name.startswith(("batch", "four")) else 8),
        case.n_tiles,
        case.padded,
        batch,
        codes.shape[1],
        scales.shape[1] * 4,
        y_stride,
        case.scale,
    )
    code = machine.code(program(f"tlm_k_s3_{name}"))
    code.call(f"tlm_k_s3_{name}", [place(args, "args", writable=False, align=4)])
    found = np.frombuffer(machine.memory.read(y, batch * y_stride), np.float32)
    return found.reshape(batch, -1), machine.count


def run_quant_halves(x: np.ndarray) -> int:
    """Instructions of tlm_k_s3_absmax and tlm_k_s3_codes over x [np]."""
    machine = Machine()
    place, call = machine.memory.place, machine.code(program("tlm_k_s3_quant")).call
    blocks = (len(x) + 31) // 32
    at, codes = place(x.tobytes(), "x", writable=False, align=16), place(poison(len(x)), "codes", align=16)
    sums = place(poison(4 * blocks), "sums", align=4)
    inverse = place(bytes(4 * blocks), "inverse", writable=False, align=4)
    call("tlm_k_s3_absmax", [at, len(x), sums])
    call("tlm_k_s3_codes", [at, codes, inverse, 4, sums, len(x)])
    return machine.count


def run_score(
    cache: str, pages: np.ndarray, q: np.ndarray, ks: np.ndarray, qa: float, offset: int
) -> tuple[np.ndarray, int]:
    """scores [pages*16] for the bytes of K [pages, rows, 16] at `offset` of each page, and the instruction count."""
    machine = Machine()
    place = machine.memory.place
    count, dims = len(pages), len(q)
    at = [place(poison(offset) + page.tobytes(), "page", writable=False, align=16) for page in pages]
    out = place(poison(64 * count), "scores", align=16)
    args = struct.pack(
        "<7If",
        place(struct.pack(f"<{count}I", *at), "pages", writable=False, align=4),
        offset,
        place(q.tobytes() + poison(2 if cache == "i4" else 1), "q", writable=False, align=1),
        place(ks.tobytes(), "ks", writable=False, align=16),
        out,
        dims,
        count,
        qa,
    )
    code = machine.code(program(f"tlm_k_s3_attn_{cache}"))
    code.call(f"tlm_k_s3_score_{cache}", [place(args, "args", writable=False, align=4)])
    return np.frombuffer(machine.memory.read(out, 64 * count), np.float32), machine.count


def run_mix(cache: str, w: np.ndarray, v: np.ndarray, scale: np.float32, out: np.ndarray) -> tuple[bytes, int]:
    """The bytes of `out` [dims] after V [2, rows, 16] was mixed in by codes w [32], and the instruction count."""
    machine = Machine()
    place = machine.memory.place
    at = place(out.tobytes(), "out", align=4)
    args = [
        place(w.tobytes(), "w", writable=False, align=16),
        place(v[0].tobytes(), "v0", writable=False, align=16),
        place(v[1].tobytes(), "v1", writable=False, align=16),
        len(out),
        place(np.float32(scale).tobytes(), "scale", writable=False, align=4),
        at,
    ]
    machine.code(program(f"tlm_k_s3_attn_{cache}")).call(f"tlm_k_s3_mix_{cache}", args)
    return machine.memory.read(at, out.nbytes), machine.count


def run_score_pages(cache: str, pages: int, dims: int) -> tuple[int, int]:
    """Instructions of the scores over `pages` pages and of a mix over one block of 32 positions."""
    zeros = np.zeros((pages, dims if cache == "i8" else (dims + 1) // 2, 16), np.int8)
    ks = np.zeros(16 * pages, np.float32)
    _, score = run_score(cache, zeros, np.zeros(dims, np.int8), ks, 1.0, 0)
    _, mix = run_mix(cache, np.zeros(32, np.int8), zeros[:2], np.float32(1), np.zeros(dims, np.float32))
    return score, mix


def run_floats(file: str, function: str, x: np.ndarray, rest: list[int | np.ndarray]) -> int:
    """Instructions of tlm_k_s3_<function>(x, ...); an array among the further arguments is passed by address."""
    machine = Machine()
    place = machine.memory.place
    args = [place(v.tobytes(), "argument", align=16) if isinstance(v, np.ndarray) else v for v in rest]
    code = machine.code(program(f"tlm_k_s3_{file}"))
    code.call(f"tlm_k_s3_{function}", [place(x.tobytes(), "x", align=16), *args])
    return machine.count
