"""Small things that make a terminal pleasant: wrapped streaming, a status line, a quiet keyboard."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len

from .printable import printable


def is_dumb(stream: TextIO) -> bool:
    """True when `stream` can only take plain lines."""
    return not stream.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "")


class WrappedWriter:
    """Writes a stream of text pieces so that words are not cut at the right edge.

    A word is held back until it is complete, or too long for a line anyway.
    """

    def __init__(self, out: TextIO, width: int | None = None) -> None:
        self._out = out
        self._width = width or max(20, shutil.get_terminal_size().columns - 1)
        self._column = 0
        self._word = ""
        self._space = ""

    def write(self, text: str) -> None:
        """More of the text."""
        for c in printable(text):
            if c == "\n":
                self._flush_word()
                self._out.write("\n")
                self._column, self._space = 0, ""
            elif c in " \t":
                self._flush_word()
                self._space += " " if c == " " else "    "
            else:
                self._word += c
                if cell_len(self._word) >= self._width:
                    self._flush_word()
        if self._word and self._fits(self._word + "xxxxxxxxxxxx"):
            self._flush_word()  # far from the edge: show it at once
        self._out.flush()

    def _fits(self, word: str) -> bool:
        return self._column + len(self._space) + cell_len(word) <= self._width

    def _flush_word(self) -> None:
        if not self._word:
            return
        if self._column and self._space and not self._fits(self._word):
            self._out.write("\n")
            self._column = 0
        else:
            self._out.write(self._space)
            self._column += len(self._space)
        self._out.write(self._word)
        self._column += cell_len(self._word)
        if self._column > self._width:
            self._column %= self._width + 1
        self._word = self._space = ""

    def end(self) -> None:
        """Ends the last line."""
        self._flush_word()
        if self._column:
            self._out.write("\n")
        self._column, self._space = 0, ""
        self._out.flush()


class StatusLine:
    """A line that is overwritten and leaves no trace; silent on a dumb terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._silent = is_dumb(out)
        self._shown = False

    def show(self, text: str) -> None:
        """Replaces what is shown."""
        if self._silent:
            return
        width = shutil.get_terminal_size().columns - 1
        dim, plain = ("", "") if os.environ.get("NO_COLOR") else ("\x1b[2m", "\x1b[0m")
        self._out.write(f"\r\x1b[K{dim}{text[:width]}{plain}")
        self._out.flush()
        self._shown = True

    def clear(self) -> None:
        """Takes it away."""
        if self._shown:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._shown = False


@contextlib.contextmanager
def on_interrupt(first: Callable[[], None]) -> Iterator[None]:
    """While inside, the first Ctrl-C calls `first`, the second raises KeyboardInterrupt.

    A program that ignores Ctrl-C, as the background job of a script does, goes on ignoring it.
    """
    hits = 0

    def handler(signum: int, frame: Any) -> None:
        nonlocal hits
        hits += 1
        if hits > 1:
            raise KeyboardInterrupt
        first()

    before = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or before in (None, signal.SIG_IGN):  # whoever called us decides
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def quiet_keyboard() -> Iterator[None]:
    """While inside, what is typed is not echoed into the reply; it waits for the next prompt."""
    try:
        import termios

        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
    except (ImportError, OSError, ValueError, AttributeError, termios.error):
        yield
        return
    quiet = list(before)
    quiet[3] = (before[3] & ~termios.ECHO) | termios.NOFLSH  # Ctrl-C does not eat what was typed ahead
    termios.tcsetattr(fd, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


def history_path() -> Path | None:
    """Where typed lines are kept, or None when that place can not be written."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    folder = base / "tinychat"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / "history"
        path.touch(mode=0o600, exist_ok=True)
    except OSError:
        return None
    return path
