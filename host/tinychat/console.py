"""The chat in a terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape

from . import report
from .conversation import DEVICE_KEYS, KEYS, Conversation
from .errors import ChatError
from .escalate import Opinion
from .protocol import LogLevel
from .reply import Reply, ReplyStats, Token
from .terminal import StatusLine, WrappedWriter, history_path, on_interrupt, quiet_keyboard

COMMANDS = {
    "/new": "a new conversation (or story)",
    "/set KEY VALUE": "for this chat; VALUE auto takes it back. Without arguments: show all",
    "/save": "store this chat's sampling settings on the device",
    "/stats": "figures of the last reply and of the line",
    "/info": "the device and its model",
    "/help": "this list",
    "/quit": "leave (Ctrl-D does too)",
}
REASONS = {
    "length": "length limit (/set n)",
    "context": "context full (/new)",
    "stopped": "stopped",
    "taken": "another program took the device over",
}


def stats_line(stats: ReplyStats) -> str:
    """One line of figures under a reply."""
    parts = [f"{stats.tokens} token{'' if stats.tokens == 1 else 's'}"]
    if stats.decode_tok_s:
        parts.append(f"{stats.decode_tok_s:.{1 if stats.decode_tok_s < 100 else 0}f} tok/s")
    if stats.tokens:
        parts.append("first token " + seconds(stats.first_token_s))
    if stats.position is not None:
        parts.append(f"context {stats.position}/{stats.context}")
    if stats.stop_reason in REASONS:
        parts.append(REASONS[stats.stop_reason])
    if stats.tokens and stats.logprob_mean <= 0:
        parts.append(f"confidence {math.exp(stats.logprob_mean):.0%}")
    return " · ".join(parts)


def seconds(time: float) -> str:
    """A short time for people: 0.25 s, 4 ms."""
    return f"{time:.2f} s" if time >= 0.1 else f"{time * 1e3:.2g} ms"


def reread_line(dropped: int, reread: int) -> str:
    """What is said when the window was full."""
    exchanges = f"{dropped} oldest exchange{'' if dropped == 1 else 's'}"
    return f"the window was full: {exchanges} dropped" + (f", {reread} tokens read again" if reread else "")


class ChatConsole:
    """A person at a terminal."""

    def __init__(self, conversation: Conversation, out: TextIO | None = None) -> None:
        self.conversation = conversation
        self._out = out or sys.stdout
        self._rich = Console(file=self._out, highlight=False)
        self._status = StatusLine(self._out)
        conversation.notice = self._notice
        conversation.device.session.on_log = self._log
        conversation.options["on_progress"] = self._progress

    def run(self) -> None:
        """Reads lines until Ctrl-D or /quit."""
        self._greet()
        for line in self._lines():
            text = line.strip()
            try:
                if text.startswith("/"):
                    if not self._command(text):
                        return
                elif text or (self.conversation.story and self.conversation.replies):
                    self._turn(text)
            except ChatError as err:
                self._error(err)
            except KeyboardInterrupt:  # between a reply's end and the next prompt
                self._notice("Ctrl-D leaves")

    # ---- a turn ---------------------------------------------------------------------------------

    def _turn(self, text: str) -> None:
        writer = WrappedWriter(self._out)
        begin = text if self.conversation.story else ""  # a story reads from its first word
        first = True

        def show(token: Token) -> None:
            nonlocal first
            piece = begin + token.text if first else token.text
            if first and not begin:
                piece = piece.lstrip(" " if self.conversation.story else None)
            if piece:
                self._status.clear()
                first = False
            writer.write(piece)

        current: list[Reply] = []

        def stop() -> None:
            for reply in current:
                reply.stop()

        try:
            with quiet_keyboard(), on_interrupt(stop):
                reply = self.conversation.turn(text, show, lambda r: current.__setitem__(slice(None), [r]))
        except KeyboardInterrupt:
            raise ChatError("The reply was abandoned: the device had not stopped yet.", "") from None
        finally:
            self._status.clear()
            writer.end()
        if reply.stats:
            early = reply.accepted.dropped if reply.accepted else 0
            if reply.stats.dropped_exchanges > early:  # more had to go while the reply grew
                self._notice(reread_line(reply.stats.dropped_exchanges, reply.stats.reread_tokens))
            self._notice(stats_line(reply.stats))
        if reply.opinion and reply.opinion.text:
            self._second(reply.opinion)

    def _second(self, opinion: Opinion) -> None:
        self._warn(f"the device is unsure ({opinion.why}); {opinion.model} answers:")
        writer = WrappedWriter(self._out)
        writer.write(opinion.text)
        writer.end()

    def _progress(self, packet: Any) -> None:
        if packet.name == "accepted":
            if packet.dropped:
                self._notice(reread_line(packet.dropped, packet.reread_tokens))
        elif packet.of > 1 and packet.at < packet.of:
            self._status.show(f"reading {packet.at}/{packet.of} tokens")

    # ---- commands -------------------------------------------------------------------------------

    def _command(self, line: str) -> bool:
        name, *words = line.split()
        if name in ("/quit", "/exit", "/q"):
            return False
        handler = getattr(self, "_do_" + name[1:], None) if name[1:].isalpha() else None
        if handler is None:
            raise ChatError(f"There is no command {name}.", "/help lists them")
        handler(words)
        return True

    def _do_new(self, words: list[str]) -> None:
        self.conversation.new()
        self._notice("a new story" if self.conversation.story else "a new conversation")

    def _do_set(self, words: list[str]) -> None:
        words = [w for word in words for w in word.split("=") if w]
        if not words:
            held = self.conversation.settings()
            held.pop("on_progress", None)
            self._table({k: str(v) for k, v in held.items()})
        elif len(words) == 2:
            self._notice(self.conversation.set(words[0], words[1]))
        else:
            raise ChatError("/set takes a key and a value.", "for example: /set temp 0.5")

    def _do_save(self, words: list[str]) -> None:
        self.conversation.save()
        self._notice("stored on the device")

    def _do_stats(self, words: list[str]) -> None:
        replies = self.conversation.replies
        if not replies or replies[-1].stats is None:
            raise ChatError("There was no reply yet.", "")
        rows = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in vars(replies[-1].stats).items()}
        link = self.conversation.device.session.stats
        rows["line"] = f"{link.damaged} frames damaged, {link.retries} requests repeated, {link.reconnects} reconnects"
        self._table(rows)

    def _do_info(self, words: list[str]) -> None:
        self.conversation.info = self.conversation.device.info()
        self._table(report.info(self.conversation.info))

    def _do_help(self, words: list[str]) -> None:
        self._table(COMMANDS)
        self._notice(
            "keys for /set: " + ", ".join(k for k in [*KEYS, *DEVICE_KEYS] if k not in ("temperature", "max-tokens"))
        )
        self._notice("Ctrl-C stops a reply, Ctrl-D leaves; arrow keys and Ctrl-R find earlier lines")

    def _table(self, rows: dict[str, str]) -> None:
        width = max(map(len, rows))
        for key, value in rows.items():
            self._rich.print(f"  [bold]{escape(key):<{width + escape(key).count(chr(92))}}[/]  {escape(value)}")

    # ---- words ----------------------------------------------------------------------------------

    def _greet(self) -> None:
        info = self.conversation.info
        model = info.model or "no model"
        self._rich.print(
            f"[bold]{escape(model)}[/] on {escape(info.board)} ({escape(info.firmware)}): "
            f"{info.context} tokens of context, KV {info.kv_type}"
        )
        begin = "type how a story begins; an empty line tells on" if self.conversation.story else "type and press Enter"
        self._notice(f"{begin}; /help lists commands, Ctrl-C stops a reply, Ctrl-D leaves")
        if info.warning:
            self._warn(info.warning)
        if info.selfcheck:
            self._warn("the device's self-check failed: " + ", ".join(info.selfcheck))
        if info.model_state != "ready":
            self._warn("there is no model that could answer: tinychat upload model.tlm")

    def _notice(self, text: str) -> None:
        self._status.clear()
        self._rich.print(f"[dim]{escape(text)}[/]")

    def _warn(self, text: str) -> None:
        self._status.clear()
        self._rich.print(f"[yellow]{escape(text)}[/]")

    def _error(self, err: ChatError) -> None:
        self._status.clear()
        self._rich.print(f"[red]{escape(err.message)}[/]")
        if err.hint:
            self._notice(err.hint)

    def _log(self, level: int, text: str) -> None:
        if level <= LogLevel.WARNING:
            self._warn(f"device: {text}")

    def _lines(self) -> Iterator[str]:
        """Typed lines, with editing and history where the terminal can."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import FileHistory, InMemoryHistory

        path = history_path()
        words = [c.split()[0] for c in COMMANDS] + [f"/set {k}" for k in [*KEYS, *DEVICE_KEYS]]
        session: PromptSession[str] = PromptSession(
            history=FileHistory(str(path)) if path else InMemoryHistory(),
            completer=WordCompleter(words, sentence=True),
            complete_while_typing=False,
        )
        while True:
            try:
                yield session.prompt("> ")
            except KeyboardInterrupt:
                self._notice("Ctrl-D leaves")
            except EOFError:
                return
