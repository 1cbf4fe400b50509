"""Runs a few instructions on a fresh core: for the tests of single instructions."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from pie import Machine
from pie_asm import parse_text

RUN: set[str] = set()
"""Every mnemonic that a test has run."""


def words(*values: int) -> bytes:
    """16 bytes of four 32-bit lanes."""
    return struct.pack("<4I", *(v & 0xFFFFFFFF for v in values))


def halves(*values: int) -> bytes:
    """16 bytes of eight 16-bit lanes."""
    return struct.pack("<8H", *(v & 0xFFFF for v in values))


def octets(*values: int) -> bytes:
    """16 bytes; a single value fills all lanes."""
    values = values * 16 if len(values) == 1 else values
    return bytes(v & 0xFF for v in values)


class Probe(Machine):
    """A machine with 256 bytes 0, 1, 2, ... at `at`, and `step` to run instructions on it."""

    def __init__(self, q: Mapping[int, bytes] | None = None, f: Sequence[float] = (), accx: int = 0, sar: int = 0):
        super().__init__()
        self.at = self.memory.place(bytes(range(256)), "memory", align=64)
        for index, value in (q or {}).items():
            self.q[index] = value
        self.f[: len(f)] = f
        self.accx, self.sar = accx, sar

    def step(self, text: str, *args: int) -> Probe:
        """Runs `text` (statements by `;` or newline) with `args` in a2, a3, ..."""
        body = text.replace(";", "\n")
        program = parse_text(f".align 4\nprobe: entry a1, 32\n{body}\nretw.n\n")
        RUN.update(line.op for line in program.code)
        self.code(program).call("probe", list(args), limit=10_000)
        return self

    def signed(self, register: int) -> int:
        """AR as a signed number."""
        return int(struct.unpack("<i", struct.pack("<I", self.a[register]))[0])
