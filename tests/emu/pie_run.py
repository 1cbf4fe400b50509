"""Puts a case into the interpreter's memory as the contracts allow, no more, and runs one .S kernel on it.

Every buffer ends where its contract says; what may be read past an end is poison, what may not is not mapped.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

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
    half = case.padded % 32 == 16
    return {"linear_q4_0": 16 * half, "linear_q8_0": 16 * half, "linear_t2": 16, "batch_q4_0": 16 * half}.get(name, 32)


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
    scratch = 8 * max(blocks, batch) if name.startswith("linear") else blocks * (4 * batch + 96) + 64
    align = 16 if name.startswith("linear") else 8
    single = name in ("linear_q4_0", "linear_q8_0")
    y = place(poison(batch * y_stride), "y", align=align)
    args = struct.pack(
        "<12If",
        place(case.tiles.tobytes() + poison(tile_tail(name, case)), "tiles", writable=False, align=16),
        place(codes.tobytes() + poison(16 if half and single else 0), "codes", writable=False, align=16),
        place(scales.tobytes(), "scales", writable=False, align=4),
        place(sums.tobytes(), "sums", writable=False, align=4),
        y,
        place(poison(scratch), "scratch", align=16),
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


def kernel_file(name: str) -> Path:
    """Where a kernel stands."""
    return KERNELS / f"{name}.S"
