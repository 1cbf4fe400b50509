"""What host/README.md promises: JSON keys, error codes, commands."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tinychat import errors
from tinychat.cli import cli

Run = Callable[..., "subprocess.CompletedProcess[str]"]
README = (Path(__file__).parents[2] / "host" / "README.md").read_text()


def documented(event: str) -> set[str]:
    """Keys in the JSON table's row of an event."""
    row = next(line for line in README.splitlines() if re.match(rf"\| .*`{event}`", line) and "code" not in line[:3])
    return {"event", *(word for part in re.findall(r"`([^`]+)`", row.split("|")[2]) for word in part.split())}


@pytest.mark.parametrize(
    "args",
    [["hello"], ["--tokens", "hello"], ["settings"], ["reset"], ["bench"]],
    ids=lambda args: args[0],
)
def test_json_has_the_documented_keys(tinychat: Run, blob: Path, args: list[str]) -> None:
    for line in tinychat("--sim", str(blob), "--json", *args).stdout.splitlines():
        row = json.loads(line)
        assert set(row) <= documented(row["event"]), row["event"]
        if row["event"] not in ("token", "bench"):
            assert set(row) == documented(row["event"])


def test_every_error_code_is_in_the_table() -> None:
    codes = {e.code for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.ChatError)}
    for code in codes - {"error", "device"}:
        assert f"`{code}`" in README, code


def test_every_command_is_described() -> None:
    for name in set(cli.commands) - {"chat"}:
        assert f"`tinychat {name}" in README, name
