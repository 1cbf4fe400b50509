"""An interpreter of the ESP32-S3 instructions that the .S kernels use; it runs the files as they are and counts.

`Machine` holds the core: 16 AR (windowed: only what `entry` shows), 16 FR as binary32 values, 8 QR of 16 bytes, ACCX
(40 bits), QACC (320 bits), SAR, SAR_BYTE and the loop registers. Instruction tables: `pie_xtensa.py` (core and FPU) and
`pie_vector.py` (PIE). No pipeline, cache or window exceptions: it tells what is computed and how many instructions
that takes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

import pie_float  # noqa: F401 (adds to the table)
import pie_lanes  # noqa: F401 (adds to the table)
import pie_vector
import pie_xtensa
from pie_asm import AsmError, Line, Program, evaluate

MASK = 0xFFFFFFFF
STACK_TOP = 0x3FCE0000
STACK_BYTES = 16 * 1024
RETURN = -1
POISON = 0xA5
LOOP_REACH = 256
PAGE_BITS = 16


class Fault(Exception):
    """A load or store outside of what was mapped, a misaligned scalar access, or a run that does not end."""


@dataclass
class Region:
    """Mapped bytes [base, base + len(data))."""

    base: int
    data: bytearray
    writable: bool
    name: str


class Memory:
    """Sparse memory: regions far apart, nothing between them."""

    def __init__(self) -> None:
        self._pages: dict[int, Region] = {}
        self._next = 0x3D000000

    def map(self, base: int, data: bytes | bytearray, name: str, writable: bool = True) -> Region:
        """A region at `base`; its 64 KB pages must be its own."""
        region = Region(base, bytearray(data), writable, name)
        for page in range(base >> PAGE_BITS, (base + max(len(data), 1) - 1 >> PAGE_BITS) + 1):
            if page in self._pages:
                raise Fault(f"{name} overlaps {self._pages[page].name}")
            self._pages[page] = region
        return region

    def place(self, data: bytes | bytearray, name: str, writable: bool = True, align: int = 64) -> int:
        """Maps `data` at a fresh address that is a multiple of `align` and of no larger power of two.

        Returns:
            The address.
        """
        base = self._next + align
        self._next += (len(data) + 2 * align | ((1 << PAGE_BITS) - 1)) + 1
        self.map(base, data, name, writable)
        return base

    def at(self, address: int, size: int, write: bool) -> tuple[bytearray, int]:
        """The bytes that hold `address` and the offset in them.

        Raises:
            Fault: outside every region, over its end, or a store to a read-only one.
        """
        region = self._pages.get(address >> PAGE_BITS)
        if region is None:
            raise Fault(f"{'store' if write else 'load'} of {size} bytes at {address:#x}: nothing is there")
        offset = address - region.base
        if offset < 0 or offset + size > len(region.data):
            raise Fault(f"{size} bytes at {address:#x}: {offset:+d} of {len(region.data)} in {region.name}")
        if write and not region.writable:
            raise Fault(f"store at {address:#x}: {region.name} is read-only")
        return region.data, offset

    def read(self, address: int, size: int) -> bytes:
        """Bytes [address, address + size)."""
        data, offset = self.at(address, size, False)
        return bytes(data[offset : offset + size])


class Machine:
    """One core and its memory."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.a = [0] * 16
        self.f = [0.0] * 16
        self.b = [False] * 16
        self.q = [bytes([POISON]) * 16 for _ in range(8)]
        self.accx = 0
        self.qacc = 0
        self.sar = 0
        self.sar_byte = 0
        self.lbeg = self.lend = self.lcount = 0
        self.count = 0
        self.memory.map(STACK_TOP - STACK_BYTES, bytes([POISON]) * STACK_BYTES, "stack")

    def code(self, program: Program) -> Code:
        """Decodes a program; its data sections are mapped read-only."""
        base = self.memory.place(program.data, "constants", writable=False) if program.data else 0
        return Code(self, program, base)


OPERAND = re.compile(r"(a|f|q|b)(\d+)$")
COUNTS = {"a": 16, "f": 16, "q": 8, "b": 16}


class Code:
    """A decoded program: one closure an instruction."""

    def __init__(self, machine: Machine, program: Program, data_base: int):
        self.machine = machine
        self.program = program
        self.names = {k: data_base + v for k, v in program.data_labels.items()}
        self.steps: list[Callable[[], int | None]] = []
        sizes = [_table(line)[2] for line in program.code]
        self.address = [0]
        for size in sizes:
            self.address.append(self.address[-1] + size)
        for index, line in enumerate(program.code):
            self.steps.append(self._decode(index, line))

    def _decode(self, index: int, line: Line) -> Callable[[], int | None]:
        spec, build, _ = _table(line)
        kinds = spec.split()
        if len(kinds) != len(line.args):
            raise AsmError(f"{line.where}: {line.op} takes {len(kinds)} operands, not {len(line.args)}")
        values = [self._operand(kind, text, index, line) for kind, text in zip(kinds, line.args, strict=True)]
        return build(self.machine, *values)

    def _operand(self, kind: str, text: str, index: int, line: Line) -> int:
        if kind in COUNTS:
            found = OPERAND.match("a1" if text == "sp" else text)
            if not found or found[1] != kind or int(found[2]) >= COUNTS[kind]:
                raise AsmError(f"{line.where}: {line.op}: '{text}' is not a register of kind {kind}")
            return int(found[2])
        if kind[0] in "LW":
            target = self.program.target(text, index, line.where)
            reach = self.address[target] - self.address[index]
            limit = LOOP_REACH if kind[0] == "W" else int(kind[1:])
            if (kind[0] == "W" and reach < 4) or abs(reach) >= limit:
                raise AsmError(f"{line.where}: {line.op} does not reach {text} ({reach} bytes)")
            return target if kind[0] == "L" else self._loop(index, target)
        if kind == "S" and text in self.names:
            return self.names[text]
        low, high, step = (-(2**31), 2**32 - 1, 1) if kind == "S" else (int(p) for p in kind[1:].split(":"))
        value = int(text, 0) if re.fullmatch(r"-?(0x)?[0-9a-fA-F]+", text) else self._expression(text, line)
        if not low <= value <= high or value % step:
            raise AsmError(f"{line.where}: {line.op}: {value} is not in {low}..{high} by {step}")
        return value

    def _expression(self, text: str, line: Line) -> int:
        return evaluate(text, self.program.equates, line.where)

    def _loop(self, index: int, end: int) -> int:
        """The end of a zero-overhead loop; its begin is the next instruction."""
        return (index + 1) << PAGE_BITS | end

    def call(self, name: str, args: list[int], limit: int = 20_000_000) -> int:
        """Runs function `name` as call8 would (arguments in a2..a7) and returns a2.

        Raises:
            Fault: a bad access, or more than `limit` instructions.
            KeyError: no such function.
        """
        m, steps = self.machine, self.steps
        start = self.program.labels[name]
        if start not in self.program.aligned or self.program.code[start].op != "entry":
            raise Fault(f"{name} must be aligned to 4 bytes and begin with entry")
        m.a[:] = [0xDEAD0000 + i for i in range(16)]
        m.a[1] = STACK_TOP - 64
        m.a[2 : 2 + len(args)] = [value & MASK for value in args]
        m.lcount = 0
        before = m.count
        pc = start
        count = 0
        while pc != RETURN:
            jump = steps[pc]()
            count += 1
            if jump is None:
                pc += 1
                if m.lcount and pc == m.lend:
                    m.lcount -= 1
                    pc = m.lbeg
            else:
                pc = jump
            if count > limit:
                raise Fault(f"{name} runs for more than {limit} instructions")
        m.count = before + count
        return m.a[2]


def _table(line: Line) -> tuple[str, Callable[..., Callable[[], int | None]], int]:
    entry = pie_xtensa.TABLE.get(line.op) or pie_vector.TABLE.get(line.op)
    if entry is None:
        raise AsmError(f"{line.where}: no instruction {line.op}")
    return entry


def bits_of(value: float) -> int:
    """The binary32 pattern of a value that is exact in it."""
    return int(struct.unpack("<I", struct.pack("<f", value))[0])
