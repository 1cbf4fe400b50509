"""The figures that `tinychat bench` puts beside a board's own: those of the published cost model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tinychat import bench
from tinychat.device import BenchRow
from tinychat.reply import Info

S3 = Info({"chip": "esp32s3 rev 0.2", "flash_mode": "QIO 80 MHz", "cache_line": 64})


@pytest.mark.parametrize(
    ("mode", "line", "cycles"),
    [
        ("DIO 80 MHz", 32, 468),
        ("DIO 80 MHz", 64, 852),
        ("QIO 80 MHz", 16, 168),
        ("QIO 80 MHz", 32, 264),
        ("QIO 80 MHz", 64, 456),
        ("QIO 120 MHz", 64, 312),
    ],
)
def test_cycles_of_a_line_fill(mode: str, line: int, cycles: float) -> None:
    row = BenchRow("line fill", 1.0, "cycles", f"{mode}, {line} B, 1 core")
    assert bench.modelled(row, S3) == pytest.approx(cycles)
    facts = Info({"chip": "ESP32-S3", "flash_mode": mode, "cache_line": line})
    assert bench.modelled(BenchRow("line fill", 1.0, "cycles", ""), facts) == pytest.approx(cycles)


@pytest.mark.parametrize(
    ("name", "unit", "note", "value"),
    [
        ("expf", "cycles", "", 269),
        ("tanhf", "cycles", "", 300),
        ("divide", "cycles", "", 54),
        ("cache line fill, 2 cores", "cycles", "QIO 80 MHz", 456 * 1.06),
        ("q4_0 kernel, SRAM", "cycles/weight", "1 core", 0.8),
        ("q4_0 kernel, flash", "cycles/weight", "QIO 80 MHz", 0.8 + 456 / (64 * 16 / 9)),
        ("free heap", "B", "", None),
        ("JEDEC id", "", "", None),
    ],
)
def test_rows_of_the_five_measurements(name: str, unit: str, note: str, value: float | None) -> None:
    got = bench.modelled(BenchRow(name, 1.0, unit, note), S3)
    assert got == (None if value is None else pytest.approx(value))
    assert bench.part_of(name)


def test_every_row_of_the_esp32s3_has_its_place() -> None:
    """The firmware's names for its measurements, and the words by which they are sorted here."""
    source = Path(__file__).parents[2] / "firmware" / "boards" / "esp32s3" / "s3_bench.c"
    rows = re.findall(r'tell\(t, "([^"]+)", "([^"]*)"', source.read_text())
    assert {bench.part_of(name) for name, _ in rows} == set(bench.PARTS)
    with_model = [n for n, unit in rows if bench.modelled(BenchRow(n, 1.0, unit, "QIO 80 MHz"), S3) is not None]
    assert {bench.part_of(name) for name in with_model} == {1, 3, 4}


def test_figures_are_written_for_people() -> None:
    def figure(name: str, value: float, unit: str = "") -> str:
        return bench.figure(bench.Row(name, value, unit, None, "", 0))

    assert figure("JEDEC id", 0xC84017) == "0xc84017"
    assert figure("free heap", 287_412.0, "B") == "287412"
    assert figure("decode", 17.2938, "tok/s") == "17.29"
    assert figure("decode", 39281.7, "tok/s") == "39282"
    assert figure("broken", float("nan")) == figure("JEDEC id", float("nan")) == "nan"
    assert figure("JEDEC id", float("inf")) == "inf"


def test_nothing_is_modelled_for_another_chip() -> None:
    desk = Info({"chip": "this computer", "flash_mode": "file", "cache_line": 0})
    assert bench.modelled(BenchRow("expf", 20.0, "cycles", ""), desk) is None


def test_what_is_missing_is_named() -> None:
    rows = [bench.Row("line fill", 470, "cycles", 456, "", 1), bench.Row("decode", 9, "tok/s", None, "", 0)]
    facts = Info({"flash_mode": "QIO 80 MHz"})
    assert [text[:3] for text in bench.missing(rows, facts)] == ["(3)", "(4)", "(5)"]


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    from tinychat.pipe import emit

    emit({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": float("-inf")}})
    assert capsys.readouterr().out == '{"a": null, "b": [null, 1.5], "c": {"d": null}}\n'
