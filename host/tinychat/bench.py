"""`tinychat bench`: what the device measures of itself, beside what was modelled, with a line for a report.

The five measurements of an ESP32-S3 that decide its speed: (1) cycles to fill a cache line from the mapped model,
(2) the flash mode in force, (3) cycles of exp, tanh, divide and a barrier, and free heap, (4) the kernel from SRAM
and from flash, (5) the flash chip's identity. A board sends rows of any name; the words in them tell which of
the five they belong to. Modelled values are arithmetic, not measurements of this project: they are labelled so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from .device import BenchRow, Device
from .errors import ChatError
from .pipe import emit
from .reply import Info, Reply

PROMPT = (
    "Once upon a time there was a little girl who lived in a small house near the forest with her mother and her dog. "
    "One day they went out to look for berries and found a big red ball under a tree."
)
REPLY_TOKENS = 64
CPU_HZ = 240e6
KERNEL_CYCLES = 0.8  # a q4_0 weight on one core's vector unit
Q4_BYTES = 18 / 32  # a q4_0 weight with its share of the scale

#: Flash mode -> SPI clock in Hz, data clocks a byte, overhead clocks of a line fill.
TIERS = {
    "dio 80": (80e6, 4.0, 28),
    "qio 80": (80e6, 2.0, 24),
    "qio 120": (120e6, 2.0, 28),
    "opi 80": (80e6, 0.5, 28),
}
PARTS = {
    1: "cycles per cache line from the mapped model",
    2: "flash mode and cache line in force",
    3: "cycles of exp, tanh, divide, barrier; free heap",
    4: "kernel from SRAM and from flash",
    5: "identity of the flash chip (JEDEC id, SFDP)",
}
#: Words in a row's name -> the measurement it belongs to; the first that fits.
PART_WORDS = {
    2: r"^cache line$|flash (clock|mode)",
    1: r"line",
    3: r"expf?\b|tanhf?\b|divi|barrier|parallel|sync|heap",
    4: r"kernel|matvec|linear|weight",
    5: r"jedec|sfdp|flash.?(id|chip)",
}
SCALAR_CYCLES = {"expf": 269.0, "tanhf": 300.0, "divide": 54.0}


@dataclass(frozen=True)
class Row:
    """A line of the result. `modelled` is None where no model says anything; `part` is 0 for a reply's speed."""

    name: str
    measured: float
    unit: str
    modelled: float | None
    note: str
    part: int


def tier_of(text: str) -> tuple[float, float, int] | None:
    """Flash timing named in `text`, such as "QIO 80 MHz"."""
    text = text.lower().replace("octal", "opi")
    mhz = re.search(r"(80|120)\s*m", text)
    mode = re.search(r"dio|qio|opi", text)
    return TIERS.get(f"{mode[0]} {mhz[1]}") if mode and mhz else None


def line_cycles(tier: tuple[float, float, int], line: int, cores: int = 1) -> float:
    """Modelled CPU cycles to fill a cache line of `line` bytes over a saturated flash bus."""
    clock, per_byte, overhead = tier
    return (overhead + per_byte * line) / clock * CPU_HZ * (1.06 if cores > 1 else 1.0)


def modelled(row: BenchRow, facts: Info) -> float | None:
    """What the cost model of the ESP32-S3 says about a row; None where it says nothing, and for other chips."""
    if "s3" not in facts.chip.lower():
        return None
    text, name = f"{row.name} {row.note}".lower(), row.name.lower()
    if name in SCALAR_CYCLES and row.unit == "cycles":
        return SCALAR_CYCLES[name]
    tier = tier_of(text) or tier_of(facts.flash_mode)
    size = re.search(r"\b(16|32|64)\s*b\b", text)
    line = int(size[1]) if size else facts.cache_line
    part = part_of(name)
    if part == 4 and row.unit == "cycles/weight":
        if "sram" in text:
            return KERNEL_CYCLES
        return line_cycles(tier, line) / (line / Q4_BYTES) + KERNEL_CYCLES if tier and line else None
    if part == 1 and row.unit == "cycles" and tier and line:
        return line_cycles(tier, line, 2 if re.search(r"\b(2|two|both) cores", text) else 1)
    return None


def part_of(name: str) -> int:
    """Which of the five measurements a row belongs to; 0 for none of them."""
    return next((part for part, words in PART_WORDS.items() if re.search(words, name.lower())), 0)


def reply_rows(reply: Reply) -> list[Row]:
    """Speed of a reply, as the device timed it."""
    stats = reply.stats
    if stats is None:
        return []
    note = f"{stats.prompt_tokens} + {stats.tokens} tokens, greedy"
    return [
        Row("decode", stats.decode_tok_s, "tok/s", None, note, 0),
        Row("prefill", stats.prefill_tok_s, "tok/s", None, note, 0),
        Row("first token", stats.first_token_s, "s", None, note, 0),
    ]


def measure(device: Device, facts: Info, argument: int, on_row: Callable[[Row], None]) -> list[Row]:
    """Runs everything there is. Ends the conversation."""
    rows: list[Row] = []

    def keep(row: Row) -> None:
        rows.append(row)
        on_row(row)

    if facts.model_state == "ready":
        reply = device.generate(PROMPT, temperature=0, max_tokens=REPLY_TOKENS, ignore_stop=True, seed=1).wait()
        for row in reply_rows(reply):
            keep(row)
        device.reset()
    for raw in device.bench(argument):
        keep(Row(raw.name, raw.value, raw.unit, modelled(raw, facts), raw.note, part_of(raw.name)))
    return rows


def figure(row: Row) -> str:
    """The measured number for people: ids in hexadecimal, whole numbers whole."""
    small = abs(row.measured) < 1e9  # and a number
    if small and "jedec" in row.name.lower() and not row.unit:
        return f"0x{int(row.measured):06x}"
    whole = small and (abs(row.measured) >= 1e4 or row.measured == int(row.measured))
    return f"{row.measured:.0f}" if whole else f"{row.measured:.4g}"


def missing(rows: list[Row], facts: Info) -> list[str]:
    """Those of the five measurements that this device does not provide."""
    have = {row.part for row in rows}
    if facts.flash_mode:
        have.add(2)
    return [f"({part}) {text}" for part, text in PARTS.items() if part not in have]


def paste_line(rows: list[Row], facts: Info) -> str:
    """The whole result in one line."""
    parts = [
        f"{facts.board} {facts.chip}".strip(),
        facts.firmware,
        f"{facts.model} {facts.model_crc:08x} ctx {facts.context} kv {facts.kv_type}" if facts.model else "no model",
        f"flash {facts.flash_mode}" + (f" line {facts.cache_line}" if facts.cache_line else ""),
        f"{facts.kernels}, {facts.threads} core(s)" + (f" {facts.cpu_mhz} MHz" if facts.cpu_mhz else ""),
    ]
    for row in rows:
        beside = f" (modelled {row.modelled:.4g})" if row.modelled is not None else ""
        parts.append(f"{row.name} {figure(row)} {row.unit}{beside}".strip())
    return "tinychat bench | " + " | ".join(parts)


def run(device: Device, argument: int, as_json: bool) -> None:
    """The command: measures, prints, and says what is missing."""
    facts = device.info()
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console_err = Console(stderr=True, highlight=False, markup=False)
    if facts.model_state != "ready" and not facts.benches:
        raise ChatError("There is nothing to measure: no model, and a board without measurements.", "upload a model")

    def on_row(row: Row) -> None:
        if as_json:
            emit({"event": "bench", **vars(row)})
        else:
            console_err.print(f"measured {row.name}", style="dim")

    rows = measure(device, facts, argument, on_row)
    if as_json:
        emit({"event": "bench_done", "missing": missing(rows, facts), "line": paste_line(rows, facts), **_where(facts)})
        return
    console.print(_table(rows))
    console.print(f"flash mode in force: {facts.flash_mode or 'unknown'}; cache line {facts.cache_line or 'unknown'}")
    for text in missing(rows, facts):
        console.print(f"not provided by this device: {text}")
    if facts.warning:
        console.print(f"warning: {facts.warning}")
    console.print("\nfor a report:\n" + paste_line(rows, facts))


def _where(facts: Info) -> dict[str, Any]:
    return {
        k: facts[k] for k in ("board", "chip", "firmware", "model", "flash_mode", "cache_line", "cpu_mhz", "threads")
    }


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("modelled", justify="right")
    table.add_column("unit")
    table.add_column("conditions", style="dim")
    for row in rows:
        beside = "" if row.modelled is None else f"{row.modelled:.4g}"
        table.add_row(row.name, figure(row), beside, row.unit, row.note)
    return table
