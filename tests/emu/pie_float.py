"""Floating-point instructions; adds to `pie_xtensa.TABLE`.

Semantics: Xtensa ISA Summary, "Floating-Point Coprocessor Option"; rounding to nearest even (FCR = 0). A float register
holds a Python float that is a binary32 value. One binary32 operation done in binary64 and rounded once more gives the
binary32 result for + - * (53 >= 2*24 + 2), subnormals included.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from pie_xtensa import MASK, TABLE, Step, _aligned, op

if TYPE_CHECKING:
    from pie import Machine

FLOAT = struct.Struct("<f")
WORD = struct.Struct("<I")
DOUBLE = struct.Struct("<d")
DOUBLE_BITS = struct.Struct("<Q")
INFINITY = float("inf")


def to_single(value: float) -> float:
    """The nearest binary32, ties to even; too large becomes infinite."""
    try:
        return float(FLOAT.unpack(FLOAT.pack(value))[0])
    except OverflowError:
        return INFINITY if value > 0 else -INFINITY


def _float_alu(name: str, work: Callable[[float, float], float]) -> None:
    def build(m: Machine, r: int, s: int, t: int) -> Step:
        f, pack, unpack = m.f, FLOAT.pack, FLOAT.unpack

        def step() -> None:
            try:
                f[r] = unpack(pack(work(f[s], f[t])))[0]
            except OverflowError:
                f[r] = to_single(work(f[s], f[t]))

        return step

    TABLE[name] = ("f f f", build, 3)


_float_alu("add.s", lambda s, t: s + t)
_float_alu("sub.s", lambda s, t: s - t)
_float_alu("mul.s", lambda s, t: s * t)


def _fused(addend: float, product: float) -> float:
    """addend + product in one rounding to binary32; a product of two binary32 values is exact in binary64.

    The sum is first rounded to odd in binary64: the last bit then says whether something was lost.
    """
    total = addend + product
    if total - total != 0.0:
        return total
    part = total - addend
    lost = (addend - (total - part)) + (product - part)
    if lost and not DOUBLE_BITS.unpack(DOUBLE.pack(total))[0] & 1:
        total = math.nextafter(total, math.inf if lost > 0 else -math.inf)
    return to_single(total)


def _fused_alu(name: str, sign: float) -> None:
    """FR[r] = FR[r] + FR[s] * FR[t] (madd) or FR[r] - FR[s] * FR[t] (msub), rounded once."""

    def build(m: Machine, r: int, s: int, t: int) -> Step:
        f = m.f

        def step() -> None:
            f[r] = _fused(f[r], sign * f[s] * f[t])

        return step

    TABLE[name] = ("f f f", build, 3)


_fused_alu("madd.s", 1.0)
_fused_alu("msub.s", -1.0)


@op("olt.s", "b f f")
def _olt_s(m: Machine, r: int, s: int, t: int) -> Step:
    """Ordered and less: false where a side is NaN."""

    def step() -> None:
        m.b[r] = m.f[s] < m.f[t]

    return step


@op("movt.s", "f f b")
def _movt_s(m: Machine, r: int, s: int, t: int) -> Step:
    def step() -> None:
        if m.b[t]:
            m.f[r] = m.f[s]

    return step


@op("moveqz.s", "f f a")
def _moveqz_s(m: Machine, r: int, s: int, t: int) -> Step:
    def step() -> None:
        if m.a[t] == 0:
            m.f[r] = m.f[s]

    return step


@op("mov.s", "f f")
def _mov_s(m: Machine, r: int, s: int) -> Step:
    def step() -> None:
        m.f[r] = m.f[s]

    return step


@op("neg.s", "f f")
def _neg_s(m: Machine, r: int, s: int) -> Step:
    def step() -> None:
        m.f[r] = -m.f[s]

    return step


@op("float.s", "f a i0:15:1")
def _float_s(m: Machine, r: int, s: int, scale: int) -> Step:
    """FR[r] = AR[s] as a signed integer times 2^-scale, rounded once."""
    f, a, factor = m.f, m.a, 2.0**-scale

    def step() -> None:
        value = a[s]
        f[r] = to_single((value - 0x100000000 if value & 0x80000000 else value) * factor)

    return step


@op("wfr", "f a")
def _wfr(m: Machine, r: int, s: int) -> Step:
    def step() -> None:
        m.f[r] = FLOAT.unpack(WORD.pack(m.a[s]))[0]

    return step


@op("rfr", "a f")
def _rfr(m: Machine, r: int, s: int) -> Step:
    def step() -> None:
        m.a[r] = WORD.unpack(FLOAT.pack(m.f[s]))[0]

    return step


def _float_memory(name: str, store: bool, post: bool) -> None:
    """lsi, ssi: address AR[s] + imm. lsip, ssip: address AR[s], then AR[s] += imm."""

    def build(m: Machine, t: int, s: int, offset: int) -> Step:
        a, f, at = m.a, m.f, m.memory.at
        ahead = 0 if post else offset

        def step() -> None:
            data, where = at(_aligned(a[s] + ahead, 4), 4, store)
            if store:
                FLOAT.pack_into(data, where, f[t])
            else:
                f[t] = FLOAT.unpack_from(data, where)[0]
            if post:
                a[s] = a[s] + offset & MASK

        return step

    TABLE[name] = ("f a i0:1020:4", build, 3)


_float_memory("lsi", False, False)
_float_memory("lsip", False, True)
_float_memory("ssi", True, False)
_float_memory("ssip", True, True)


def _float_indexed(name: str, store: bool) -> None:
    """lsxp, ssxp: address AR[s], then AR[s] += AR[t]."""

    def build(m: Machine, r: int, s: int, t: int) -> Step:
        def step() -> None:
            data, where = m.memory.at(_aligned(m.a[s], 4), 4, store)
            if store:
                FLOAT.pack_into(data, where, m.f[r])
            else:
                m.f[r] = FLOAT.unpack_from(data, where)[0]
            m.a[s] = m.a[s] + m.a[t] & MASK

        return step

    TABLE[name] = ("f a a", build, 3)


_float_indexed("lsxp", False)
_float_indexed("ssxp", True)
