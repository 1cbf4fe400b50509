"""Time of each x86 kernel beside the reference kernel's: AVX2 and AVX-512, as ratios of the least time of many calls.

    python tests/bench/kernel_times.py [--json]

Counts of instructions (tests/c/x86_counts.py) are the budgets; valgrind does not know AVX-512, and so its kernels have
only these.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

C = Path(__file__).resolve().parents[1] / "c"
sys.path[:0] = [str(C), str(C.parent)]
import cbuild

BACKENDS = ("ref", "avx2", "avx512vnni")


def ticks(backend: str) -> dict[str, int]:
    """Case -> ticks; empty where this CPU lacks the backend."""
    program = cbuild.program("gcc", C / "kernel_costs.c", flags=["-DTIMES"], name="kernel_times")
    out = cbuild.run([program, backend])
    if out.startswith("SKIP"):
        return {}
    return {case: int(count) for case, count in (line.split() for line in out.splitlines())}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    found = {backend: ticks(backend) for backend in BACKENDS}
    ratios = {
        case: {b: round(reference / found[b][case], 2) for b in BACKENDS[1:] if case in found[b]}
        for case, reference in found["ref"].items()
    }
    if as_json:
        print(json.dumps(ratios))
        return
    print("times faster than the reference kernel\n")
    print(f"| kernel | {' | '.join(BACKENDS[1:])} |\n|---|---|---|")
    for case, row in ratios.items():
        if row:
            print(f"| {case} | {' | '.join(str(row.get(b, '')) for b in BACKENDS[1:])} |")


if __name__ == "__main__":
    main()
