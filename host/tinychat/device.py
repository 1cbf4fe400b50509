"""The Python API: one device, whatever it is connected by.

from tinychat import Device

with Device.open("auto") as device:          # or "/dev/ttyACM0", "COM3", "socket://host:port", "sim:model.tlm"
    for token in device.chat("Hello!", temperature=0.7, seed=1):
        print(token.text, end="", flush=True)
    print(device.last.stats.decode_tok_s)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from .errors import ChatError, DeviceError, LinkLostError, LinkTimeoutError, NoModelError
from .faults import UPLOAD_HINT, make
from .kv import kv_name
from .protocol import ANY_POSITION, AUTO, MAX_PAYLOAD, Error, GenerateFlag, Mode, ModelState, SettingsField
from .reply import Info, Reply
from .session import Clock, Session, SessionOverError
from .settings import FLOATS, MODES, SAMPLING, checked, setting_names, shortest, wire_value
from .stream import ReplyStream
from .transport import SimOptions, Transport, open_transport
from .upload import Progress, Upload, read_blob
from .wire import Packet

GENERATE_BYTES = 64  # of a `generate` without grammar and text, header included


@dataclass(frozen=True)
class BenchRow:
    """One number that a device measured."""

    name: str
    value: float
    unit: str
    note: str


class ConversationLostError(ChatError):
    """The device holds another conversation than the host believes: it restarted, or somebody used its keys."""

    code = "conversation"


class Device:
    """A connected device. Not for use by several threads at once; `Reply.stop()` is the exception.

    Attributes:
        session: the line below, with its statistics and the hooks `on_log` and `on_text`.
        last: the latest reply.
    """

    def __init__(self, transport: Transport, clock: Clock | None = None, **session_options: Any) -> None:
        """Says hello over an open transport. Most callers want `Device.open`."""
        self.session = Session(transport, clock, **session_options)
        self.last: Reply | None = None
        self._settings: dict[str, Any] | None = None
        try:
            self._expect = int(self.session.connect().position)
        except BaseException:
            self.session.close()
            raise

    @classmethod
    def open(cls, target: str = "auto", sim: SimOptions | None = None) -> Device:
        """Connects to a device.

        Args:
            target: `auto` (the one board on USB), a port name, `socket://host:port`, or `sim:BLOB`.
            sim: how the simulator stands in for a board.

        Raises:
            ChatError: one of its children, with a sentence and a hint.
        """
        return cls(open_transport(target, sim))

    def close(self) -> None:
        """Lets go of the line. A simulator ends."""
        self.session.close()

    def __enter__(self) -> Device:
        """Returns itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Closes."""
        self.close()

    # ---- talking --------------------------------------------------------------------------------

    def chat(self, text: str, **options: Any) -> Reply:
        """A turn of the conversation: the model's template is applied and the history kept on the device.

        Args:
            text: the user's words.
            options: any of temperature, top_k, top_p, min_p, repeat_penalty, repeat_window, max_tokens, seed;
                true_logprob=True for log-probabilities over the whole vocabulary; ignore_stop=True; special=True to
                match special tokens in a prompt for `generate`; on_progress=f; grammar=bytes of `tinyexport.grammar`,
                which the reply then follows.
                What is not given is as in `settings`; without a seed the device draws one.

        Returns:
            The reply: iterate it for tokens, or call `.wait()`. The request is sent with the first step of that.

        Raises:
            NoModelError: there is no model. Other errors come while the reply is iterated.
        """
        self._settle()
        return self._generate(Mode.CHAT, text, self._expect, options)

    def generate(self, prompt: str, **options: Any) -> Reply:
        """Continues `prompt` as it is, in an empty context: no template, no history. Options as for `chat`."""
        self._settle()
        return self._generate(Mode.RAW, prompt, ANY_POSITION, options)

    def stop(self) -> None:
        """Asks the reply under way to end; safe in a signal handler."""
        if self.last is not None:
            self.last.stop()

    def reset(self) -> None:
        """A new conversation."""
        self._settle()
        self.session.call_steadily("reset")
        self._expect = 0

    @property
    def position(self) -> int | None:
        """Tokens in the device's context after the last reply; None when it is not known."""
        return None if self._expect == ANY_POSITION else self._expect

    def _generate(self, mode: Mode, text: str, expect: int, options: dict[str, Any]) -> Reply:
        self._check_model()
        options = dict(options)
        grammar = options.pop("grammar", None) or b""
        values = {"mode": mode, "expect": expect, "grammar": grammar, "text": text, **self._sampling(dict(options))}
        limit = self.session.welcome.max_text if self.session.welcome else 1024
        if len(text.encode("utf-8", "surrogateescape")) > limit:
            raise make(Error.TOO_LONG, limit, f"the text is longer than the {limit} bytes that the device takes")
        room = MAX_PAYLOAD - GENERATE_BYTES - len(text.encode("utf-8", "surrogateescape"))
        if len(grammar) > room:
            raise make(Error.TOO_LONG, room, f"grammar and text are {len(grammar) - room} bytes too long for a request")
        stream = ReplyStream(self.session, values, options.get("on_progress"))
        self.last = Reply(stream, self._ended, self._recover)
        return self.last

    def _settle(self) -> None:
        """Ends a reply that was left half read: the device does one thing at a time."""
        last, self.last = self.last, None
        if last is None or last.ended or not last.begun:
            return
        last.stop()
        with contextlib.suppress(ChatError):
            last.wait()
        if not last.ended:  # it was interrupted while it waited, and can not go on
            self._expect = ANY_POSITION
            with contextlib.suppress(DeviceError):
                self.session.call("stop")

    def _check_model(self) -> None:
        welcome = self.session.welcome
        if welcome is None or welcome.model_state == ModelState.READY:
            return
        if welcome.model_state == ModelState.UNUSABLE:
            why = make(welcome.model_error)
            reason = f"The model on the device can not be used: {why.message[:1].lower()}{why.message[1:]}"
            raise NoModelError(reason, why.hint or UPLOAD_HINT)
        raise make(Error.NO_MODEL, 0, "there is no model on the device")

    def _sampling(self, options: dict[str, Any]) -> dict[str, Any]:
        """Sampling fields of `generate`: the given ones over the device's settings."""
        options.pop("on_progress", None)
        seed = options.pop("seed", None)
        flags = GenerateFlag(0)
        if seed is None:
            flags |= GenerateFlag.RANDOM_SEED
        if options.pop("true_logprob", False):
            flags |= GenerateFlag.TRUE_LOGPROB
        if options.pop("special", False):
            flags |= GenerateFlag.SPECIAL
        if options.pop("ignore_stop", False):
            flags |= GenerateFlag.IGNORE_STOP
        given = {name: checked(name, value) for name, value in options.items() if value is not None}
        unknown = given.keys() - set(SAMPLING)
        if unknown:
            raise ChatError(f"'{min(unknown)}' is not a sampling option.", "known: seed, " + ", ".join(SAMPLING))
        base: Mapping[str, Any] = dict.fromkeys(SAMPLING, 0)
        if given:
            base = self.settings
        else:
            flags |= GenerateFlag.DEFAULTS
        return {"flags": flags, "seed": (seed or 0) & (2**64 - 1), **{n: given.get(n, base[n]) for n in SAMPLING}}

    def _ended(self, reply: Reply) -> None:
        position = reply.stats.position if reply.stats else None
        self._expect = ANY_POSITION if position is None else position

    def _recover(self, reply: Reply, stream: ReplyStream, err: ChatError) -> ReplyStream:
        """Mends the line after a failed reply. Begins it anew where nothing was lost, else says what was."""
        if isinstance(err, (LinkLostError, SessionOverError)):
            return self._begin_again(reply, stream, err)
        if getattr(err, "number", 0) == Error.CONVERSATION:
            self._expect = getattr(err, "detail", 0)
            raise ConversationLostError(
                "The device's conversation is not the one we were in: it restarted, or somebody used its keys.",
                "say it again to go on from there, or start a new one with /new",
            ) from err
        raise err

    def _begin_again(self, reply: Reply, stream: ReplyStream, err: ChatError) -> ReplyStream:
        count = len(reply.tokens)
        arrived = f"{count} token{'' if count == 1 else 's'} of its reply had arrived"
        before = self._expect
        try:
            welcome = self.session.connect() if isinstance(err, SessionOverError) else self.session.reconnect()
        except ChatError as again:
            raise LinkLostError(
                f"The device was lost in the middle of a reply ({arrived}) and is not back.", again.hint or err.hint
            ) from err
        self._expect, self._settings = int(welcome.position), None
        if not stream.heard and self._expect < before != ANY_POSITION:
            raise ConversationLostError(
                "The device restarted since its last reply: the conversation is lost.", "say it again in a new one"
            ) from err
        if not stream.heard and before in (self._expect, ANY_POSITION) and stream.restarts_left:
            return stream.again()
        if before == 0:
            kept = "nothing else was lost"
        else:
            kept = "the conversation is lost" if self._expect < before else "the conversation before it is kept"
        raise LinkLostError(
            f"The device was lost in the middle of a reply and is back: {arrived}, {kept}.", "say it again"
        ) from err

    # ---- facts and settings ---------------------------------------------------------------------

    def info(self) -> Info:
        """What the device says about itself."""
        return Info.from_packet(self.session.call_steadily("info", "info_is"))

    def ping(self) -> float:
        """Round trip in seconds."""
        begun = self.session.clock.now()
        self.session.call_steadily("ping", "pong", data=b"tinychat")
        return self.session.clock.now() - begun

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in force on the device, by name; read once, then kept until `set` or `forget`."""
        if self._settings is None:
            self._settings = self._named(self.session.call_steadily("settings_get", "settings"))
        return dict(self._settings)

    def set(self, **changes: Any) -> dict[str, Any]:
        """Changes settings and stores them on the device. Returns all of them.

        Args:
            changes: sampling names, mode ("chat", "raw"), kv_type ("f32", "f16", "i8", "i4", "i4/2",
                "auto"), context (0 = the most that fits), brightness (percent), echo.
        """
        self._settle()
        current = self.settings
        mask = SettingsField(0)
        for name, value in changes.items():
            if name.upper() not in SettingsField.__members__:
                raise ChatError(f"'{name}' is not a setting.", "known: " + ", ".join(setting_names()))
            mask |= SettingsField[name.upper()]
            current[name] = checked(name, value)
        values = {n: wire_value(n, current[n]) for n in setting_names()}
        return self._changed(mask, self.session.call_steadily("settings_set", "settings", mask=mask, **values))

    def forget(self, *names: str) -> dict[str, Any]:
        """Takes settings back to the model's and the board's defaults; all of them without names."""
        mask = SettingsField(0)
        for name in names or setting_names():
            mask |= SettingsField[name.upper()]
        return self._changed(mask, self.session.call_steadily("settings_forget", "settings", mask=mask))

    def _changed(self, mask: SettingsField, packet: Packet) -> dict[str, Any]:
        """What now holds. With another cache the model was opened anew: an empty context, or one that now fits."""
        self._settings = self._named(packet)
        if mask & (SettingsField.KV_TYPE | SettingsField.CONTEXT):
            self._expect = int(self.session.connect().position)
        return dict(self._settings)

    def _named(self, packet: Packet) -> dict[str, Any]:
        values = {n: shortest(packet.values[n]) if n in FLOATS else packet.values[n] for n in setting_names()}
        values["mode"] = MODES[packet.mode] if packet.mode < len(MODES) else packet.mode
        values["kv_type"] = "auto" if packet.kv_type == AUTO else kv_name(packet.kv_type)
        values["stored"] = bool(packet.stored)
        return values

    # ---- model, measurements, restart -----------------------------------------------------------

    def upload(self, path: str, progress: Progress | None = None, slot: int = AUTO) -> None:
        """Replaces the model by the blob at `path`: sent, verified, activated; resumes where a break left it.

        Args:
            path: of a .tlm file.
            progress: called with (stage, bytes done, bytes in all); stages: send, verify, activate, reconnect.
            slot: where to; AUTO lets the device choose.

        Raises:
            BlobFileError: the file is missing or damaged. DeviceError: the device refuses it; the old model stays
            where the device has two slots.
        """
        upload = Upload(self.session, read_blob(path), slot, progress)
        self._settle()
        upload.run()
        self._expect, self._settings = int(self.session.connect().position), None

    def bench(self, argument: int = 0) -> Iterator[BenchRow]:
        """Runs the board's own measurements, one after the other, and yields their numbers."""
        self._settle()
        for which in range(self.info().benches):
            rows: dict[str, BenchRow] = {}  # by name: a repeated answer changes nothing
            self.session.call(
                "bench",
                retry=30.0,  # a measurement does not look at the line while it runs, and one sent twice runs twice
                patience=120.0,
                on_event=partial(_keep_row, rows),
                which=which,
                argument=argument,
            )
            yield from rows.values()

    def reboot(self, timeout: float = 30.0) -> None:
        """Restarts the device and waits until it is back. Its settings and model stay, the conversation does not."""
        clock = self.session.clock
        self.session.call_steadily("reboot")
        deadline = clock.now() + timeout
        while clock.now() < deadline:
            clock.sleep(0.2)
            try:
                self.session.call("ping", "pong", patience=1.0, data=b"")
            except LinkTimeoutError:
                continue  # not there yet
            except ChatError:
                break  # the session or the line is gone: it restarted
        try:
            welcome = self.session.connect()
        except ChatError:
            welcome = self.session.reconnect(timeout)
        self._expect, self._settings = int(welcome.position), None


def _keep_row(rows: dict[str, BenchRow], packet: Packet) -> None:
    if packet.name == "bench_row":
        v = packet.values
        rows[v["name"]] = BenchRow(v["name"], v["value"], v["unit"], v["note"])
