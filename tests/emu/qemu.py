"""Runs the firmware on an emulated board and opens its serial line. A board that can not be built here is skipped with
the reason; in CI (CI=true) that is a failure."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pytest

from tinychat import Device

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "firmware" / "boards"))

import build
from simlib import cbuild

TARGETS = tuple(build.TARGETS)


@lru_cache
def firmware(name: str) -> Path:
    """The ELF of a target."""
    target = build.TARGETS[name]
    if reason := build.missing(target):
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with cbuild.locked(build.OUT / name):
        return build.build(target)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Emulator:
    """A running emulator. `device()` opens its line with tinychat; the board starts with the first of them."""

    def __init__(self, name: str, folder: Path, model: bytes | None) -> None:
        self.target = build.TARGETS[name]
        self.elf = firmware(name)
        self.flash = folder / f"{name}.img"
        build.flash_image(self.target, self.flash, model)
        self._start()

    def _start(self) -> None:
        self.port = _free_port()
        command = build.command(self.target, self.elf, self.flash, self.port)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()  # it says that it waits for us
        assert b"waiting for connection" in line, line + self.process.stderr.read()

    def device(self) -> Device:
        """tinychat on the board's serial line, as a user has it."""
        return Device.open(f"socket://127.0.0.1:{self.port}")

    def power_cycle(self) -> None:
        """The emulator ends and starts again with the same flash."""
        self.stop()
        self._start()

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def running(name: str, folder: Path, model: bytes | None = None) -> Iterator[Emulator]:
    """An emulator for the length of a block."""
    emulator = Emulator(name, folder, model)
    try:
        yield emulator
    finally:
        emulator.stop()
        emulator.flash.unlink()
