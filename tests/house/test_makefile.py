"""What `make` says on a machine that lacks something: one sentence, before anything is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"
OLD = '[ "$1" = --version ] && echo Python 3.9.2 && exit 0; exit 1'
BARE = '[ "$2" = venv ] || exit 0; mkdir -p .venv/bin; touch .venv/bin/python; exit 1'


@pytest.mark.parametrize(
    ("python", "compiler", "words"),
    [
        (OLD, True, "Python 3.10 or newer is needed; python3 is Python 3.9.2"),
        (BARE, False, "a C compiler is needed"),
        (BARE, True, "python3 has no venv"),
    ],
    ids=["old Python", "no compiler", "no venv"],
)
def test_what_is_missing_is_said(tmp_path: Path, python: str, compiler: bool, words: str) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    tools, work = tmp_path / "bin", tmp_path / "work"
    tools.mkdir()
    work.mkdir()
    shutil.copy(MAKEFILE, work)
    (work / "pyproject.toml").touch()
    for name in ("sh", "find", "test", "echo", "rm", "mkdir", "touch"):
        os.symlink(str(shutil.which(name)), tools / name)
    for name, body in (("python3", python), *((("cc", "exit 0"),) if compiler else ())):
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    done = subprocess.run([make, "install"], cwd=work, env={"PATH": str(tools)}, capture_output=True, text=True)
    assert done.returncode and words in done.stderr, done.stderr
    assert not (work / ".venv").exists(), "the next try would find half of it"
