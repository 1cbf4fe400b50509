"""Code, stack and memory of the firmware on each emulated board, against the committed table.

A change that costs more than the slack fails and prints the delta; `python tests/emu/test_boards_footprint.py` writes
the table anew.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "py"))

import families
from models import talker
from qemu import ROOT, TARGETS, build, firmware, running

from tinyexport import pipeline, plan

TABLE = ROOT / "firmware" / "FOOTPRINT.md"
COLUMNS = ("app code", "runtime code", "board code", "library code", "app_t", "stack high water", "session memory")
SLACK = 0.03  # of each number, and SLACK_BYTES: compilers of the same version differ by nothing, others by little
SLACK_BYTES = 96
HEAD = """# Footprint

Bytes, measured on the emulated boards: code (with constants) from the linker's map, -O2, the reference kernels;
the stack's high-water mark after an upload, a conversation and a probe; `session memory` is what TinyBuddy with a
template of turns takes at its 128 tokens with int8 KV, the app's own buffers (prompts of 512 bytes) included.

The test `tests/emu/test_boards_footprint.py` shows the delta of a change, fails when a number grows by more than 3 %,
and writes this table.

"""


def measure(name: str, folder: Path) -> dict[str, int]:
    firmware(name)
    parts = build.sizes(build.TARGETS[name])
    with running(name, folder, talker()) as emulator:
        device = emulator.device()
        device.chat("hello there, how are you", max_tokens=10, seed=1, temperature=0.8).wait()
        device.session.call("probe", flags=0, ids=list(range(20)))
        begun = device.session.call("upload_begin", "upload_is", slot=255, size=1008, sha256=bytes(32))
        data = bytes(1008)
        device.session.call("upload_chunk", "upload_is", offset=begun.offset, crc=build.zlib.crc32(data), data=data)
        bench = {row.name: int(row.value) for row in device.bench()}
        memory = device.info()["memory_used"]
    return {
        "app code": parts["app"]["code"],
        "runtime code": parts["runtime"]["code"],
        "board code": parts["board"]["code"],
        "library code": parts["libraries"]["code"],
        "app_t": bench["app_t"],
        "stack high water": bench["stack high water"],
        "session memory": memory,
    }


def read_table() -> dict[str, dict[str, int]]:
    lines = TABLE.read_text("utf-8").partition("TinyTalk")[0].splitlines()
    rows = [re.findall(r"[^|]+", line) for line in lines if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    return {row[0]: dict(zip(COLUMNS, map(int, row[1:]), strict=True)) for row in cells[1:]}


def tinytalk_section(folder: Path) -> str:
    """What `tinyexport plan` says of TinyTalk's shape on a Cardputer."""
    path = families.write("tinytalk", folder / "tinytalk", real=True)
    blob = pipeline.quantize(pipeline.SourceOptions(str(path)), pipeline.QuantizeOptions(preset="q4_0")).data
    board = plan.find_board("cardputer")
    rows = []
    for kv in plan.KV_ORDER:
        found = plan.make_plan(blob, board, kv=kv)
        parts = [found.ram_parts[name] for name in ("kv", "state", "app")]
        cells = [found.context, *parts, found.ram_bytes, found.missing_bytes]
        rows.append(f"| {kv} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    pieces = ", ".join(f"{size:,}" for size in board.pieces)
    text = (
        f"TinyTalk on a Cardputer, planned (`tinyexport plan`; `tlm-sim --like cardputer` does the same, see\n"
        f"`test_boards_sim.py`). Of {sum(board.heap):,} bytes of heap {board.stack:,} go to stacks and the line, "
        f"{board.reserve:,} to drivers;\nthe app gets {sum(board.pieces):,} in pieces of {pieces}. "
        f"Memory: {board.source}.\n`missing` is what the largest piece lacks for all {found.wanted} positions."
    )
    head = ["KV", "positions", "cache", "state", "app", "together", "missing"]
    table = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *rows]
    return text + "\n\n" + "\n".join(table) + "\n"


def write_table(numbers: dict[str, dict[str, int]], section: str) -> None:
    lines = ["| target | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(str(row[c]) for c in COLUMNS) + " |" for name, row in numbers.items()]
    TABLE.write_text(HEAD + "\n".join(lines) + "\n\n" + section, "utf-8")


@pytest.mark.parametrize("name", TARGETS)
def test_footprint(name: str, tmp_path: Path) -> None:
    now, before = measure(name, tmp_path), read_table()[name]
    deltas = {c: now[c] - before[c] for c in COLUMNS if now[c] != before[c]}
    print(f"{name}: {deltas or 'as committed'}")
    grown = {c: f"{before[c]} -> {now[c]}" for c in deltas if now[c] > before[c] * (1 + SLACK) + SLACK_BYTES}
    assert not grown, f"{name} grew: {grown}; if it is worth it: python {Path(__file__).relative_to(ROOT)}"


def test_the_plan_of_tinytalk(tmp_path: Path) -> None:
    section = tinytalk_section(tmp_path)
    assert TABLE.read_text("utf-8").endswith("\n\n" + section), (
        f"run python {Path(__file__).relative_to(ROOT)}\n{section}"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        write_table({name: measure(name, Path(scratch)) for name in TARGETS}, tinytalk_section(Path(scratch)))
