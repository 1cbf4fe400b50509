"""The chat in a pipe, the one reply of a script, and lines of JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from typing import Any

from .conversation import Conversation
from .printable import printable
from .reply import Reply, Token
from .terminal import on_interrupt


class PipeChat:
    """Lines in, replies out, nothing else: for pipes and scripts.

    Args:
        conversation: whom to talk to.
        as_json: one JSON object a reply instead of its text.
        stream: with `as_json`, also one object a token.
    """

    def __init__(self, conversation: Conversation, as_json: bool = False, stream: bool = False) -> None:
        self.conversation = conversation
        self._json, self._stream = as_json, as_json and stream
        self._clean = printable if sys.stdout.isatty() else str
        conversation.notice = lambda text: print(f"tinychat: {text}", file=sys.stderr)

    def run(self, lines: Iterable[str]) -> None:
        """A turn for each line that is not empty."""
        for line in lines:
            if line.strip():
                self.turn(line.rstrip("\r\n"))

    def turn(self, text: str) -> None:
        """One turn; its reply goes to standard output. Ctrl-C ends the reply, then the program."""
        interrupted: list[Reply] = []
        current: list[Reply] = []

        def stop() -> None:
            interrupted.extend(current)
            for reply in current:
                reply.stop()

        self._started = False
        self._held = ""
        with on_interrupt(stop):
            reply = self.conversation.turn(text, self._show, current.append)
        if self._json:
            emit({"event": "reply", "prompt": text, **reply.as_dict()})
        elif reply.opinion and reply.opinion.text:
            print(f"tinychat: {reply.opinion.model} answered: {reply.opinion.why}", file=sys.stderr)
            print(self._clean(reply.opinion.text), flush=True)
        else:
            print(self._clean(self._held), flush=True)
        if interrupted:
            raise KeyboardInterrupt

    def _show(self, token: Token) -> None:
        if self._stream:
            emit({"event": "token", **token.as_dict()})
        if self._json:
            return
        text = token.text
        if not self._started and not self.conversation.story:
            text = text.lstrip()
        self._started = self._started or bool(text)
        if self.conversation.escalation:  # it may not be the reply that counts
            self._held += text
            return
        print(self._clean(text), end="", flush=True)


def emit(row: dict[str, Any]) -> None:
    """One line of JSON on standard output."""
    print(json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, default=str), flush=True)


def _finite(value: Any) -> Any:
    """`value` with null for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
