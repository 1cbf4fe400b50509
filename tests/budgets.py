"""Instruction budgets: what each kernel may take on each target, in tests/bench/budgets.json.

The table is {target: {"kernel/case": {"instructions": N, "reason": why it last rose}}}; beside the targets stands
"compilers", {target: version}, because counts are equal on every machine for one compiler and for no other. A target is
measured by a module of its own, which offers two things with the functions here:

    a test     budgets.check(Measured(target, compiler, counts))
    a command  budgets.command(measure)      prints the counts; --update writes them, --reason says why one rose

A count may rise by 3 % unnoticed. More fails the test until the table is updated, in the same commit and with a reason.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("bench") / "budgets.json"
SLACK = 1.03
COMPILERS = "compilers"
Table = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Measured:
    """Counts of one target: "kernel/case" -> instructions. `compiler` is "" where none has a say (assembly)."""

    target: str
    compiler: str
    counts: Mapping[str, int]


class BudgetError(Exception):
    """What does not agree with the table, a line each."""


def compiler_version(program: str) -> str:
    """What a compiler calls itself, in one line."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def load(path: Path = TABLE) -> tuple[dict[str, str], Table]:
    """The compilers, and the targets' cases."""
    table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return table.pop(COMPILERS, {}), table


def rose(before: int, now: int) -> bool:
    """Is it more than the slack allows."""
    return now > before * SLACK


def check(measured: Measured, path: Path = TABLE) -> None:
    """Raises BudgetError where the target needs more than its budget, or has other cases than the table.

    Skips the test, and says why, when the counts come from another compiler than the table's.
    """
    compilers, table = load(path)
    budget = table.get(measured.target, {})
    strange = sorted(set(budget) ^ set(measured.counts))
    if strange:
        raise BudgetError(f"{measured.target}: measured or in the table, not both: {', '.join(strange)}")
    if compilers.get(measured.target, "") != measured.compiler:
        import pytest

        pytest.skip(f"{measured.target}: the table is by {compilers[measured.target]}, here is {measured.compiler}")
    lines = []
    for case, now in measured.counts.items():
        before = budget[case]["instructions"]
        if rose(before, now):
            lines.append(f"{measured.target} {case}: {before} -> {now} ({now / before - 1:+.1%})")
    if lines:
        raise BudgetError(
            "\n".join([*lines, "If it is meant: measure with --update --reason WHY, in the same commit."])
        )


def updated(compilers: dict[str, str], table: Table, measured: Measured, reason: str) -> None:
    """Puts the counts in. A rise by the same compiler, and a first count, carry `reason`; the rest keeps its own."""
    old = table.get(measured.target, {})
    same = compilers.get(measured.target, "") == measured.compiler
    new: dict[str, dict[str, Any]] = {}
    for case, now in sorted(measured.counts.items()):
        keeps = case in old and not (same and rose(old[case]["instructions"], now))
        if not keeps and not reason:
            raise BudgetError(f"{measured.target} {case} is new or rose to {now}: give a --reason")
        new[case] = {"instructions": now, "reason": old[case]["reason"] if keeps else reason}
    table[measured.target] = new
    if measured.compiler:
        compilers[measured.target] = measured.compiler


def save(compilers: dict[str, str], table: Table, path: Path = TABLE) -> None:
    """Writes the table, sorted, one case a line."""
    blocks = [f"{json.dumps(COMPILERS)}: {json.dumps(compilers, indent=1, sort_keys=True)}"]
    for target, cases in sorted(table.items()):
        lines = ",\n".join(f" {json.dumps(case)}: {json.dumps(entry)}" for case, entry in sorted(cases.items()))
        blocks.append(f"{json.dumps(target)}: {{\n{lines}\n}}")
    path.write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")


def command(measure: Callable[[], Iterable[Measured]], argv: list[str] | None = None) -> None:
    """The command line of a module that measures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--update", action="store_true", help="write the counts into the table")
    parser.add_argument("--reason", default="", help="why a count rose, or what is new")
    options = parser.parse_args(argv)
    compilers, table = load()
    for measured in measure():
        budget = table.get(measured.target, {})
        for case, now in measured.counts.items():
            before = budget[case]["instructions"] if case in budget else None
            print(f"{measured.target:12} {case:32} {now:10}" + (f" {now / before - 1:+7.1%}" if before else "     new"))
        if options.update:
            try:
                updated(compilers, table, measured, options.reason)
            except BudgetError as err:
                sys.exit(str(err))
    if options.update:
        save(compilers, table)
