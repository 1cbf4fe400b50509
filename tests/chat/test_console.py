"""What a person sees and types: the console on a pseudo terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_device import reply_pieces

from tinychat.printable import printable
from tinychat.terminal import WrappedWriter

pty = pytest.importorskip("pty", reason="ptys are a Unix thing")
WAIT_S = 10.0


class Person:
    """Types into a tinychat and reads its screen (as a stream, without escape sequences)."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        import fcntl
        import struct
        import termios

        self.fd, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.raw = ""
        self.at = 0

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def see(self, words: str) -> str:
        """Waits until `words` appear after what was seen before. Returns what came up to there."""
        deadline = time.monotonic() + WAIT_S
        while True:
            shown = self.screen()
            found = shown.find(words, self.at)
            if found >= 0:
                before, self.at = shown[self.at : found], found + len(words)
                return before
            assert time.monotonic() < deadline, f"{words!r} did not appear in:\n{shown}"
            if not self._read(0.2) and self.process.poll() is not None and not self._read(0.2):
                raise AssertionError(f"it ended without {words!r}:\n{shown}")

    def _read(self, timeout: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], timeout)
        if not ready:
            return False
        with contextlib.suppress(OSError):  # Linux: the other side of a pty hung up
            data = os.read(self.fd, 65536)
            if b"\x1b[6n" in data:  # prompt_toolkit asks where the cursor is
                os.write(self.fd, b"\x1b[1;1R")
            self.raw += data.decode("utf-8", "replace")
            return bool(data)
        return False

    def screen(self) -> str:
        text = re.sub(r"[^\n]*\r\x1b\[K", "", self.raw)  # a status line that was taken away
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]", "", text).replace("\r\n", "\n").replace("\r", "")

    def leave(self) -> None:
        """Ctrl-D at the prompt."""
        self.see("\n>")
        deadline = time.monotonic() + WAIT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            self.type("\x04")  # again: a prompt may be shown a moment before the terminal takes keys
            self._read(0.3)
        assert self.ends() == 0

    def ends(self) -> int:
        deadline = time.monotonic() + WAIT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.1)
        assert self.process.poll() is not None, f"it does not end:\n{self.screen()}"
        return self.process.returncode


@pytest.fixture
def person(env: dict[str, str], blob: Path) -> Iterator[Callable[..., Person]]:
    """Opens a console: person("--seed", "1", fake={...}, NAME=value)."""
    people: list[Person] = []

    def open_(*args: str, fake: dict[str, Any] | None = None, **extra: str) -> Person:
        command = [sys.executable, "-m", "tinychat", "--sim", str(blob), *args]
        people.append(Person(command, env | {"FAKE": json.dumps(fake or {})} | extra))
        return people[-1]

    yield open_
    for p in people:
        p.process.kill()
        p.process.wait()
        os.close(p.fd)


def said(text: str, seed: int, position: int) -> list[str]:
    """The words of a reply; where lines break is the terminal's business."""
    return b"".join(reply_pieces(text.encode(), seed, position)).decode().split()


def test_a_chat_from_greeting_to_goodbye(person: Callable[..., Person], tmp_path: Path) -> None:
    p = person("--seed", "5")
    p.see("fake on fake (fake 1.0): 128 tokens of context, KV i8")
    p.see("\n>")
    p.type("hello there\r")
    p.see("hello there")
    shown = p.see(" tokens · ")
    words = said("hello there", 5, 0)
    assert shown.split()[-len(words) - 1 : -1] == words
    p.see("tok/s · first token 25 ms · context ")
    p.type("/set temp 0.5\r")
    p.see("temp is 0.5 for this chat.")
    p.type("/stats\r")
    p.see("decode_tok_s")
    p.type("/new\r")
    p.see("a new conversation")
    p.type("/help\r")
    p.see("Ctrl-C stops a reply")
    p.type("/nonsense\r")
    p.see("There is no command /nonsense.")
    p.leave()
    history = (tmp_path / "state" / "tinychat" / "history").read_text()
    assert "+hello there" in history


def test_ctrl_c_stops_the_reply_and_not_the_program(person: Callable[..., Person]) -> None:
    p = person("-n", "5000", fake={"endless": True, "step_s": 0.01})
    p.see("\n>")
    p.type("go\r")
    p.see("on and on")
    p.type("\x03")
    p.see("· stopped")
    p.type("\x03")
    p.see("Ctrl-D leaves")
    p.type("go\r")
    p.see("on and on")
    p.type("\x03")
    p.see("· stopped")
    p.type("/quit\r")
    assert p.ends() == 0


def test_what_is_typed_during_a_reply_waits_for_the_prompt(person: Callable[..., Person]) -> None:
    p = person("-n", "40", fake={"endless": True, "step_s": 0.02})
    p.see("\n>")
    p.type("go\r")
    p.see("on and")
    p.type("/stats\r")
    shown = p.see(" tokens · ")
    assert "/stats" not in shown
    p.see("stop_reason")


def test_dropped_exchanges_are_told(person: Callable[..., Person]) -> None:
    p = person(fake={"drop_next": 2})
    p.see("\n>")
    p.type("hi\r")
    p.see("the window was full: 2 oldest exchanges dropped, 18 tokens read again")


def test_a_lost_device_is_told_and_the_chat_goes_on(person: Callable[..., Person], tmp_path: Path) -> None:
    p = person("-n", "12", fake={"endless": True, "die_after": 4, "once": str(tmp_path / "died"), "step_s": 0.01})
    p.see("\n>")
    p.type("hi\r")
    p.see("The device was lost in the middle of a reply and is back")
    p.type("hi\r")
    p.see("12 tokens")


def test_a_story_reads_from_its_first_word_and_is_told_on(person: Callable[..., Person]) -> None:
    p = person("--seed", "1", "-n", "4", fake={"story": True, "endless": True})
    p.see("type how a story begins")
    p.see("\n>")
    p.type("\r")
    p.type("Once upon\r")
    p.see("Once upon")
    p.see("Once upon on and on and")
    p.see("length limit")
    p.type("\r")
    p.see("on and on and")
    p.see("length limit")


def test_no_model_is_said_at_once(person: Callable[..., Person]) -> None:
    p = person(fake={"model": None})
    p.see("there is no model that could answer")
    p.type("hi\r")
    p.see("There is no model on the device.")
    p.leave()


@pytest.mark.parametrize("setting", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(person: Callable[..., Person], setting: dict[str, str]) -> None:
    p = person("--seed", "5", **setting)
    p.see("\n>")
    p.type("hello\r")
    p.see(" tokens · ")
    colours = re.findall(r"\x1b\[[0-9;]*m", p.raw)
    assert not [c for c in colours if re.search(r"3[0-7]|9[0-7]|38;", c)]
    if "TERM" in setting:
        assert "\x1b[2m" not in p.raw and "\x1b[K" not in p.raw
    p.leave()


def test_a_models_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\x00\x9b1m\u202ec\n\td") == "a�[2Jb���1m�c\n\td"


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_words_are_not_cut_at_the_right_edge(size: int) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 4 + "\n\n" + "x" * 50 + " wide: 日本語日本語日本語 end"
    out = io.StringIO()
    writer = WrappedWriter(out, width=20)
    for at in range(0, len(text), size):
        writer.write(text[at : at + size])
    writer.end()
    shown = out.getvalue()
    assert "".join(shown.split()) == "".join(text.split())
    assert all(len(line) <= 20 for line in shown.split("\n") if "x" * 20 not in line and "日" not in line)
    assert not [w for w in re.findall(r"[a-zA-Z.]+", shown) if w not in text]


def test_a_second_opinion_is_marked(person: Callable[..., Person], bigger: Any) -> None:
    p = person("--seed", "5", "--escalate", bigger.url, "--model", "big", "--threshold=-0.1")
    p.see("\n>")
    p.type("hello there\r")
    p.see("confidence 78%")
    p.see("the device is unsure (mean log-probability -0.25, below -0.1); big answers:")
    p.see("Four, said the bigger one.")
    p.type("/set threshold -1\r")
    p.see("threshold is -1 for this chat.")
    p.leave()
