"""PIE instructions: `TABLE[mnemonic] = (operands, builder, bytes)`.

Semantics: ESP32-S3 Technical Reference Manual, chapter "Processor Instruction Extensions (PIE)": the operation of each
entry of its instruction list; alignment: its section "Data Format and Alignment" (low address bits are forced to zero,
never a fault). A QR is 16 bytes, lane 0 first. Fused forms read their operands, then load or store:
`ee.vmulas.s8.accx.ld.ip q0, a2, 16, q0, q1` multiplies the old q0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import mul
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pie import Machine

Step = Callable[[], "int | None"]
TABLE: dict[str, tuple[str, Callable[..., Step], int]] = {}
MASK = 0xFFFFFFFF
LANES = {"s8": "<16b", "u8": "<16B", "s16": "<8h", "u16": "<8H", "s32": "<4i", "u32": "<4I"}
CODEC = {kind: struct.Struct(form) for kind, form in LANES.items()}
STEP_128 = "i-2048:2032:16"
STEP_64 = "i-1024:1016:8"
ACCX_HIGH, ACCX_LOW = 2**39 - 1, -(2**39)
ACCX_ULOW, ACCX_UHIGH = 0, 2**40 - 1
FOUR_FLOATS = struct.Struct("<4f")
TWO_FLOATS = struct.Struct("<2f")


def op(name: str, spec: str, size: int = 3) -> Callable[[Callable[..., Step]], Callable[..., Step]]:
    """Registers a builder: builder(machine, *operands) gives the closure that performs the instruction."""

    def keep(build: Callable[..., Step]) -> Callable[..., Step]:
        TABLE[name] = (spec, build, size)
        return build

    return keep


def clamp(value: int, low: int, high: int) -> int:
    """min(max(value, low), high)."""
    return low if value < low else high if value > high else value


def _loader(m: Machine, s: int, size: int) -> Callable[[], bytes]:
    a, at, keep = m.a, m.memory.at, MASK & -size

    def load() -> bytes:
        data, where = at(a[s] & keep, size, False)
        return bytes(data[where : where + size])

    return load


def _storer(m: Machine, s: int, size: int) -> Callable[[bytes], None]:
    a, at, keep = m.a, m.memory.at, MASK & -size

    def store(value: bytes) -> None:
        data, where = at(a[s] & keep, size, True)
        data[where : where + size] = value

    return store


def _mover(m: Machine, s: int, step: int, by_register: bool) -> Callable[[], None]:
    """The post-increment of AR[s]: an immediate (ip) or a register (xp)."""
    a = m.a

    def immediate() -> None:
        a[s] = a[s] + step & MASK

    def register() -> None:
        a[s] = a[s] + a[step] & MASK

    return register if by_register else immediate


def _load_store(base: str, size: int, step: str, put: Callable[[bytes, bytes], bytes] | None) -> None:
    """ee.vld.*, ee.vst.*: `put` merges loaded bytes into the old register; None is a store of 16 bytes."""
    for form, spec in (("ip", step), ("xp", "a")):

        def build(m: Machine, u: int, s: int, by: int, form: str = form) -> Step:
            q, move = m.q, _mover(m, s, by, form == "xp")
            load, store = _loader(m, s, size), _storer(m, s, size)

            def run() -> None:
                if put is None:
                    store(q[u])
                else:
                    q[u] = put(q[u], load())
                move()

            return run

        TABLE[f"{base}.{form}"] = (f"q a {spec}", build, 3)


_load_store("ee.vld.128", 16, STEP_128, lambda old, new: new)
_load_store("ee.vld.l.64", 8, STEP_64, lambda old, new: new + old[8:])
_load_store("ee.vld.h.64", 8, STEP_64, lambda old, new: old[:8] + new)
_load_store("ee.vst.128", 16, STEP_128, None)


def _broadcast(bits: int) -> None:
    """ee.vldbc.*: one element into every lane; the plain form moves on by the element's size (8 and 16) or 4 (32)."""
    size = bits // 8

    def build(m: Machine, u: int, s: int, by: int = size, register: bool = False) -> Step:
        load, move = _loader(m, s, size), _mover(m, s, by, register)

        def step() -> None:
            m.q[u] = load() * (16 // size)
            move()

        return step

    TABLE[f"ee.vldbc.{bits}"] = ("q a", build, 3)
    TABLE[f"ee.vldbc.{bits}.ip"] = (f"q a i0:{127 * size}:{size}", build, 3)
    TABLE[f"ee.vldbc.{bits}.xp"] = ("q a a", lambda m, u, s, by: build(m, u, s, by, True), 3)


_broadcast(8)
_broadcast(16)
_broadcast(32)


def _floats(name: str, count: int, store: bool, form: str) -> None:
    """ee.ldf, ee.stf: 2 or 4 FR at once; the last register named holds the lowest address."""
    codec, size = (FOUR_FLOATS, 16) if count == 4 else (TWO_FLOATS, 8)

    def build(m: Machine, *operands: int) -> Step:
        registers, (s, by) = operands[:count][::-1], operands[count:]
        f, load, put = m.f, _loader(m, s, size), _storer(m, s, size)
        move = _mover(m, s, by, form == "xp")

        def step() -> None:
            if store:
                put(codec.pack(*(f[r] for r in registers)))
            else:
                for r, value in zip(registers, codec.unpack(load()), strict=True):
                    f[r] = value
            move()

        return step

    steps = {"ip": "i-128:112:16" if count == 4 else STEP_64, "xp": "a"}
    size_of = 3 if count == 2 and form == "xp" else 4
    TABLE[f"{name}.{form}"] = ("f " * count + "a " + steps[form], build, size_of)


for _name, _count, _store in (
    ("ee.ldf.128", 4, False),
    ("ee.ldf.64", 2, False),
    ("ee.stf.128", 4, True),
    ("ee.stf.64", 2, True),
):
    _floats(_name, _count, _store, "ip")
    _floats(_name, _count, _store, "xp")


# Accumulators.


@op("ee.zero.accx", "")
def _zero_accx(m: Machine) -> Step:
    def step() -> None:
        m.accx = 0

    return step


@op("ee.zero.qacc", "")
def _zero_qacc(m: Machine) -> Step:
    def step() -> None:
        m.qacc = 0

    return step


@op("ee.zero.q", "q")
def _zero_q(m: Machine, u: int) -> Step:
    def step() -> None:
        m.q[u] = bytes(16)

    return step


@op("rur.accx_0", "a")
def _rur_accx_0(m: Machine, r: int) -> Step:
    a = m.a

    def step() -> None:
        a[r] = m.accx & MASK

    return step


@op("rur.accx_1", "a")
def _rur_accx_1(m: Machine, r: int) -> Step:
    """Bits 39..32 in the low byte, the rest zero."""

    def step() -> None:
        m.a[r] = m.accx >> 32 & 0xFF

    return step


@op("wur.accx_0", "a")
def _wur_accx_0(m: Machine, t: int) -> Step:
    def step() -> None:
        m.accx = (m.accx >> 32 << 32) | m.a[t]

    return step


@op("wur.accx_1", "a")
def _wur_accx_1(m: Machine, t: int) -> Step:
    def step() -> None:
        high = m.a[t] & 0xFF
        m.accx = (high - 256 if high & 0x80 else high) << 32 | m.accx & MASK

    return step


@op("ee.ld.accx.ip", f"a {STEP_64}")
def _ld_accx(m: Machine, s: int, by: int) -> Step:
    """ACCX = the low 40 bits of 8 bytes of memory."""
    load, move = _loader(m, s, 8), _mover(m, s, by, False)

    def step() -> None:
        low = int.from_bytes(load()[:5], "little")
        m.accx = low - (1 << 40) if low >> 39 else low
        move()

    return step


@op("ee.srs.accx", "a a i0:1:1")
def _srs_accx(m: Machine, u: int, s: int, sel: int) -> Step:
    """ACCX = ACCX >> AR[s][5:0], kept; AR[u] = that, saturated to 32 bits signed (sel 0) or unsigned (sel 1)."""

    def step() -> None:
        m.accx >>= m.a[s] & 63
        low, high = (-(2**31), 2**31 - 1) if sel == 0 else (0, 2**32 - 1)
        m.a[u] = clamp(m.accx, low, high) & MASK

    return step


def _mac(kind: str) -> Callable[[Machine, int, int], Step]:
    """ACCX += sum over all lanes of QR[x] * QR[y], saturated to 40 bits."""
    unpack = CODEC[kind].unpack
    low, high = (ACCX_LOW, ACCX_HIGH) if kind[0] == "s" else (ACCX_ULOW, ACCX_UHIGH)

    def build(m: Machine, x: int, y: int) -> Step:
        q = m.q

        def step() -> None:
            total = m.accx + sum(map(mul, unpack(q[x]), unpack(q[y])))
            m.accx = low if total < low else high if total > high else total

        return step

    return build


def qacc_get(m: Machine, bits: int) -> list[int]:
    """The accumulator as lanes of 20 or 40 bits, two's complement, lane 0 in the low bits of QACC_L."""
    lanes, keep, half = 320 // bits, (1 << bits) - 1, 1 << bits - 1
    return [((m.qacc >> bits * i & keep) ^ half) - half for i in range(lanes)]


def qacc_set(m: Machine, bits: int, values: list[int]) -> None:
    """Writes lanes of 20 or 40 bits."""
    keep = (1 << bits) - 1
    m.qacc = sum((value & keep) << bits * i for i, value in enumerate(values))


def _mac_lanes(kind: str) -> Callable[[Machine, int, int], Step]:
    """QACC[i] += QR[x][i] * QR[y][i]: 16 lanes of 20 bits or 8 of 40, each saturated."""
    unpack, bits = CODEC[kind].unpack, 20 if kind == "s8" else 40
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def build(m: Machine, x: int, y: int) -> Step:
        def step() -> None:
            products = map(mul, unpack(m.q[x]), unpack(m.q[y]))
            sums = [clamp(s + p, low, high) for s, p in zip(qacc_get(m, bits), products, strict=True)]
            qacc_set(m, bits, sums)

        return step

    return build


def _mac_select(kind: str) -> Callable[[Machine, int, int, int], Step]:
    """ee.vsmulas: QACC[i] += QR[x][i] * QR[y][sel], each lane saturated."""
    unpack, bits = CODEC[kind].unpack, 20 if kind == "s8" else 40
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def build(m: Machine, x: int, y: int, sel: int) -> Step:
        def step() -> None:
            factor = unpack(m.q[y])[sel]
            sums = [clamp(s + v * factor, low, high) for s, v in zip(qacc_get(m, bits), unpack(m.q[x]), strict=True)]
            qacc_set(m, bits, sums)

        return step

    return build


def _with_load(build: Callable[..., Step], form: str) -> Callable[..., Step]:
    """A fused load: operands qu, as, [step,] then those of the plain form; ldbc loads one byte into every lane."""

    def fused(m: Machine, u: int, s: int, *rest: int) -> Step:
        by, inner = (rest[0], rest[1:]) if form in ("ip", "xp") else (16 if form == "incp" else 1, rest)
        size = 1 if form == "ldbc" else 16
        work, load, move, q = build(m, *inner), _loader(m, s, size), _mover(m, s, by, form == "xp"), m.q

        def step() -> None:
            fresh = load() * (16 // size)
            work()
            q[u] = fresh
            move()

        return step

    return fused


def _with_store(build: Callable[..., Step]) -> Callable[..., Step]:
    """A fused store of the old QR[v] at AR[s], which moves on by 16."""

    def fused(m: Machine, v: int, s: int, *inner: int) -> Step:
        work, store, move, q = build(m, *inner), _storer(m, s, 16), _mover(m, s, 16, False), m.q

        def step() -> None:
            store(q[v])
            work()
            move()

        return step

    return fused


for _kind in ("s8", "u8", "s16", "u16"):
    _accx = _mac(_kind)
    TABLE[f"ee.vmulas.{_kind}.accx"] = ("q q", _accx, 3)
    TABLE[f"ee.vmulas.{_kind}.accx.ld.ip"] = ("q a i-512:496:16 q q", _with_load(_accx, "ip"), 4)
    TABLE[f"ee.vmulas.{_kind}.accx.ld.xp"] = ("q a a q q", _with_load(_accx, "xp"), 4)
for _kind, _sel in (("s8", 15), ("s16", 7)):
    _lanes, _select = _mac_lanes(_kind), _mac_select(_kind)
    TABLE[f"ee.vmulas.{_kind}.qacc"] = ("q q", _lanes, 3)
    TABLE[f"ee.vmulas.{_kind}.qacc.ld.ip"] = ("q a i-512:496:16 q q", _with_load(_lanes, "ip"), 4)
    TABLE[f"ee.vmulas.{_kind}.qacc.ld.xp"] = ("q a a q q", _with_load(_lanes, "xp"), 4)
    TABLE[f"ee.vsmulas.{_kind}.qacc"] = (f"q q i0:{_sel}:1", _select, 3)
    TABLE[f"ee.vsmulas.{_kind}.qacc.ld.incp"] = (f"q a q q i0:{_sel}:1", _with_load(_select, "incp"), 4)
TABLE["ee.vmulas.s8.qacc.ldbc.incp"] = ("q a q q", _with_load(_mac_lanes("s8"), "ldbc"), 3)


def _store_qacc(name: str, shift: int, size: int) -> None:
    """ee.st.qacc: 16 or 4 bytes of QACC_L (bits 159..0 of the accumulator) or QACC_H (bits 319..160)."""

    def build(m: Machine, s: int, by: int) -> Step:
        store, move = _storer(m, s, size), _mover(m, s, by, False)

        def step() -> None:
            store((m.qacc >> shift & ((1 << 8 * size) - 1)).to_bytes(size, "little"))
            move()

        return step

    TABLE[f"ee.st.qacc_{name}.ip"] = (f"a {STEP_128 if size == 16 else 'i-512:508:4'}", build, 3)


for _name, _shift, _size in (("l.l.128", 0, 16), ("l.h.32", 128, 4), ("h.l.128", 160, 16), ("h.h.32", 288, 4)):
    _store_qacc(_name, _shift, _size)
