"""Tokens into text as they come: stop rules, and no half characters."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .runtime import Choice, Sampler, Session


@dataclass
class Step:
    """One generated token and the text that it completes (may be empty)."""

    id: int
    text: str
    choice: Choice


class Generation(Iterator[Step]):
    """Generated tokens as they come; `text` and `stop_reason` tell the state so far.

    `stop_reason` is "length", "stop_token", "stop_string" or "context" once the iteration has ended. Stop tokens and
    stop strings are not part of the text. A step is held back only while its text may still become part of a stop
    string or of an unfinished character.
    """

    def __init__(
        self,
        session: Session,
        sampler: Sampler,
        ids: Sequence[int],
        n: int,
        stop_ids: Sequence[int] | None = None,
        stop_strings: Sequence[str] = (),
    ) -> None:
        """Nothing is evaluated before the first step is asked for."""
        self.text = ""
        self.stop_reason = ""
        self._session, self._sampler, self._next_ids, self._left = session, sampler, list(ids), n
        self._stop_ids = frozenset(session.model.stop_ids if stop_ids is None else stop_ids)
        self._stop_strings = tuple(s for s in stop_strings if s)
        prompted = session.position > 0 or any(i != session.model.bos for i in ids)
        self._decoder = session.model.decoder(continues=prompted)
        self._held = ""  # text that may be the start of a stop string
        self._waiting: list[Step] = []
        self._ready: deque[Step] = deque()

    def __next__(self) -> Step:
        """The next token; StopIteration sets `stop_reason`."""
        while not self._ready:
            if self.stop_reason:
                raise StopIteration
            self._advance()
        return self._ready.popleft()

    def _advance(self) -> None:
        if self._left <= 0:
            return self._finish("length")
        if self._session.position + len(self._next_ids) > self._session.context:
            return self._finish("context")
        self._session.eval_sample(self._next_ids, self._sampler)
        choice = self._sampler.sample()
        if choice.id in self._stop_ids:
            return self._finish("stop_token")
        self._left -= 1
        self._next_ids = [choice.id]
        self._waiting.append(Step(choice.id, "", choice))
        self._held += self._decoder.push(choice.id).decode("utf-8", "replace")
        return self._release()

    def _release(self) -> None:
        """Give out the text that no stop string can reach any more."""
        found = [at for at in (self._held.find(s) for s in self._stop_strings) if at >= 0]
        if found:
            self._held = self._held[: min(found)]
            return self._finish("stop_string", cut=True)
        keep = max((_overlap(self._held, s) for s in self._stop_strings), default=0)
        free = len(self._held) - keep
        self._give(self._held[:free])
        self._held = self._held[free:]
        if not self._held and not self._decoder.pending:
            self._ready.extend(self._waiting)
            self._waiting.clear()
        return None

    def _finish(self, reason: str, cut: bool = False) -> None:
        rest = "" if cut else self._decoder.end().decode("utf-8", "replace")
        self._give(self._held + rest)
        self._held = ""
        self._ready.extend(self._waiting)
        self._waiting.clear()
        self.stop_reason = reason

    def _give(self, text: str) -> None:
        self.text += text
        if text:
            self._waiting[-1].text += text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def generate(
    session: Session,
    sampler: Sampler,
    ids: Sequence[int],
    n: int,
    stop_ids: Sequence[int] | None = None,
    stop_strings: Sequence[str] = (),
) -> Generation:
    """Continue `ids` by up to `n` tokens; `stop_ids` defaults to the model's own."""
    return Generation(session, sampler, ids, n, stop_ids, stop_strings)
