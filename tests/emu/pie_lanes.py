"""PIE instructions that work lane by lane, and moves between registers; adds to `pie_vector.TABLE`.

Sources as in `pie_vector.py`: the PIE chapter's arithmetic, comparison, bitwise logical, shift and data exchange
instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pie_vector import CODEC, MASK, TABLE, Step, _with_load, _with_store, clamp, op, qacc_get, qacc_set

if TYPE_CHECKING:
    from pie import Machine

BOUNDS = {"s8": (-128, 127), "s16": (-(2**15), 2**15 - 1), "s32": (-(2**31), 2**31 - 1)}


def _lanewise(name: str, kind: str, work: Callable[[int, int], int], fused: bool = True) -> None:
    """qa = work(qx, qy) by lane, with the .ld.incp and .st.incp forms where they exist."""
    codec = CODEC[kind]

    def build(m: Machine, a: int, x: int, y: int) -> Step:
        q, unpack, pack = m.q, codec.unpack, codec.pack

        def step() -> None:
            q[a] = pack(*map(work, unpack(q[x]), unpack(q[y])))

        return step

    TABLE[name] = ("q q q", build, 3)
    if fused:
        TABLE[f"{name}.ld.incp"] = ("q a q q q", _with_load(build, "incp"), 4)
        TABLE[f"{name}.st.incp"] = ("q a q q q", _with_store(build), 4)


def _arithmetic(kind: str) -> None:
    low, high = BOUNDS[kind]
    _lanewise(f"ee.vadds.{kind}", kind, lambda x, y: clamp(x + y, low, high))
    _lanewise(f"ee.vsubs.{kind}", kind, lambda x, y: clamp(x - y, low, high))
    _lanewise(f"ee.vmax.{kind}", kind, max)
    _lanewise(f"ee.vmin.{kind}", kind, min)
    _lanewise(f"ee.vcmp.eq.{kind}", kind, lambda x, y: -(x == y), fused=False)
    _lanewise(f"ee.vcmp.lt.{kind}", kind, lambda x, y: -(x < y), fused=False)
    _lanewise(f"ee.vcmp.gt.{kind}", kind, lambda x, y: -(x > y), fused=False)


for _kind in ("s8", "s16", "s32"):
    _arithmetic(_kind)


def _multiply(kind: str) -> None:
    """ee.vmul: the low bits of (qx * qy) >> SAR, by lane; arithmetic shift for the signed forms."""
    codec = CODEC[kind]
    bits = int(kind[1:])
    keep, half = (1 << bits) - 1, (1 << bits - 1 if kind[0] == "s" else 0)

    def build(m: Machine, z: int, x: int, y: int) -> Step:
        q, unpack, pack = m.q, codec.unpack, codec.pack

        def step() -> None:
            shift = m.sar
            products = zip(unpack(q[x]), unpack(q[y]), strict=True)
            q[z] = pack(*(((s * t >> shift & keep) ^ half) - half for s, t in products))

        return step

    TABLE[f"ee.vmul.{kind}"] = ("q q q", build, 3)
    TABLE[f"ee.vmul.{kind}.ld.incp"] = ("q a q q q", _with_load(build, "incp"), 4)
    TABLE[f"ee.vmul.{kind}.st.incp"] = ("q a q q q", _with_store(build), 4)


for _kind in ("s8", "u8", "s16", "u16"):
    _multiply(_kind)


def _bitwise(name: str, work: Callable[[int, int], int]) -> None:
    def build(m: Machine, a: int, x: int, y: int) -> Step:
        q = m.q

        def step() -> None:
            q[a] = work(int.from_bytes(q[x], "little"), int.from_bytes(q[y], "little")).to_bytes(16, "little")

        return step

    TABLE[name] = ("q q q", build, 3)


_bitwise("ee.andq", lambda x, y: x & y)
_bitwise("ee.orq", lambda x, y: x | y)
_bitwise("ee.xorq", lambda x, y: x ^ y)


@op("ee.notq", "q q")
def _notq(m: Machine, a: int, x: int) -> Step:
    def step() -> None:
        m.q[a] = bytes(b ^ 0xFF for b in m.q[x])

    return step


@op("ee.vsl.32", "q q")
def _vsl(m: Machine, a: int, s: int) -> Step:
    def step() -> None:
        m.q[a] = CODEC["u32"].pack(*(v << m.sar & MASK for v in CODEC["u32"].unpack(m.q[s])))

    return step


@op("ee.vsr.32", "q q")
def _vsr(m: Machine, a: int, s: int) -> Step:
    """Arithmetic: the sign fills up."""

    def step() -> None:
        m.q[a] = CODEC["s32"].pack(*(v >> m.sar for v in CODEC["s32"].unpack(m.q[s])))

    return step


@op("ee.src.q", "q q q")
def _src_q(m: Machine, a: int, s0: int, s1: int) -> Step:
    """The 16 bytes that begin SAR_BYTE bytes into qs0 followed by qs1."""

    def step() -> None:
        m.q[a] = (m.q[s0] + m.q[s1])[m.sar_byte : m.sar_byte + 16]

    return step


@op("mv.qr", "q q")
def _mv_qr(m: Machine, u: int, s: int) -> Step:
    def step() -> None:
        m.q[u] = m.q[s]

    return step


@op("ee.movi.32.a", "q a i0:3:1")
def _movi_a(m: Machine, s: int, u: int, sel: int) -> Step:
    def step() -> None:
        m.a[u] = CODEC["u32"].unpack(m.q[s])[sel]

    return step


@op("ee.movi.32.q", "q a i0:3:1")
def _movi_q(m: Machine, u: int, s: int, sel: int) -> Step:
    def step() -> None:
        m.q[u] = m.q[u][: 4 * sel] + m.a[s].to_bytes(4, "little") + m.q[u][4 * sel + 4 :]

    return step


def _zip(size: int) -> None:
    """Interleaves qs0 and qs1: the first half of x0 y0 x1 y1 ... goes to qs0, the second to qs1; vunzip undoes it."""

    def build_zip(m: Machine, s0: int, s1: int) -> Step:
        def step() -> None:
            x, y = m.q[s0], m.q[s1]
            both = b"".join(x[i : i + size] + y[i : i + size] for i in range(0, 16, size))
            m.q[s0], m.q[s1] = both[:16], both[16:]

        return step

    def build_unzip(m: Machine, s0: int, s1: int) -> Step:
        def step() -> None:
            both = m.q[s0] + m.q[s1]
            parts = [both[i : i + size] for i in range(0, 32, size)]
            m.q[s0], m.q[s1] = b"".join(parts[0::2]), b"".join(parts[1::2])

        return step

    TABLE[f"ee.vzip.{8 * size}"] = ("q q", build_zip, 3)
    TABLE[f"ee.vunzip.{8 * size}"] = ("q q", build_unzip, 3)


_zip(1)
_zip(2)
_zip(4)


def _extract(kind: str) -> None:
    """ee.srcmb: every QACC lane >>= AR[s] (5 bits, 6 for s16), kept; the lanes, saturated to 8 or 16 bits, go to qu."""
    bits, keep = (20, 31) if kind == "s8" else (40, 63)
    low, high = BOUNDS[kind]

    def build(m: Machine, u: int, s: int, sel: int) -> Step:
        def step() -> None:
            lanes = [v >> (m.a[s] & keep) for v in qacc_get(m, bits)]
            qacc_set(m, bits, lanes)
            m.q[u] = CODEC[kind].pack(*(clamp(v, low, high) for v in lanes))

        return step

    TABLE[f"ee.srcmb.{kind}.qacc"] = ("q a i0:0:1", build, 3)


_extract("s8")
_extract("s16")
