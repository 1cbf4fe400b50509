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

from models import talker
from qemu import ROOT, TARGETS, build, firmware, running

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

TinyTalk on a Cardputer, planned (`tlm-sim tinytalk.tlm --like cardputer --kv i8`, asserted in `test_boards_sim.py`):
of about 313 KB of heap the app is expected to get 288 KB, in free blocks of 160, 96 and 32 KB. That holds 96 positions
with int8 KV and 224 with int4. 128 with int8 take 294,144 bytes: as many as there are, but a page of 33,280 does not
fit the 32 KB block, and two blocks end in the middle of one. 256 with int4 take 303,424: 8,512 more than there are.

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
    rows = [re.findall(r"[^|]+", line) for line in TABLE.read_text("utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    return {row[0]: dict(zip(COLUMNS, map(int, row[1:]), strict=True)) for row in cells[1:]}


def write_table(numbers: dict[str, dict[str, int]]) -> None:
    lines = ["| target | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(str(row[c]) for c in COLUMNS) + " |" for name, row in numbers.items()]
    TABLE.write_text(HEAD + "\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize("name", TARGETS)
def test_footprint(name: str, tmp_path: Path) -> None:
    now, before = measure(name, tmp_path), read_table()[name]
    deltas = {c: now[c] - before[c] for c in COLUMNS if now[c] != before[c]}
    print(f"{name}: {deltas or 'as committed'}")
    grown = {c: f"{before[c]} -> {now[c]}" for c in deltas if now[c] > before[c] * (1 + SLACK) + SLACK_BYTES}
    assert not grown, f"{name} grew: {grown}; if it is worth it: python {Path(__file__).relative_to(ROOT)}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        write_table({name: measure(name, Path(scratch)) for name in TARGETS})
