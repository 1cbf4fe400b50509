"""What a device says, as Python objects: tokens while they arrive, a reply with its figures at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import ChatError
from .faults import make
from .kv import kv_name
from .protocol import Check, Error, ModelState, Reason, TokenFlag
from .stream import ReplyStream
from .wire import Packet

if TYPE_CHECKING:
    from .escalate import Opinion

CHAT_KINDS = ("story", "turns")


@dataclass(frozen=True)
class Token:
    """One token of a reply.

    Attributes:
        index: 0, 1, 2...
        id: token id.
        text: what this token released; may be empty while half a character or a possible stop string is held back.
        logprob: natural log of its probability, over the sampler's candidates when `over_candidates`.
        logprob_all: over the whole vocabulary, when asked for (`true_logprob=True`).

    Text that was held back to the very end comes as a last token with id -1; `Reply.tokens` does not count it.
    """

    index: int
    id: int
    text: str
    logprob: float
    over_candidates: bool = True
    logprob_all: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Keys of a `--json` token line."""
        row: dict[str, Any] = {"index": self.index, "id": self.id, "text": self.text, "logprob": self.logprob}
        if self.logprob_all is not None:
            row["logprob_all"] = self.logprob_all
        return row


@dataclass(frozen=True)
class ReplyStats:
    """Figures of a finished reply: counts in tokens, times in seconds, as the device measured them.

    `position` is None when the device could not say.
    """

    stop_reason: str
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    dropped_exchanges: int
    reread_tokens: int
    position: int | None
    context: int
    prefill_s: float
    decode_s: float
    first_token_s: float
    prefill_tok_s: float
    decode_tok_s: float
    logprob_mean: float
    logprob_min: float
    seed: int

    @classmethod
    def from_packet(cls, done: Packet) -> ReplyStats:
        """From a `done` message. The first token comes out of prefill: it is not counted in decode."""
        prefill, decode = done.prefill_us / 1e6, done.decode_us / 1e6
        read = done.prompt_tokens + done.reread_tokens
        return cls(
            stop_reason=reason_name(done.reason),
            tokens=done.tokens,
            prompt_tokens=done.prompt_tokens,
            cached_tokens=done.cached_tokens,
            dropped_exchanges=done.dropped,
            reread_tokens=done.reread_tokens,
            position=done.position,
            context=done.context,
            prefill_s=prefill,
            decode_s=decode,
            first_token_s=done.first_token_us / 1e6,
            prefill_tok_s=read / prefill if prefill else 0.0,
            decode_tok_s=(done.tokens - 1) / decode if decode and done.tokens > 1 else 0.0,
            logprob_mean=done.logprob_mean,
            logprob_min=done.logprob_min,
            seed=done.seed,
        )


def reason_name(number: int) -> str:
    """`Reason` as a word: stop_id, stop_string, length, context, stopped, taken, error."""
    try:
        return Reason(number).name.lower()
    except ValueError:
        return f"reason_{number}"


class Reply:
    """A reply on its way: iterate it for `Token`s, or `wait()` for the end.

    Attributes:
        text: what has arrived so far.
        tokens: the tokens that have arrived.
        stats: figures; None until the end.
        ended: True when nothing more will come, be it after an error.
        opinion: what a bigger model was asked and said, when this reply was escalated.
        accepted: what the device said when it began: counts of prompt tokens, dropped exchanges, re-read tokens.
    """

    def __init__(
        self,
        stream: ReplyStream,
        on_end: Callable[[Reply], None],
        recover: Callable[[Reply, ReplyStream, ChatError], ReplyStream],
    ) -> None:
        """`recover` mends the line after an error: it returns a stream that begins anew, or raises what to say."""
        self.text = ""
        self.tokens: list[Token] = []
        self.stats: ReplyStats | None = None
        self.opinion: Opinion | None = None
        self.ended = False
        self._stream = stream
        self._on_end = on_end
        self._recover = recover
        self._iterator = self._run()

    @property
    def accepted(self) -> Packet | None:
        """The `accepted` message, once it is there."""
        return self._stream.accepted

    @property
    def begun(self) -> bool:
        """True once the request was sent: with the first step of a loop or of `wait()`."""
        return self._stream.begun

    def stop(self) -> None:
        """Ends the reply soon; keep iterating (or `wait()`) to get what came until then. Safe in a signal handler."""
        self._stream.stop()

    def wait(self) -> Reply:
        """Runs to the end and returns itself."""
        for _ in self:
            pass
        return self

    def __iter__(self) -> Iterator[Token]:
        """Tokens as they arrive; a second loop goes on where the first was left."""
        return self._iterator

    def __str__(self) -> str:
        """The text so far."""
        return self.text

    def _run(self) -> Iterator[Token]:
        while True:
            try:
                for packet in self._stream:
                    token = _token(packet)
                    self.text += token.text
                    self.tokens.append(token)
                    yield token
                break
            except ChatError as err:
                self.ended = True
                self._stream = self._recover(self, self._stream, err)
                self.ended = False
        self.ended = True
        done = self._stream.done
        assert done is not None
        rest = done.text.decode("utf-8", "replace")
        self.stats = ReplyStats.from_packet(done)
        if rest:
            self.text += rest
            yield Token(max(done.tokens - 1, 0), -1, rest, 0.0)
        self._on_end(self)
        if done.reason == Reason.ERROR:
            raise make(done.error)

    def as_dict(self) -> dict[str, Any]:
        """Keys of a `--json` reply line."""
        stats = dict(vars(self.stats)) if self.stats else {}
        stats.pop("tokens", None)
        row = {"text": self.text, "tokens": len(self.tokens), **stats}
        if self.opinion:
            row["escalated"] = self.opinion.as_dict()
            if self.opinion.text:
                row |= {"text": self.opinion.text, "device_text": self.text}
        return row


def _token(packet: Packet) -> Token:
    flags = TokenFlag(packet.flags)
    return Token(
        packet.index,
        packet.id,
        packet.text.decode("utf-8", "replace"),
        packet.logprob,
        bool(flags & TokenFlag.OVER_CANDIDATES),
        packet.logprob_all if flags & TokenFlag.TRUE_LOGPROB else None,
    )


@dataclass(frozen=True)
class Info(Mapping[str, Any]):
    """What a device says about itself: the fields of `info_is` in PROTOCOL.md, as attributes and as a mapping.

    Numbers that stand for words are words here: `kv_type` (f32, f16, i8, i4, i4/2...), `model_state` (none, ready,
    unusable), `model_error`, `chat_kind` (story, turns), `selfcheck` (a list of what failed).
    """

    values_: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_packet(cls, packet: Packet) -> Info:
        """From an `info_is` message."""
        values = dict(packet.values)
        values["kv_type"] = kv_name(values["kv_type"])
        values["chat_kind"] = word(CHAT_KINDS, values["chat_kind"])
        values["model_state"] = word([s.name.lower() for s in ModelState], values["model_state"])
        values["model_error"] = "" if values["model_error"] == Error.NONE else make(values["model_error"]).message
        values["selfcheck"] = [c.name.lower() for c in Check if values["selfcheck"] & c and c.name]
        return cls(values)

    def __getattr__(self, name: str) -> Any:
        """A field of `info_is`."""
        try:
            return self.__dict__["values_"][name]
        except KeyError:
            raise AttributeError(f"info has no field {name}") from None

    def __getitem__(self, key: str) -> Any:
        """A field of `info_is`."""
        return self.values_[key]

    def __iter__(self) -> Iterator[str]:
        """Names of the fields."""
        return iter(self.values_)

    def __len__(self) -> int:
        """Number of fields."""
        return len(self.values_)


def word(names: Any, number: int) -> str:
    """`names[number]`, or the number as text when this version has no name for it."""
    return names[number] if 0 <= number < len(names) else str(number)
