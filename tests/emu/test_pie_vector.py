"""PIE instructions, one by one, from the operations in the TRM's list; the last test sees that none is left out.

Saturation goes down to -2^(n-1), as the TRM has it; the kernels never reach a rail.
"""

from __future__ import annotations

import struct

import numpy as np
import pie_vector
import pie_xtensa
import pytest
from pie import Fault
from pie_probe import RUN, Probe, halves, octets, words

COUNT = octets(*range(16))
TYPES = {"s8": np.int8, "u8": np.uint8, "s16": np.int16, "u16": np.uint16, "s32": np.int32}


def pair(seed: int) -> tuple[bytes, bytes]:
    """Two registers with the extremes of every width in them."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 256, 16), rng.integers(0, 256, 16)
    x[:4], y[:4] = (0x80, 0x80, 0x7F, 0xFF), (0x80, 0x7F, 0x7F, 0x01)
    x[12:], y[12:] = (0, 0, 0, 0x80), (0, 0, 0, 0x80)
    return bytes(x.astype(np.uint8)), bytes(y.astype(np.uint8))


def test_loads_force_alignment_and_move_by_the_operand() -> None:
    for offset in (0, 1, 15):
        probe = Probe()
        probe.step("ee.vld.128.ip q0, a2, -32; ee.vld.128.xp q1, a3, a4", probe.at + 16 + offset, probe.at + offset, 7)
        assert probe.q[0] == octets(*range(16, 32))
        assert probe.q[1] == COUNT
        assert (probe.a[2], probe.a[3]) == (probe.at - 16 + offset, probe.at + offset + 7)
    probe = Probe(q={0: octets(0xEE), 1: octets(0xEE)})
    probe.step("ee.vld.l.64.ip q0, a2, 8; ee.vld.h.64.ip q1, a2, -8", probe.at + 3)
    assert (probe.q[0], probe.q[1]) == (COUNT[:8] + b"\xee" * 8, b"\xee" * 8 + COUNT[8:])
    probe.step("ee.vld.h.64.xp q0, a2, a3; ee.vld.l.64.xp q1, a2, a3", probe.at, 8)
    assert (probe.q[0], probe.q[1]) == (COUNT[:8] + COUNT[:8], COUNT[8:] + COUNT[8:])


def test_stores_force_alignment() -> None:
    probe = Probe(q={0: octets(0xAA), 1: octets(0xBB)})
    probe.step("ee.vst.128.ip q0, a2, 16; ee.vst.128.xp q1, a2, a3; mov a4, a2", probe.at + 9, -5)
    assert probe.memory.read(probe.at, 33) == b"\xaa" * 16 + b"\xbb" * 16 + b"\x20"
    assert probe.a[4] == probe.at + 20


def test_vector_accesses_stay_inside_what_is_mapped() -> None:
    for offset in (256, -1):
        with pytest.raises(Fault):
            Probe().step("ee.vld.128.ip q0, a2, 0", Probe().at + offset)
    probe = Probe()
    probe.step("ee.vld.128.ip q0, a2, 0", probe.at + 255)  # the last 16 bytes
    assert probe.q[0] == octets(*range(240, 256))


def test_broadcast_loads() -> None:
    probe = Probe()
    probe.step("ee.vldbc.8 q0, a2; ee.vldbc.16 q1, a2; ee.vldbc.32 q2, a2; mov a5, a2", probe.at + 3)
    assert (probe.q[0], probe.q[1], probe.q[2]) == (octets(3), halves(*[0x0504] * 8), words(*[0x07060504] * 4))
    assert probe.a[5] == probe.at + 3 + 1 + 2 + 4
    probe.step("ee.vldbc.8.ip q0, a2, 1; ee.vldbc.16.ip q1, a2, 2; ee.vldbc.32.ip q2, a2, 4; mov a5, a2", probe.at + 4)
    assert (probe.q[0], probe.q[1], probe.q[2]) == (octets(4), halves(*[0x0504] * 8), words(*[0x07060504] * 4))
    text = "ee.vldbc.8.xp q0, a2, a3; ee.vldbc.16.xp q1, a2, a3; ee.vldbc.32.xp q2, a2, a3; mov a5, a2"
    probe.step(text, probe.at, 16)
    assert (probe.q[0], probe.q[1], probe.q[2]) == (octets(0), halves(*[0x1110] * 8), words(*[0x23222120] * 4))


def test_several_floats_at_once() -> None:
    """The last register named takes the lowest address."""
    probe = Probe()
    at = probe.memory.place(struct.pack("<8f", *range(8)), "floats")
    probe.step("ee.ldf.128.ip f3, f2, f1, f0, a2, 16; ee.ldf.64.ip f5, f4, a2, 8; mov a5, a2", at)
    assert probe.f[:6] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert probe.a[5] == at + 24
    probe.step("ee.stf.128.ip f0, f1, f2, f3, a2, 16; ee.stf.64.ip f5, f4, a2, -8; mov a5, a2", at)
    assert struct.unpack("<6f", probe.memory.read(at, 24)) == (3.0, 2.0, 1.0, 0.0, 4.0, 5.0)
    assert probe.a[5] == at + 8
    probe.step("ee.ldf.128.xp f9, f8, f7, f6, a2, a3; ee.ldf.64.xp f11, f10, a2, a3; mov a5, a2", at + 3, 16)
    assert probe.f[6:12] == [3.0, 2.0, 1.0, 0.0, 4.0, 5.0]
    probe.step("ee.stf.128.xp f6, f7, f8, f9, a2, a3; ee.stf.64.xp f10, f11, a2, a3", at, 16)
    assert struct.unpack("<6f", probe.memory.read(at, 24)) == (0.0, 1.0, 2.0, 3.0, 5.0, 4.0)


@pytest.mark.parametrize("kind", ["s8", "u8", "s16", "u16"])
def test_accx_sums_all_lanes(kind: str) -> None:
    for seed in range(5):
        x, y = pair(seed)
        lanes = [np.frombuffer(v, TYPES[kind]).astype(object) for v in (x, y)]
        total = 1000 + int((lanes[0] * lanes[1]).sum())
        assert Probe(q={0: x, 1: y}, accx=1000).step(f"ee.vmulas.{kind}.accx q0, q1").accx == total
        probe = Probe(q={0: x, 1: y}, accx=1000)
        probe.step(f"ee.vmulas.{kind}.accx.ld.ip q0, a2, -16, q0, q1", probe.at + 33)
        assert (probe.accx, probe.q[0], probe.a[2]) == (total, octets(*range(32, 48)), probe.at + 17)
        probe = Probe(q={0: x, 1: y}, accx=1000)
        probe.step(f"ee.vmulas.{kind}.accx.ld.xp q1, a2, a3, q0, q1", probe.at, 100)
        assert (probe.accx, probe.q[1], probe.a[2]) == (total, COUNT, probe.at + 100)


def test_accx_saturates_at_40_bits() -> None:
    x = {0: octets(-128), 1: octets(-128), 2: octets(127)}
    assert Probe(q=x, accx=2**39 - 2).step("ee.vmulas.s8.accx q0, q1").accx == 2**39 - 1
    assert Probe(q=x, accx=-(2**39) + 1).step("ee.vmulas.s8.accx q0, q2").accx == -(2**39)
    assert Probe(q={0: octets(255)}, accx=2**40 - 1).step("ee.vmulas.u8.accx q0, q0").accx == 2**40 - 1


def test_accx_moves() -> None:
    probe = Probe(accx=-2).step("rur.accx_0 a5; rur.accx_1 a6; ee.zero.accx")
    assert (probe.a[5], probe.a[6], probe.accx) == (0xFFFFFFFE, 0xFF, 0)
    assert Probe(accx=-1).step("wur.accx_0 a2; wur.accx_1 a3", 5, 0x180).accx == 5 - 2**39
    memory = [(0, 0x0706050403020100 & (2**40 - 1), 8), (12, 0x0C0B0A0908, -1024), (132, 0x8483828180 - 2**40, 1016)]
    for offset, value, step in memory:
        probe = Probe(accx=-1)
        probe.step(f"mov a5, a2; ee.ld.accx.ip a5, {step}", probe.at + offset)
        assert (probe.accx, probe.a[5]) == (value, probe.at + offset + step), offset
    probe = Probe(accx=0x12345678).step("ee.srs.accx a5, a2, 0", 8)
    assert (probe.a[5], probe.accx) == (0x123456, 0x123456)
    probe = Probe(accx=-(2**38)).step("ee.srs.accx a5, a2, 0", 2)
    assert (probe.signed(5), probe.accx) == (-(2**31), -(2**36))
    assert Probe(accx=-5).step("ee.srs.accx a5, a2, 1", 0).a[5] == 0


def qacc_bytes(probe: Probe) -> bytes:
    """QACC as the four stores leave it: L[127:0], L[159:128], H[127:0], H[159:128]."""
    text = "ee.st.qacc_l.l.128.ip a2, 16; ee.st.qacc_l.h.32.ip a2, 16; ee.st.qacc_h.l.128.ip a2, 16;"
    probe.step(text + "ee.st.qacc_h.h.32.ip a2, -4; mov a5, a2", probe.at)
    assert probe.a[5] == probe.at + 44
    raw = probe.memory.read(probe.at, 64)
    return raw[:20] + raw[32:52]


@pytest.mark.parametrize(("kind", "bits"), [("s8", 20), ("s16", 40)])
def test_qacc_lanes(kind: str, bits: int) -> None:
    """Lane i is bits [bits*i, bits*(i+1)) of the accumulator; every form adds, then saturates by lane."""
    for seed in range(4):
        x, y = pair(seed)
        a, b = (np.frombuffer(v, TYPES[kind]).astype(object) for v in (x, y))
        select = f"ee.vsmulas.{kind}.qacc q0, q1, 3; ee.vsmulas.{kind}.qacc.ld.incp q2, a2, q0, q1, 1"
        probe = Probe(q={0: x, 1: y})
        probe.step(f"ee.vmulas.{kind}.qacc q0, q1; {select}", probe.at)
        assert probe.q[2] == COUNT
        lanes = int.from_bytes(qacc_bytes(probe), "little")
        for i, right in enumerate(a * b + a * b[3] + a * b[1]):
            assert (lanes >> bits * i) & ((1 << bits) - 1) == int(right) & ((1 << bits) - 1)
    probe = Probe(q={0: octets(0x80), 1: octets(0x7F)})
    mac = f"ee.vmulas.{kind}.qacc.ld"
    probe.step(
        f"loop a3, 1f; {mac}.ip q2, a2, 0, q0, q0; {mac}.xp q2, a2, a4, q0, q0; 1:", probe.at, 520, 0
    )  # 1040 products: 20 bits are full, 40 are not
    lanes = int.from_bytes(qacc_bytes(probe), "little")
    product = 1040 * (128 * 128 if kind == "s8" else 0x7F80**2)
    assert lanes & ((1 << bits) - 1) == min(product, (1 << bits - 1) - 1)


def test_qacc_negative_saturation_and_zero() -> None:
    probe = Probe(q={0: octets(-128), 1: octets(127)})
    probe.step("loop a2, 1f; ee.vmulas.s8.qacc q0, q1; nop; 1:", 40)
    assert int.from_bytes(qacc_bytes(probe), "little") & 0xFFFFF == 2**19  # -2^19
    assert qacc_bytes(probe.step("ee.zero.qacc")) == bytes(40)


def test_qacc_with_broadcast_load() -> None:
    """The byte at AR[s] goes to all lanes of qu after the products were taken; AR[s] += 1."""
    probe = Probe(q={0: octets(3), 1: octets(*range(16))})
    probe.step("ee.vmulas.s8.qacc.ldbc.incp q0, a2, q0, q1; mov a5, a2", probe.at + 7)
    assert (probe.q[0], probe.a[5]) == (octets(7), probe.at + 8)
    lanes = int.from_bytes(qacc_bytes(probe), "little")
    assert [(lanes >> 20 * i) & 0xFFFFF for i in range(16)] == [3 * i for i in range(16)]


@pytest.mark.parametrize(("kind", "shift"), [("s8", 7), ("s16", 9)])
def test_extraction_shifts_and_saturates(kind: str, shift: int) -> None:
    x, y = pair(1)
    a, b = (np.frombuffer(v, TYPES[kind]).astype(object) for v in (x, y))
    probe = Probe(q={0: x, 1: y}).step(f"ee.vmulas.{kind}.qacc q0, q1; ee.srcmb.{kind}.qacc q2, a2, 0", shift)
    low, high = np.iinfo(TYPES[kind]).min, np.iinfo(TYPES[kind]).max
    right = [min(max(int(v) >> shift, low), high) for v in a * b]
    assert list(np.frombuffer(probe.q[2], TYPES[kind])) == right


LANEWISE = {
    "vadds": lambda x, y: x + y,
    "vsubs": lambda x, y: x - y,
    "vmax": np.maximum,
    "vmin": np.minimum,
    "vcmp.eq": lambda x, y: -(x == y).astype(np.int64),
    "vcmp.lt": lambda x, y: -(x < y).astype(np.int64),
    "vcmp.gt": lambda x, y: -(x > y).astype(np.int64),
}


@pytest.mark.parametrize("kind", ["s8", "s16", "s32"])
@pytest.mark.parametrize("name", LANEWISE)
def test_lanewise(name: str, kind: str) -> None:
    """Sums and differences saturate; the fused forms load after, or store before, the operation."""
    for seed in range(3):
        x, y = pair(seed)
        wide = [np.frombuffer(v, TYPES[kind]).astype(np.int64) for v in (x, y)]
        bounds = np.iinfo(TYPES[kind])
        right = np.clip(LANEWISE[name](*wide), bounds.min, bounds.max).astype(TYPES[kind]).tobytes()
        mnemonic = f"ee.{name}.{kind}"
        assert Probe(q={0: x, 1: y}).step(f"{mnemonic} q2, q0, q1").q[2] == right
        if name.startswith("vcmp"):
            continue
        probe = Probe(q={0: x, 1: y})
        probe.step(f"{mnemonic}.ld.incp q0, a2, q2, q0, q1", probe.at + 2)
        assert (probe.q[2], probe.q[0], probe.a[2]) == (right, COUNT, probe.at + 18)
        probe = Probe(q={0: x, 1: y})
        probe.step(f"{mnemonic}.st.incp q0, a2, q0, q0, q1", probe.at)
        assert (probe.memory.read(probe.at, 16), probe.q[0]) == (x, right)


@pytest.mark.parametrize("kind", ["s8", "u8", "s16", "u16"])
def test_products_shift_and_keep_their_low_bits(kind: str) -> None:
    for shift in (0, 3, 7, 15):
        x, y = pair(shift)
        wide = [np.frombuffer(v, TYPES[kind]).astype(np.int64) for v in (x, y)]
        right = (wide[0] * wide[1] >> shift).astype(TYPES[kind]).tobytes()
        assert Probe(q={0: x, 1: y}, sar=shift).step(f"ee.vmul.{kind} q2, q0, q1").q[2] == right
        probe = Probe(q={0: x, 1: y}, sar=shift)
        probe.step(f"ee.vmul.{kind}.ld.incp q1, a2, q0, q0, q1", probe.at)
        assert (probe.q[0], probe.q[1]) == (right, COUNT)
        probe = Probe(q={0: x, 1: y}, sar=shift)
        probe.step(f"ee.vmul.{kind}.st.incp q1, a2, q0, q0, q1", probe.at)
        assert (probe.q[0], probe.memory.read(probe.at, 16)) == (right, y)


def test_bitwise() -> None:
    x, y = octets(0b1100), octets(0b1010)
    probe = Probe(q={0: x, 1: y}).step("ee.andq q2, q0, q1; ee.orq q3, q0, q1; ee.xorq q4, q0, q1; ee.notq q5, q0")
    assert probe.q[2:6] == [octets(0b1000), octets(0b1110), octets(0b0110), octets(0b11110011)]


def test_shifts_of_words() -> None:
    lanes = {0: words(0x80000001, 0x7FFFFFFF, 1, -1)}
    assert Probe(q=lanes, sar=3).step("ee.vsr.32 q1, q0").q[1] == words(0xF0000000, 0x0FFFFFFF, 0, -1)
    assert Probe(q=lanes, sar=4).step("ee.vsl.32 q1, q0").q[1] == words(0x10, 0xFFFFFFF0, 16, -16)


def test_moves_between_registers() -> None:
    probe = Probe(q={0: words(1, 2, 3, 4)})
    probe.step("mv.qr q1, q0; ee.movi.32.a q0, a5, 2; ee.movi.32.q q1, a2, 3; ee.zero.q q0", 99)
    assert (probe.a[5], probe.q[1], probe.q[0]) == (3, words(1, 2, 3, 99), bytes(16))
    probe = Probe(q={0: COUNT, 1: octets(*range(16, 32))})
    probe.sar_byte = 5
    assert probe.step("ee.src.q q2, q0, q1").q[2] == octets(*range(5, 21))


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_zip_and_unzip(bits: int) -> None:
    """zip: x0 y0 x1 y1 ..., the first half in qs0; unzip takes it apart again."""
    x, y = COUNT, octets(*range(100, 116))
    size = bits // 8
    both = b"".join(x[i : i + size] + y[i : i + size] for i in range(0, 16, size))
    probe = Probe(q={0: x, 1: y}).step(f"ee.vzip.{bits} q0, q1")
    assert probe.q[0] + probe.q[1] == both
    probe = Probe(q={0: both[:16], 1: both[16:]}).step(f"ee.vunzip.{bits} q0, q1")
    assert (probe.q[0], probe.q[1]) == (x, y)


def test_every_instruction_of_the_tables_was_run() -> None:
    """With test_pie_isa.py, which stands before this file."""
    if "float.s" not in RUN:
        pytest.skip("run together with test_pie_isa.py")
    assert not (set(pie_xtensa.TABLE) | set(pie_vector.TABLE)) - RUN
