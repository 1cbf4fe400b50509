"""Core and FPU instructions, one by one, from the Xtensa ISA Summary; reading of assembly and what is refused."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from pie import Fault
from pie_asm import AsmError, parse_text
from pie_probe import Probe
from pie_xtensa import signed

KERNELS = Path(__file__).resolve().parents[2] / "runtime_c/src/kernels/esp32s3"

ALU = [
    ("add", 7, -9, -2),
    ("add.n", 7, -9, -2),
    ("sub", 7, 9, -2),
    ("and", 0b1100, 0b1010, 0b1000),
    ("or", 0b1100, 0b1010, 0b1110),
    ("xor", 0b1100, 0b1010, 0b0110),
    ("addx2", 5, 1, 11),
    ("addx4", 5, 1, 21),
    ("addx8", 5, 1, 41),
    ("subx2", 5, 1, 9),
    ("subx4", 5, 1, 19),
    ("subx8", 5, 1, 39),
    ("mull", -3, 0x7FFFFFFF, signed(-3 * 0x7FFFFFFF & 0xFFFFFFFF)),
    ("min", -1, 1, -1),
    ("max", -1, 1, 1),
    ("minu", -1, 1, 1),
    ("maxu", -1, 1, -1),
]


@pytest.mark.parametrize(("name", "s", "t", "result"), ALU)
def test_three_registers(name: str, s: int, t: int, result: int) -> None:
    assert Probe().step(f"{name} a5, a2, a3", s, t).signed(5) == result


IMMEDIATE = [
    ("addi a5, a2, -128", 100, -28),
    ("addi.n a5, a2, 15", 1, 16),
    ("addmi a5, a2, -32768", 1, -32767),
    ("slli a5, a2, 31", 3, -(2**31)),
    ("srli a5, a2, 15", -1, 0x1FFFF),
    ("srai a5, a2, 31", -5, -1),
    ("extui a5, a2, 4, 8", 0xABCDE, 0xCD),
    ("neg a5, a2", 7, -7),
    ("mov a5, a2", -7, -7),
    ("mov.n a5, a2", -7, -7),
    ("movi a5, -2048", 0, -2048),
    ("movi a5, 0x4B400000", 0, 0x4B400000),
    ("movi.n a5, 95", 0, 95),
    ("nop; nop.n; mov a5, a2", 3, 3),
]


@pytest.mark.parametrize(("text", "s", "result"), IMMEDIATE)
def test_register_and_immediate(text: str, s: int, result: int) -> None:
    assert Probe().step(text, s).signed(5) == result


@pytest.mark.parametrize(
    ("name", "moves"), [("moveqz", (0,)), ("movnez", (1, -1)), ("movltz", (-1,)), ("movgez", (0, 1))]
)
def test_conditional_moves(name: str, moves: tuple[int, ...]) -> None:
    for t in (-1, 0, 1):
        assert Probe().step(f"{name} a2, a3, a4", 11, 22, t).a[2] == (22 if t in moves else 11)


BRANCHES = [
    ("beqz a2, 1f", (0, 9), (1, 9)),
    ("bnez a2, 1f", (1, 9), (0, 9)),
    ("bltz a2, 1f", (-1, 9), (0, 9)),
    ("bgez a2, 1f", (0, 9), (-1, 9)),
    ("beq a2, a3, 1f", (5, 5), (5, 6)),
    ("bne a2, a3, 1f", (5, 6), (5, 5)),
    ("blt a2, a3, 1f", (-1, 0), (0, -1)),
    ("bge a2, a3, 1f", (0, -1), (-1, 0)),
    ("bltu a2, a3, 1f", (0, -1), (-1, 0)),
    ("bgeu a2, a3, 1f", (-1, 0), (0, -1)),
    ("ball a2, a3, 1f", (7, 5), (3, 5)),
    ("bbsi a2, 31, 1f", (-1, 0), (0x7FFFFFFF, 0)),
    ("bbci a2, 0, 1f", (2, 0), (3, 0)),
]


@pytest.mark.parametrize(("text", "taken", "passed"), BRANCHES)
def test_branches(text: str, taken: tuple[int, int], passed: tuple[int, int]) -> None:
    body = f"movi a5, 1; {text}; movi a5, 0; 1:"
    assert Probe().step(body, *taken).a[5] == 1
    assert Probe().step(body, *passed).a[5] == 0
    assert Probe().step("movi a5, 1; j 1f; movi a5, 0; 1:").a[5] == 1


@pytest.mark.parametrize(
    ("name", "turns"), [("loop", {1: 1, 3: 3}), ("loopnez", {0: 0, 1: 1, 3: 3}), ("loopgtz", {-5: 0, 0: 0, 3: 3})]
)
def test_loops(name: str, turns: dict[int, int]) -> None:
    """The body runs AR[s] times; loopnez skips it at 0, loopgtz at 0 and below. A turn costs no instruction."""
    for count, expected in turns.items():
        probe = Probe().step(f"movi a5, 0; {name} a2, 1f; addi a5, a5, 1; nop; 1: addi a6, a5, 100", count)
        assert (probe.a[5], probe.a[6]) == (expected, 100 + expected)
        assert probe.count == 5 + 2 * expected


def test_a_branch_out_of_a_loop_body_leaves_it() -> None:
    assert Probe().step("movi a5, 0; loop a2, 1f; addi a5, a5, 1; beq a5, a3, 2f; nop; 1: nop; 2:", 9, 4).a[5] == 4


def test_shifts_by_sar() -> None:
    assert Probe().step("ssai 4; srl a5, a2; sra a6, a2", -256).signed(6) == -16
    assert Probe().step("ssr a3; srl a5, a2", -256, 36).a[5] == 0x0FFFFFF0
    assert Probe().step("ssai 20; src a5, a2, a3", 0x12345678, 0xABC00000).a[5] == 0x45678ABC
    assert Probe().step("ssai 31").sar == 31


def test_scalar_loads_and_stores() -> None:
    probe = Probe()
    probe.step("l8ui a5, a2, 255; l16ui a6, a2, 254; l16si a7, a2, 254; l32i a8, a2, 4; l32i.n a9, a2, 60", probe.at)
    assert probe.a[5:10] == [0xFF, 0xFFFE, 0xFFFFFFFE, 0x07060504, 0x3F3E3D3C]
    probe.step("s8i a3, a2, 1; s16i a3, a2, 2; s32i a3, a2, 4; s32i.n a3, a2, 8", probe.at, 0x11223344)
    assert probe.memory.read(probe.at, 12) == bytes.fromhex("004444334433221144332211")


def test_scalar_access_must_be_aligned_and_mapped() -> None:
    for text in ("l32i a5, a2, 0", "s16i a5, a2, 0", "lsi f0, a2, 0"):
        with pytest.raises(Fault, match="aligned"):
            Probe().step(text, Probe().at + 1)
    for offset in (-4, 256):
        with pytest.raises(Fault, match="memory"):
            Probe().step("l32i a5, a2, 0", Probe().at + offset)
    with pytest.raises(Fault, match="nothing is there"):
        Probe().step("l32i a5, a2, 0", 0x1000)


def test_entry_makes_a_frame_and_retw_returns() -> None:
    probe = Probe().step("mov a2, a1; retw")
    assert probe.a[2] % 16 == 0
    with pytest.raises(ValueError, match="entry"):
        Probe().step("entry a1, 16")


def bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


def test_float_arithmetic_rounds_like_binary32() -> None:
    """Random patterns, subnormals, overflow and the sign of zero, against numpy's binary32."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**32, 3000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    pairs = [(float(x), float(y)) for x, y in zip(numbers[::2], numbers[1::2], strict=False)][:400]
    near = [
        (1.0, 2.0**-24),
        (2.0**-126, -(2.0**-149)),
        (2.0**-75, 2.0**-75),
        (0.0, -0.0),
        (-0.0, -0.0),
        (3.4e38, 3.4e38),
    ]
    with np.errstate(all="ignore"):
        for x, y in pairs + near:
            probe = Probe(f=[x, y]).step("add.s f2, f0, f1; sub.s f3, f0, f1; mul.s f4, f0, f1; rfr a5, f2; rfr a6, f3")
            s, t = np.float32(x), np.float32(y)
            assert [probe.a[5], probe.a[6]] == [bits(s + t), bits(s - t)]
            assert bits(probe.f[4]) == bits(s * t)


def test_float_moves_and_conversion() -> None:
    probe = Probe(f=[-0.0, 1.5]).step("mov.s f2, f1; neg.s f3, f0; wfr f4, a2; rfr a5, f0", 0x3F800001)
    assert (probe.f[2], bits(probe.f[3]), bits(probe.f[4]), probe.a[5]) == (1.5, 0, 0x3F800001, 0x80000000)
    for value, scale in ((-(2**31), 0), (16777217, 0), (-3, 1), (0x7FFFF000, 12), (0, 15)):
        probe = Probe().step(f"float.s f0, a2, {scale}", value)
        assert bits(probe.f[0]) == bits(np.float32(value) * np.float32(2.0**-scale))


def test_fused_products_round_once() -> None:
    """Against rationals: random patterns, cancellation, and sums that are ties before the last bit is seen."""
    rng = np.random.default_rng(4)
    raw = rng.integers(0x3F000000, 0x41000000, (200, 3)).astype(np.uint32).view(np.float32)
    cases = [(float(a), float(x), float(y)) for a, x, y in raw]
    cases += [(-float(np.float32(x * y)), x, y) for _, x, y in cases[:50]]
    cases += [
        (1.0, 2.0**-24, 1.0),
        (1.0, 2.0**-24, 1.0 + 2.0**-23),
        (1.0, -(2.0**-25), 1.0 + 2.0**-23),
        (2.0**60, 1.0, 1.0),
    ]
    for a, x, y in cases:
        probe = Probe(f=[a, a, x, y]).step("madd.s f0, f2, f3; msub.s f1, f2, f3")
        for found, sign in zip(probe.f, (1, -1), strict=False):
            exact = Fraction(a) + sign * Fraction(x) * Fraction(y)
            near = np.float32(found)
            below, above = np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))
            distance = abs(Fraction(found) - exact)
            others = [abs(Fraction(float(v)) - exact) for v in (below, above)]
            assert distance <= min(others)
            assert distance < min(others) or not int(near.view(np.uint32)) & 1  # a tie goes to even


def test_float_comparison_and_conditional_moves() -> None:
    nan = float("nan")
    for x, y, less in ((1.0, 2.0, True), (2.0, 1.0, False), (-0.0, 0.0, False), (nan, 1.0, False), (1.0, nan, False)):
        probe = Probe(f=[x, y, 5.0, 6.0]).step("olt.s b3, f0, f1; movt.s f2, f3, b3")
        assert probe.f[2] == (6.0 if less else 5.0)
    assert Probe(f=[1.0, 2.0]).step("moveqz.s f0, f1, a2", 0).f[0] == 2.0
    assert Probe(f=[1.0, 2.0]).step("moveqz.s f0, f1, a2", 1).f[0] == 1.0


def test_float_memory() -> None:
    probe = Probe()
    probe.step("lsi f0, a2, 4; lsip f1, a2, 8; ssi f0, a2, 8; ssip f1, a2, 12; mov a5, a2", probe.at)
    assert bits(probe.f[0]) == 0x07060504
    assert bits(probe.f[1]) == 0x03020100  # lsip and ssip: the address is the register, then it moves
    assert struct.unpack("<I", probe.memory.read(probe.at + 16, 4))[0] == 0x07060504
    assert struct.unpack("<I", probe.memory.read(probe.at + 8, 4))[0] == 0x03020100
    assert probe.a[5] == probe.at + 20
    probe = Probe().step("lsxp f0, a2, a3; ssxp f0, a2, a3", probe.at, 20)  # the address, then it moves by a register
    assert bits(probe.f[0]) == 0x03020100
    assert struct.unpack("<I", probe.memory.read(probe.at + 20, 4))[0] == 0x03020100
    assert probe.a[2] == probe.at + 40


REFUSED = [
    "ee.vmulas.s8.accxx q0, q1",  # no such instruction
    "call8 a2",
    "add a2, a3",  # operands missing
    "add a2, a3, a16",
    "add a2, a3, q0",
    "ee.andq q0, q1, q8",
    "addi a2, a3, 128",
    "slli a2, a3, 0",
    "l32i a2, a3, 1021",
    "l32i a2, a3, 1024",
    "ee.vld.128.ip q0, a2, 8",
    "ee.vmulas.s8.accx.ld.ip q0, a2, 512, q1, q2",
    "ee.ldf.128.ip f0, f1, f2, f3, a2, 128",
    "lsi f0, a2, -4",
    "movi a2, nowhere",
    "j 1f",  # no label
    "loopnez a2, 1b; 1:",
    ".quad 1",
    "#define X 1",
    "bbsi a2, 1, 1f;" + "nop;" * 50 + "1:",  # out of reach
    "loopnez a2, 1f;" + "nop;" * 90 + "1:",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_assembler_would_refuse_is_an_error(text: str) -> None:
    with pytest.raises(AsmError):
        Probe().step(text)


def test_macros_conditions_and_data() -> None:
    text = """
    .set STEP, 2*(3+1)
    .macro TWICE reg, more=1   /* defaults,
                                  and a comment over lines */
    addi \\reg, \\reg, STEP
    .if \\more == 1
    TWICE \\reg, more=0        // nested, by name
    .else
    addi \\reg, \\reg, -STEP+1
    .endif
    .endm
    .section .rodata
    .align 16
    table: .byte 1
    .short 0x302
    .align 4
    .word 0x07060504, -1
    .text
    movi a3, table
    l32i a4, a3, 4
    l8ui a5, a3, 1
    TWICE a2
    """
    probe = Probe().step(text, 100)
    assert (probe.a[2], probe.a[4], probe.a[5]) == (109, 0x07060504, 2)


def test_a_run_that_does_not_end_is_stopped() -> None:
    with pytest.raises(Fault, match="more than"):
        Probe().step("1: j 1b")


def test_constants_are_read_only() -> None:
    with pytest.raises(Fault, match="read-only"):
        Probe().step(".section .rodata\ntable: .word 1\n.text\nmovi a2, table\ns32i a3, a2, 0")


def test_functions_begin_aligned_with_entry() -> None:
    for text in ("probe: entry a1, 32\nretw.n", ".align 4\nprobe: retw.n"):
        with pytest.raises(Fault, match="entry"):
            Probe().code(parse_text(text)).call("probe", [])


@pytest.mark.parametrize("source", sorted(KERNELS.glob("*.S")), ids=lambda p: p.name)
def test_nothing_is_aligned_where_code_falls_through(source: Path) -> None:
    """The assembler pads with zero bytes, and three of them are the instruction `ill`."""
    section, aligned = "", False
    for line in source.read_text().splitlines():
        words = line.split()
        if words and words[0] in (".text", ".section"):
            section = words[-1]
        elif words and aligned:
            assert words[0] == ".global" or section == ".rodata", f"{line.strip()} after .align"
        aligned = words[:1] == [".align"] or (aligned and not words)
