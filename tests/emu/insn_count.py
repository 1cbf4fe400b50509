"""Counts the instructions of a bare program on an emulated core, exactly: QEMU with a plugin of ours (insn_plugin.c).

A program calls `mark()` between what is to be told apart. Counts are of one compiler: other versions give others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "build" / "counts"
sys.path[:0] = [str(ROOT / "firmware" / "boards"), str(ROOT / "tests")]

import build
import cbuild
import pytest

LIMIT = 120  # seconds of one run


def need(target: build.Target) -> None:
    """Skips the test where a core's packages are not installed; in CI that is a failure."""
    if reason := build.missing(target):
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


class Count(NamedTuple):
    """What ran between two marks."""

    instructions: int
    divisions: int


@lru_cache
def plugin() -> Path:
    """The plugin as a shared object."""
    out = OUT / "insn_plugin.so"
    OUT.mkdir(parents=True, exist_ok=True)
    source = HERE / "insn_plugin.c"
    with cbuild.locked(OUT):
        if not out.exists() or out.stat().st_mtime < source.stat().st_mtime:
            build._run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", source, "-o", out])
    return out


def program(target: build.Target, name: str, sources: Sequence[Path], *flags: str) -> Path:
    """An ELF of `sources` for a core, with its start code where the C library has none. Made anew each time."""
    folder = OUT / f"{name}-{target.name}"
    folder.mkdir(parents=True, exist_ok=True)
    elf = folder / "program.elf"
    xtensa = target.name == "xtensa"
    more = [build.BOARDS / "qemu_xtensa" / part for part in ("start.S", "libgcc_di.c")] if xtensa else []
    libraries = [build._libgcc_of_rom(folder)] if xtensa else []
    group = ["-Wl,--gc-sections", "-Wl,--start-group", *libraries, "-lc", "-lgcc", "-Wl,--end-group"]
    includes = [f"-I{ROOT / 'runtime_c' / part}" for part in ("include", "src")] + [f"-I{folder}"]
    command = [f"{target.prefix}gcc", *build.CFLAGS, *build._flags(target), *includes, *flags, *target.link]
    build._run([*command, *sources, *more, *group, "-o", elf])
    return elf


def symbols(target: build.Target, elf: Path) -> dict[str, int]:
    """Addresses by name."""
    lines = (line.split() for line in build._run([f"{target.prefix}nm", elf]).splitlines())
    return {words[2]: int(words[0], 16) for words in lines if len(words) == 3}


def counts(
    target: build.Target, elf: Path, marks: int, *extra: str, skip: tuple[int, int] = (0, 0), serial: str = "none"
) -> list[Count]:
    """Instructions between each mark and the next one; `skip`: a range of addresses that does not count."""
    out = elf.with_name("counts.txt")
    at = symbols(target, elf)["mark"] & ~1
    arguments = f"{plugin()},mark={at:#x},marks={marks},out={out},skip={skip[0]:x}:{skip[1]:x}"
    quiet = ["-display", "none", "-monitor", "none", "-serial", serial, *extra]
    command = [target.qemu, *target.machine, *quiet, "-plugin", arguments, "-device", f"loader,file={elf},cpu-num=0"]
    subprocess.run(command, check=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
    totals = [[int(word) for word in line.split()] for line in out.read_text().splitlines()]
    return [Count(b[0] - a[0], b[1] - a[1]) for a, b in zip(totals, totals[1:], strict=False)]
