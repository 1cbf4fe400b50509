"""Fixtures of the tinychat tests: a fake device in the process, and one that takes the simulator's place."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # cbuild, beside the test folders

from fake_device import FakeClock, FakeDevice, FakeLink, Faults, make_blob
from fake_endpoint import Bigger

from tinychat import Device
from tinychat.cli import main

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture
def connect() -> Callable[..., tuple[Device, FakeDevice, FakeLink]]:
    """Opens a `Device` on a `FakeDevice`: connect(faults, **fields)."""

    def open_(faults: Faults | None = None, **fields: Any) -> tuple[Device, FakeDevice, FakeLink]:
        fake, clock = FakeDevice(**fields), FakeClock()
        link = FakeLink(fake, clock, faults)
        return Device(link, clock), fake, link

    return open_


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    """A file with a true blob header and checksum."""
    path = tmp_path / "model.tlm"
    path.write_bytes(make_blob(50_000, 7))
    return path


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Environment of a tinychat that finds the fake simulator and keeps its history in `tmp_path`."""
    sim = tmp_path / "tlm-sim"
    sim.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "fake_device.py"} "$@"\n')
    sim.chmod(0o755)
    base = {k: v for k, v in os.environ.items() if not k.startswith("TINYCHAT") and k != "NO_COLOR"}
    return base | {
        "TINYCHAT_SIM": str(sim),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "host"), str(ROOT / "export")]),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "TERM": "xterm",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def tinychat(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command in this process: tinychat("--sim", "x.tlm", stdin="hi", fake={...}, NAME=value...)."""

    def run(
        *args: str, stdin: str = "", fake: dict[str, Any] | None = None, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            for name in [n for n in os.environ if n.startswith("TINYCHAT")]:
                patch.delenv(name)
            for name, value in (env | {"FAKE": json.dumps(fake or {})} | extra).items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            capsys.readouterr()
            with pytest.raises(SystemExit) as end:
                main(list(args))
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(list(args), int(end.value.code or 0), out, err)

    return run


@pytest.fixture
def bigger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bigger]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TINYCHAT_API_KEY", raising=False)
    server = Bigger()
    yield server
    server.server.shutdown()
    server.server.server_close()
