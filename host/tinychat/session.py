"""Requests and answers over a line that may lose, double or garble bytes, or break and come back.

A `Session` knows frames, request numbers, timeouts and the greeting; what a reply or an upload is stands in
`stream.py` and `upload.py`. Every wait is bounded: an answer, or a `ChatError`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import faults
from .errors import ChatError, DeviceError, LinkLostError, LinkTimeoutError, VersionError, WrongFirmwareError
from .protocol import VERSION_MAJOR, VERSION_MINOR, Error
from .transport import Transport
from .wire import Damaged, Deframer, Packet, Text, encode

SLICE_S = 0.1  # longest single read: how late a stop or a deadline is noticed
FRAME_GAP_S = 0.5  # silence after which a frame that began is given up
RETRY_S = 1.0  # silence after which a request is sent again
PATIENCE_S = 15.0  # silence after which the device is given up
HELLO_S = 8.0  # a board that resets when its port is opened has booted by then
RECONNECT_S = 15.0


class SessionOverError(ChatError):
    """The device rebooted, or another host took it over: say hello again."""

    code = "session"


class Clock:
    """Time, replaced in tests by one that does not wait."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


@dataclass
class LinkStats:
    """What went wrong on the line so far, and was mended."""

    damaged: int = 0
    retries: int = 0
    reconnects: int = 0


def host_name() -> str:
    """Name and version of this program, for the device's log."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"tinychat {version('tinyexport')}"
    except PackageNotFoundError:
        return "tinychat"


class Session:
    """A greeted line to one device.

    Args:
        transport: an open line; closed by `close`.
        clock: where time comes from.
        patience: seconds of silence after which requests fail with `LinkTimeoutError`.
    """

    def __init__(self, transport: Transport, clock: Clock | None = None, patience: float = PATIENCE_S) -> None:
        self.transport = transport
        self.clock = clock or Clock()
        self.patience = patience
        self.stats = LinkStats()
        self.on_log: Callable[[int, str], None] = lambda level, text: None
        self.on_text: Callable[[bytes], None] = lambda data: None
        self.welcome: Packet | None = None
        self._number = 0  # of the session; 0 before the greeting
        self._hello = 0  # request number of the last hello
        self._request = 0
        self._deframer = Deframer()
        self._inbox: deque[Packet] = deque()
        self._last_byte = self.clock.now()

    # ---- greeting -------------------------------------------------------------------------------

    def connect(self, timeout: float = HELLO_S) -> Packet:
        """Says hello until `welcome` comes. Raises `WrongFirmwareError`, `VersionError` or `LinkLostError`."""
        heard: list[bytes] = []
        on_text, self.on_text = self.on_text, heard.append
        self._number, self._request = 0, 0
        self._inbox.clear()
        try:
            self.welcome = self._greet(timeout)
        except LinkTimeoutError:
            raise self._silent(b"".join(heard)) from None
        except SessionOverError as err:
            raise LinkTimeoutError("The device ends each session at once.", "unplug it and plug it in again") from err
        finally:
            self.on_text = on_text
            if heard:
                on_text(b"".join(heard))
        self._number, self._hello = self.welcome.session, self.welcome.request
        waiting, self._inbox = self._inbox, deque()
        for packet in waiting:
            self._sort(packet)
        return self.welcome

    def _greet(self, timeout: float) -> Packet:
        values: dict[str, Any] = {"major": VERSION_MAJOR, "minor": VERSION_MINOR, "host": host_name()}
        try:
            welcome = self.call("hello", "welcome", retry=0.5, patience=timeout, **values)
        except DeviceError as err:
            if err.number == Error.VERSION:
                raise version_error(err.detail) from None
            raise
        if welcome.major != VERSION_MAJOR:
            raise version_error(welcome.major)
        return welcome

    def _silent(self, heard: bytes) -> WrongFirmwareError:
        lines = heard.decode("utf-8", "replace").strip().splitlines()
        shown = "".join(c if c.isprintable() else "?" for c in lines[-1].strip()[:60]) if lines else ""
        hint = "flash it: tinychat flash --board cardputer; or press its reset button and try again"
        if not shown:
            return WrongFirmwareError(f"{self.transport.name} is open, but nothing answers there.", hint)
        return WrongFirmwareError(f"{self.transport.name} does not run tinychat's firmware: it says '{shown}'.", hint)

    def reconnect(self, timeout: float = RECONNECT_S) -> Packet:
        """Opens the line again and says hello, trying for `timeout` seconds. Raises the last error."""
        deadline = self.clock.now() + timeout
        self.stats.reconnects += 1
        while True:
            try:
                self.transport.reopen()
                self._deframer = Deframer()
                return self.connect(max(1.0, min(HELLO_S, deadline - self.clock.now())))
            except VersionError:
                raise
            except ChatError:
                if self.clock.now() + 0.5 >= deadline:
                    raise
            self.clock.sleep(0.5)

    def close(self) -> None:
        """Releases the line."""
        self.transport.close()

    # ---- packets --------------------------------------------------------------------------------

    def post(self, name: str, **values: Any) -> int:
        """Sends a request without waiting. Returns its number."""
        self._request = self._request % 0xFFFF + 1
        self.transport.write(encode(name, self._number, self._request, **values))
        return self._request

    def post_again(self, request: int, name: str, **values: Any) -> None:
        """Sends a request a second time under its number: safe, the device does not do it twice."""
        self.stats.retries += 1
        self.transport.write(encode(name, self._number, request, **values))

    @property
    def number(self) -> int:
        """Number of the session; a late answer to a hello that was sent twice may change it."""
        return self._number

    @property
    def last_request(self) -> int:
        """Number of the newest request."""
        return self._request

    def receive(self, timeout: float = SLICE_S) -> Packet | None:
        """The next packet of this session, or None when none came within `timeout` seconds."""
        deadline = self.clock.now() + timeout
        while not self._inbox:
            wait = deadline - self.clock.now()
            if wait < 0:
                return None
            self._read(min(wait, SLICE_S))
            if self.clock.now() >= deadline and not self._inbox:
                return None
        return self._inbox.popleft()

    def _read(self, timeout: float) -> None:
        data = self.transport.read(timeout)
        now = self.clock.now()
        if data:
            self._last_byte = now
            for item in self._deframer.feed(data):
                self._sort(item)
        elif now - self._last_byte > FRAME_GAP_S:
            for item in self._deframer.flush():
                self._sort(item)

    def _sort(self, item: Packet | Text | Damaged) -> None:
        if isinstance(item, Text):
            self.on_text(item.data)
        elif isinstance(item, Damaged):
            self.stats.damaged += 1
        elif item.name == "log":
            self.on_log(item.level, item.text)
        elif item.name == "welcome" and self._number:
            if item.request == self._hello:
                self._number = item.session  # a hello sent twice was answered twice: the last session holds
        elif item.session == self._number or item.name in ("welcome", "error"):
            self._inbox.append(item)

    # ---- requests -------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        answer: str = "ok",
        *,
        retry: float = RETRY_S,
        patience: float | None = None,
        on_event: Callable[[Packet], None] | None = None,
        **values: Any,
    ) -> Packet:
        """Sends a request until `answer` comes.

        Args:
            name: of the request.
            answer: name of the message that ends it.
            retry: seconds of silence after which it is sent again.
            patience: seconds of silence after which it fails; events of this request start the count anew.
            on_event: gets the other messages that carry its number.

        Raises:
            DeviceError: the device said no.
            SessionOverError: the device rebooted or another host took it.
            LinkTimeoutError, LinkLostError: the line.
        """
        patience = self.patience if patience is None else patience
        request, number = self.post(name, **values), self._number
        heard = sent = self.clock.now()
        while True:
            packet = self.receive()
            now = self.clock.now()
            if packet is not None and packet.request == request:
                if packet.name == answer:
                    return packet
                if packet.name == "error" and packet.code == Error.SESSION and number != self._number:
                    # Sent under the first of two sessions that one hello, sent twice, had opened.
                    request, number = self.post(name, **values), self._number
                elif packet.name == "error":
                    raise self.fault(packet)
                heard = sent = now
                if on_event:
                    on_event(packet)
            elif now - heard > patience:
                raise LinkTimeoutError(
                    f"The device does not answer ({name}, {patience:g} s).", "unplug it, plug it in and try again"
                )
            elif now - sent > retry:
                self.post_again(request, name, **values)
                sent = now

    def fault(self, packet: Packet) -> ChatError:
        """The exception for an `error` message."""
        if packet.code == Error.SESSION:
            return SessionOverError("The device restarted, or another program took it over.")
        return faults.from_packet(packet)

    def call_steadily(self, name: str, answer: str = "ok", **values: Any) -> Packet:
        """Like `call`, and says hello again when the session is over: for requests that only read or set a state."""
        try:
            return self.call(name, answer, **values)
        except SessionOverError:
            self.connect()
        except LinkLostError:
            self.reconnect()
        try:
            return self.call(name, answer, **values)
        except SessionOverError as err:
            raise LinkTimeoutError("Another program keeps taking the device over.", "close it") from err


def version_error(device_major: int) -> VersionError:
    """The words for a device that speaks another major version."""
    sentence = f"The firmware speaks version {device_major} of the protocol, this tinychat speaks {VERSION_MAJOR}."
    if device_major > VERSION_MAJOR:
        return VersionError(sentence, "update tinychat: pip install -U tinyexport")
    return VersionError(sentence, "flash the newer firmware: tinychat flash --board cardputer")
