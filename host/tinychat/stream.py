"""One reply as the line delivers it: tokens in order without gaps, or a clear error."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

from .errors import ChatError, LinkTimeoutError
from .protocol import BY_NAME, Error, Reason
from .session import RETRY_S, Session
from .wire import Packet

GAP_S = 0.3  # a gap may be a frame that comes late: asked for again no more often than this
MAX_RESTARTS = 20
STALL_S = 180.0  # a device that is alive, but adds nothing to the reply
REST_STALL_S = 30.0  # likewise when the reply is complete there, and only has to be sent again
AHEAD_LIMIT = 4096  # tokens kept beyond a gap


class ReplyStream:
    """Runs one `generate`: iterate it for `token` packets, then read `done`.

    `stop()` may be called at any time, from a signal handler too: it only raises a flag.

    Args:
        session: a greeted session.
        values: fields of `generate`.
        on_progress: gets `accepted` and `progress` packets.
    """

    def __init__(
        self, session: Session, values: dict[str, Any], on_progress: Callable[[Packet], None] | None = None
    ) -> None:
        self.session = session
        self.accepted: Packet | None = None
        self.done: Packet | None = None
        self.tokens = 0
        self._values = values
        self._on_progress = on_progress or (lambda packet: None)
        self._ahead: dict[int, Packet] = {}
        self._crc = 0
        self._want_stop = False
        self._stop_request: int | None = None
        self._resend_request: int | None = None
        self._restarts = 0
        self._request: int | None = None

    def stop(self) -> None:
        """Asks for the end of the reply; what was generated until then still arrives."""
        self._want_stop = True

    @property
    def begun(self) -> bool:
        """True once the request was sent."""
        return self._request is not None

    @property
    def restarts_left(self) -> int:
        """How often the request may still be sent anew."""
        return MAX_RESTARTS - self._restarts

    @property
    def heard(self) -> bool:
        """True when the device has begun the reply: `accepted` came, or what follows it."""
        return self.accepted is not None or self.tokens > 0 or bool(self._ahead) or self.done is not None

    def again(self) -> ReplyStream:
        """The same request as a new one, on a line that was mended. Only for a stream that was not heard."""
        fresh = ReplyStream(self.session, self._values, self._on_progress)
        fresh._restarts, fresh._want_stop = self._restarts + 1, self._want_stop
        return fresh

    def __iter__(self) -> Iterator[Packet]:
        """Sends the request at the first step, and yields tokens until `done` has come."""
        if self._request is None:
            self._restart()
        while True:
            while self.tokens in self._ahead:
                packet = self._ahead.pop(self.tokens)
                self._crc = zlib.crc32(packet.text, self._crc)
                self.tokens += 1
                yield packet
            if self.done is not None and self.tokens >= self.done.tokens:
                break
            self._step()
        if zlib.crc32(self.done.text, self._crc) != self.done.text_crc:
            raise ChatError("The reply did not arrive as the device sent it (checksum).", "say it again")

    # ---- steps ----------------------------------------------------------------------------------

    def _restart(self) -> None:
        self._request, self._session_number = self.session.post("generate", **self._values), self.session.number
        self._heard = self._moved = self._asked = self.session.clock.now()

    def _step(self) -> None:
        if self._want_stop and self._stop_request is None:
            self._stop_request = self.session.post("stop")
        packet = self.session.receive()
        now = self.session.clock.now()
        if packet is None:
            self._on_silence(now)
        elif packet.request == self._request:
            self._heard = now
            self._on_own(packet, now)
        elif packet.name == "error":
            self._on_other_error(packet)
        elif packet.name == "pong":
            self._heard = now
        limit = STALL_S if self.done is None else REST_STALL_S
        if now - self._moved > limit:
            raise LinkTimeoutError(f"The device added nothing to its reply for {limit:g} s.", "stop it, or reset it")

    def _on_own(self, packet: Packet, now: float) -> None:
        if packet.name == "error":
            if packet.code == Error.STALE and self.accepted is not None:
                return  # a copy of our request arrived late
            if packet.code == Error.SESSION and self._session_number != self.session.number and not self.heard:
                self._restart()
                return
            raise self.session.fault(packet)
        if self._is_new(packet):
            self._moved = now
            if packet.name in ("accepted", "progress"):
                self._on_progress(packet)
        gap = self.tokens not in self._ahead and (self._ahead or (self.done and self.tokens < self.done.tokens))
        if gap and now - self._asked > GAP_S:
            self._ask_again(now)

    def _is_new(self, packet: Packet) -> bool:
        """Keeps a packet of the reply. False for a copy of what was here before."""
        if packet.name == "accepted":
            first, self.accepted = self.accepted is None, packet
        elif packet.name == "token":
            first = self.tokens <= packet.index < self.tokens + AHEAD_LIMIT and packet.index not in self._ahead
            if first:
                self._ahead[packet.index] = packet
        elif packet.name == "done":
            first, self.done = self.done is None, packet
        else:
            first = packet.name == "progress"
        return first

    def _on_other_error(self, packet: Packet) -> None:
        if packet.code == Error.SESSION:
            raise self.session.fault(packet)
        if packet.code == Error.NOTHING and packet.request in (self._resend_request, self._stop_request):
            self._on_nothing(packet.request == self._stop_request)

    def _on_nothing(self, stopping: bool) -> None:
        """The device knows no running reply: either ours never reached it, or it is over and `done` was lost."""
        if self.heard:
            if not stopping:
                raise ChatError("The device no longer has the rest of this reply.", "say it again")
            self._ask_again(self.session.clock.now())
        elif self._want_stop:
            self._give_up_unheard()
        elif self._restarts == MAX_RESTARTS:
            raise LinkTimeoutError("The request does not get through to the device.", "check the cable")
        else:
            self._restarts += 1
            self._restart()

    def _give_up_unheard(self) -> None:
        """Stopped before the request ever arrived: an empty reply."""
        values: dict[str, Any] = dict.fromkeys((f.name for f in BY_NAME["done"].fields), 0)
        values |= {"reason": Reason.STOPPED, "position": None, "text": b""}
        self.done = Packet("done", 0, 0, values)

    def _on_silence(self, now: float) -> None:
        if now - self._heard > self.session.patience:
            raise LinkTimeoutError(
                f"The device fell silent in the middle of a reply ({self.session.patience:g} s).",
                "unplug it, plug it in and try again",
            )
        if now - max(self._asked, self._moved) > RETRY_S:
            self._ask_again(now)

    def _ask_again(self, now: float) -> None:
        """Asks for what is missing, in the way that can not start a second reply."""
        self._asked = now
        assert self._request is not None
        if self.accepted is None and self.session.last_request == self._request:
            self.session.post_again(self._request, "generate", **self._values)
            return
        self.session.stats.retries += 1
        self._resend_request = self.session.post("resend", reply=self._request, first=self.tokens)
        self.session.post("ping", data=b"")
        if self._want_stop and self.done is None:
            self._stop_request = None  # the stop may have been lost as well
