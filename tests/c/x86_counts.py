"""Instructions of the x86 kernels, counted by callgrind over kernel_costs.c.

    python tests/c/x86_counts.py [--update --reason WHY]

AVX-512 has no column: valgrind does not know it. Its kernels are compared in time by tests/bench/kernel_times.py.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
import budgets
import cbuild
from budgets import Measured

TARGETS = {"x86_ref": "ref", "x86_avx2": "avx2"}
FLAGS = ["-fno-builtin", "-fno-tree-loop-distribute-patterns"]  # its memset shall not become a call of itself
_DUMP = re.compile(
    r"^desc: Trigger: Client Request: (?P<case>\S+)$.*^totals: (?P<count>\d+)$", re.MULTILINE | re.DOTALL
)


def missing() -> str | None:
    """What is not installed here."""
    header = Path("/usr/include/valgrind/callgrind.h")
    if shutil.which("valgrind") is None or not header.exists():
        return "valgrind with its headers is not installed"
    return None


def measure(target: str) -> Measured | None:
    """The counts of one backend; None where this CPU does not have it."""
    program = cbuild.program("gcc", Path(__file__).with_name("kernel_costs.c"), flags=FLAGS)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        options = ["--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={out}", "-q"]
        if cbuild.run(["valgrind", *options, program, TARGETS[target]]).startswith("SKIP"):
            return None
        dumps = (_DUMP.search(path.read_text()) for path in Path(folder).iterdir())
        counts = {m["case"]: int(m["count"]) for m in dumps if m}
    return Measured(target, budgets.compiler_version("gcc"), dict(sorted(counts.items())))


def measure_all() -> Iterator[Measured]:
    """Every backend that this CPU has."""
    for target in TARGETS:
        measured = measure(target)
        if measured is None:
            print(f"{target}: not on this CPU", file=sys.stderr)
        else:
            yield measured


if __name__ == "__main__":
    if missing():
        sys.exit(missing())
    budgets.command(measure_all)
