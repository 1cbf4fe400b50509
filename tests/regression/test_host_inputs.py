"""What the host program once did wrong."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tinychat import report, wire
from tinychat.conversation import Conversation
from tinychat.errors import ChatError, SimError
from tinychat.pipe import PipeChat
from tinychat.reply import Token
from tinychat.settings import checked
from tinychat.transport import SimOptions
from tinychat.transport_sim import SimTransport


def test_save_stores_settings_only() -> None:
    """/save in the console also handed on the progress callback and failed."""
    stored: dict[str, Any] = {}
    device = SimpleNamespace(info=lambda: SimpleNamespace(story=False), set=stored.update)
    options = {"seed": 7, "temperature": 0.5, "on_progress": print}
    Conversation(device, options).save()
    assert stored == {"temperature": 0.5}


def test_a_device_does_not_steer_the_terminal() -> None:
    """Names, log lines and error sentences of a device were printed with their escape sequences."""
    whole = wire.encode("error", 1, 1, code=999, detail=0, type=0, text="no\x1b]0;title\x07")
    (packet,) = wire.Deframer().feed(whole)
    assert isinstance(packet, wire.Packet)
    assert packet.text == "no\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(("terminal", "shown"), [(True, "\N{REPLACEMENT CHARACTER}[2J"), (False, "\x1b[2J")])
def test_a_model_does_not_steer_the_terminal(terminal: bool, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reply in a terminal, `tinychat "Hello"`, was written as into a pipe."""
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stdout", out)
    token = Token(0, 1, "\x1b[2J", 0.0)

    def turn(text: str, show: Any, started: Any) -> Any:
        show(token)
        return SimpleNamespace(opinion=None)

    PipeChat(SimpleNamespace(turn=turn, story=False, escalation=None)).turn("hi")  # type: ignore[arg-type]
    assert out.getvalue() == shown + "\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temperature", "1e-40"),
        ("temperature", "1e300"),
        ("top_p", "1e-50"),
        ("min_p", "0.99999999999"),
        ("top_k", "257"),
    ],
)
def test_values_that_no_device_takes_are_refused_with_their_range(name: str, text: str) -> None:
    """They were sent, some of them as another number, and the answer was "Malformed message."."""
    with pytest.raises(ChatError, match=f"{name} can not be {text}"):
        checked(name, text)


def test_minus_zero_is_zero() -> None:
    """A temperature of -0 was sent as such, and refused as malformed."""
    assert str(checked("temperature", "-0")) == "0.0"


def test_a_file_keeps_its_name_in_the_simulators_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were made a sentence: "F.img: not a flash image."."""
    sim = tmp_path / "tlm-sim"
    sim.write_text('#!/bin/sh\necho "tlm-sim: $2: not a flash image" >&2\nexit 1\n')
    sim.chmod(0o755)
    monkeypatch.setenv("TINYCHAT_SIM", str(sim))
    line = SimTransport("", SimOptions(flash="f.img"))
    with pytest.raises(SimError, match=r"^f\.img: not a flash image\.$"):
        for _ in range(100):
            line.read(0.1)
    line.close()


def test_a_pipe_gets_no_padding_and_no_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    report.table({"a": "x", "longer": "y" * 200, "empty": ""})
    with report.transfer(False) as show:
        show("send", 1, 2)
    out, err = capsys.readouterr()
    assert out == "a       x\nlonger  " + "y" * 200 + "\nempty\n" and err == ""


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_full_disk_behind_the_output(option: str) -> None:
    """It ended in a traceback, and in Python's own complaint at exit."""
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "tinychat", option]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "tinychat: The output: No space left on device.\n")
