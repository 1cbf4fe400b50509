"""Core instructions: `TABLE[mnemonic] = (operands, builder, bytes)`; `pie_float.py` adds the FPU.

Semantics: Xtensa Instruction Set Architecture (ISA) Summary, chapter "Instruction Descriptions" (Core, Code Density,
Loop, Miscellaneous Operations, 32-bit Integer Multiply and Windowed Register Options).

Operand kinds: `a`, `f`, `q` registers; `i<low>:<high>:<step>` immediates; `S` immediate or data symbol (where it is too
wide the assembler makes an l32r of it: one instruction); `L<reach>` branch target; `W` loop end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pie import Machine

Step = Callable[[], "int | None"]
TABLE: dict[str, tuple[str, Callable[..., Step], int]] = {}
MASK = 0xFFFFFFFF
RETURN = -1
PAGE_BITS = 16


def op(name: str, spec: str, size: int = 3) -> Callable[[Callable[..., Step]], Callable[..., Step]]:
    """Registers a builder: builder(machine, *operands) gives the closure that performs the instruction."""

    def keep(build: Callable[..., Step]) -> Callable[..., Step]:
        TABLE[name] = (spec, build, size)
        return build

    return keep


def signed(value: int) -> int:
    """A 32-bit pattern as a two's complement number."""
    return value - 0x100000000 if value & 0x80000000 else value


def _both(names: tuple[str, str], spec: str, narrow_spec: str | None = None) -> Any:
    """Registers an instruction and its density form."""

    def keep(build: Callable[..., Step]) -> Callable[..., Step]:
        TABLE[names[0]] = (spec, build, 3)
        TABLE[names[1]] = (narrow_spec or spec, build, 2)
        return build

    return keep


@op("entry", "a i0:32760:8")
def _entry(m: Machine, s: int, size: int) -> Step:
    def step() -> None:
        if s != 1 or size < 32:
            raise ValueError("entry needs a1 and at least 32 bytes")
        m.a[1] -= size

    return step


@_both(("retw", "retw.n"), "")
def _retw(m: Machine) -> Step:
    return lambda: RETURN


@_both(("nop", "nop.n"), "")
def _nop(m: Machine) -> Step:
    return lambda: None


def _alu(name: str, work: Callable[[int, int], int], spec: str = "a a a", narrow: str | None = None) -> None:
    def build(m: Machine, r: int, s: int, t: int) -> Step:
        a = m.a
        if spec.endswith("a"):

            def step() -> None:
                a[r] = work(a[s], a[t]) & MASK
        else:

            def step() -> None:
                a[r] = work(a[s], t) & MASK

        return step

    TABLE[name] = (spec, build, 3)
    if narrow:
        TABLE[narrow] = (spec if spec.endswith("a") else "a a i-1:15:1", build, 2)


_alu("add", lambda s, t: s + t, narrow="add.n")
_alu("sub", lambda s, t: s - t)
_alu("and", lambda s, t: s & t)
_alu("or", lambda s, t: s | t)
_alu("xor", lambda s, t: s ^ t)
_alu("addx2", lambda s, t: (s << 1) + t)
_alu("addx4", lambda s, t: (s << 2) + t)
_alu("addx8", lambda s, t: (s << 3) + t)
_alu("subx2", lambda s, t: (s << 1) - t)
_alu("subx4", lambda s, t: (s << 2) - t)
_alu("subx8", lambda s, t: (s << 3) - t)
_alu("mull", lambda s, t: s * t)
_alu("min", lambda s, t: min(signed(s), signed(t)))
_alu("max", lambda s, t: max(signed(s), signed(t)))
_alu("minu", min)
_alu("maxu", max)
_alu("addi", lambda s, t: s + t, "a a i-128:127:1", narrow="addi.n")
_alu("addmi", lambda s, t: s + t, "a a i-32768:32512:256")
_alu("slli", lambda s, t: s << t, "a a i1:31:1")
_alu("srli", lambda s, t: s >> t, "a a i0:15:1")
_alu("srai", lambda s, t: signed(s) >> t, "a a i0:31:1")


@op("extui", "a a i0:31:1 i1:16:1")
def _extui(m: Machine, r: int, t: int, shift: int, width: int) -> Step:
    a, keep = m.a, (1 << width) - 1

    def step() -> None:
        a[r] = a[t] >> shift & keep

    return step


@op("neg", "a a")
def _neg(m: Machine, r: int, t: int) -> Step:
    def step() -> None:
        m.a[r] = -m.a[t] & MASK

    return step


@_both(("mov", "mov.n"), "a a")
def _mov(m: Machine, r: int, s: int) -> Step:
    a = m.a

    def step() -> None:
        a[r] = a[s]

    return step


@_both(("movi", "movi.n"), "a S", "a i-32:95:1")
def _movi(m: Machine, t: int, value: int) -> Step:
    def step() -> None:
        m.a[t] = value & MASK

    return step


def _conditional_move(name: str, test: Callable[[int], bool]) -> None:
    def build(m: Machine, r: int, s: int, t: int) -> Step:
        a = m.a

        def step() -> None:
            if test(a[t]):
                a[r] = a[s]

        return step

    TABLE[name] = ("a a a", build, 3)


_conditional_move("moveqz", lambda v: v == 0)
_conditional_move("movnez", lambda v: v != 0)
_conditional_move("movltz", lambda v: signed(v) < 0)
_conditional_move("movgez", lambda v: signed(v) >= 0)


def _branch_zero(name: str, test: Callable[[int], bool]) -> None:
    def build(m: Machine, s: int, target: int) -> Step:
        a = m.a
        return lambda: target if test(a[s]) else None

    TABLE[name] = ("a L2048", build, 3)


_branch_zero("beqz", lambda v: v == 0)
_branch_zero("bnez", lambda v: v != 0)
_branch_zero("bltz", lambda v: signed(v) < 0)
_branch_zero("bgez", lambda v: signed(v) >= 0)


def _branch(name: str, test: Callable[[int, int], bool]) -> None:
    def build(m: Machine, s: int, t: int, target: int) -> Step:
        a = m.a
        return lambda: target if test(a[s], a[t]) else None

    TABLE[name] = ("a a L128", build, 3)


_branch("beq", lambda s, t: s == t)
_branch("bne", lambda s, t: s != t)
_branch("blt", lambda s, t: signed(s) < signed(t))
_branch("bge", lambda s, t: signed(s) >= signed(t))
_branch("bltu", lambda s, t: s < t)
_branch("bgeu", lambda s, t: s >= t)
_branch("ball", lambda s, t: not ~s & t)  # all bits of the mask AR[t] are set


def _branch_bit(name: str, wanted: int) -> None:
    def build(m: Machine, s: int, bit: int, target: int) -> Step:
        a = m.a
        return lambda: target if a[s] >> bit & 1 == wanted else None

    TABLE[name] = ("a i0:31:1 L128", build, 3)


_branch_bit("bbci", 0)
_branch_bit("bbsi", 1)


@op("j", "L131072")
def _j(m: Machine, target: int) -> Step:
    return lambda: target


def _loop(name: str, enters: Callable[[int], bool]) -> None:
    """Loop Option: LCOUNT = AR[s] - 1; the body runs LCOUNT + 1 times; loopnez and loopgtz may skip it."""

    def build(m: Machine, s: int, ends: int) -> Step:
        begin, end = ends >> PAGE_BITS, ends & 0xFFFF

        def step() -> int | None:
            m.lbeg, m.lend, m.lcount = begin, end, (m.a[s] - 1) & MASK
            if enters(m.a[s]):
                return None
            m.lcount = 0
            return end

        return step

    TABLE[name] = ("a W", build, 3)


_loop("loop", lambda v: True)
_loop("loopnez", lambda v: v != 0)
_loop("loopgtz", lambda v: signed(v) > 0)


def _memory(
    name: str, size: int, spec: str, store: bool = False, sign: bool = False, narrow: str | None = None
) -> None:
    """Scalar loads and stores; the address must be a multiple of the size."""

    def build(m: Machine, t: int, s: int, offset: int) -> Step:
        a, at = m.a, m.memory.at

        def load() -> None:
            data, where = at(_aligned(a[s] + offset, size), size, False)
            a[t] = int.from_bytes(data[where : where + size], "little", signed=sign) & MASK

        def save() -> None:
            data, where = at(_aligned(a[s] + offset, size), size, True)
            data[where : where + size] = (a[t] & ((1 << 8 * size) - 1)).to_bytes(size, "little")

        return save if store else load

    TABLE[name] = (spec, build, 3)
    if narrow:
        TABLE[narrow] = ("a a i0:60:4", build, 2)


def _aligned(address: int, size: int) -> int:
    address &= MASK
    if address % size:
        from pie import Fault

        raise Fault(f"{size} bytes at {address:#x} are not aligned")
    return address


_memory("l8ui", 1, "a a i0:255:1")
_memory("l16ui", 2, "a a i0:510:2")
_memory("l16si", 2, "a a i0:510:2", sign=True)
_memory("l32i", 4, "a a i0:1020:4", narrow="l32i.n")
_memory("s8i", 1, "a a i0:255:1", store=True)
_memory("s16i", 2, "a a i0:510:2", store=True)
_memory("s32i", 4, "a a i0:1020:4", store=True, narrow="s32i.n")


@op("ssai", "i0:31:1")
def _ssai(m: Machine, amount: int) -> Step:
    def step() -> None:
        m.sar = amount

    return step


@op("ssr", "a")
def _ssr(m: Machine, s: int) -> Step:
    def step() -> None:
        m.sar = m.a[s] & 31

    return step


@op("src", "a a a")
def _src(m: Machine, r: int, s: int, t: int) -> Step:
    """The 32 bits of AR[s]:AR[t] that begin at bit SAR."""

    def step() -> None:
        m.a[r] = (m.a[s] << 32 | m.a[t]) >> m.sar & MASK

    return step


@op("srl", "a a")
def _srl(m: Machine, r: int, t: int) -> Step:
    def step() -> None:
        m.a[r] = m.a[t] >> m.sar

    return step


@op("sra", "a a")
def _sra(m: Machine, r: int, t: int) -> Step:
    def step() -> None:
        m.a[r] = signed(m.a[t]) >> m.sar & MASK

    return step
