"""Sends a blob into a device's model store: windowed, resumed after a break, verified, activated."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

from .errors import BlobFileError, LinkLostError, LinkTimeoutError
from .protocol import AUTO, MAX_CHUNK, Error
from .session import RETRY_S, Session, SessionOverError
from .transport_sim import check_blob_file
from .wire import Packet

SLOW_RETRY_S = 5.0  # erasing and loading take seconds on a chip: asking again sooner only adds work
BEGIN_PATIENCE_S = 60.0  # a slot may be erased first
VERIFY_PATIENCE_S = 60.0  # between two `progress` messages
MAX_BREAKS = 8  # reconnects in a row that brought nothing forward

#: Called with (stage, bytes done, bytes in all); stages are send, verify, activate, reconnect.
Progress = Callable[[str, int, int], None]


class Upload:
    """One upload. `run()` does it all; after an exception a new `Upload` of the same blob goes on where it stopped."""

    def __init__(self, session: Session, blob: bytes, slot: int = AUTO, progress: Progress | None = None) -> None:
        self._session = session
        self._blob = blob
        self._slot = slot
        self._sha256 = hashlib.sha256(blob).digest()
        self._progress = progress or (lambda stage, done, of: None)
        self._chunk = self._window = MAX_CHUNK
        self._best = 0
        self.resumed_at = 0

    def run(self) -> None:
        """Uploads, verifies and activates. Raises `DeviceError` when the device refuses the blob."""
        breaks = 0
        while True:
            before = self._best
            try:
                self._attempt()
                return
            except (SessionOverError, LinkLostError) as err:
                breaks = 0 if self._best > before else breaks + 1
                if breaks > MAX_BREAKS:
                    raise LinkTimeoutError(
                        "The connection breaks again and again; the upload can be resumed.", "check cable and power"
                    ) from err
                self._progress("reconnect", self._best, len(self._blob))
                self._mend(isinstance(err, LinkLostError))

    def _mend(self, line_lost: bool) -> None:
        try:
            if line_lost:
                self._session.reconnect()
            else:
                self._session.connect()
        except LinkLostError:
            self._session.reconnect()

    def _attempt(self) -> None:
        begun = self._session.call(
            "upload_begin",
            "upload_is",
            retry=SLOW_RETRY_S,
            patience=BEGIN_PATIENCE_S,
            slot=self._slot,
            size=len(self._blob),
            sha256=self._sha256,
        )
        if not self._best:
            self.resumed_at = self._best = begun.offset
        limit = self._session.welcome.max_payload if self._session.welcome else MAX_CHUNK
        self._chunk = max(16, min(MAX_CHUNK, limit - 16) // 16 * 16)
        self._window = max(self._chunk, begun.window)
        self._send(begun.offset)
        self._session.call("upload_verify", retry=SLOW_RETRY_S, patience=VERIFY_PATIENCE_S, on_event=self._verifying)
        self._progress("activate", len(self._blob), len(self._blob))
        self._session.call("upload_activate", retry=SLOW_RETRY_S, patience=VERIFY_PATIENCE_S)

    def _verifying(self, packet: Packet) -> None:
        if packet.name == "progress":
            self._progress("verify", packet.at, packet.of)

    def _send(self, offset: int) -> None:
        """Sends from `offset` to the end; an acknowledgement always names the offset reached."""
        size, clock = len(self._blob), self._session.clock
        acked, sent = offset, offset
        turned = 0  # number of the first request after the last step back: older complaints are settled
        heard = asked = clock.now()
        self._progress("send", acked, size)
        while acked < size:
            while sent < size and sent + min(self._chunk, size - sent) - acked <= self._window:
                turned = turned or self._session.last_request + 1
                sent += self._send_chunk(sent)
            packet = self._session.receive()
            now = clock.now()
            if packet is None:
                if now - heard > self._session.patience:
                    raise LinkTimeoutError(
                        f"The device fell silent during the upload at byte {acked}.",
                        "run the command again: it resumes",
                    )
                if now - max(asked, heard) > RETRY_S:
                    asked, sent, turned = now, acked, 0
                    self._session.stats.retries += 1
                continue
            reached = self._reached(packet, turned)
            if reached is None:
                continue
            heard = now
            if packet.name == "error":
                acked = sent = reached
                turned = 0
            elif reached > acked:
                acked = reached
                sent = max(sent, acked)
            self._best = max(self._best, acked)
            self._progress("send", acked, size)

    def _send_chunk(self, offset: int) -> int:
        data = self._blob[offset : offset + self._chunk]
        self._session.post("upload_chunk", offset=offset, crc=zlib.crc32(data), data=data)
        return len(data)

    def _reached(self, packet: Packet, turned: int) -> int | None:
        """The offset that an answer names; None when it says nothing new. Raises on a refusal."""
        if packet.name == "upload_is":
            return int(packet.offset)
        if packet.name != "error":
            return None
        if packet.code == Error.SESSION:
            raise self._session.fault(packet)
        late = (packet.request - turned) % 0x10000 >= 0x8000
        if packet.code == Error.STORE_OFFSET:
            return None if late else int(packet.detail)
        if packet.code in (Error.STORE_CRC, Error.STALE):
            return None  # the chunk after it will complain about the gap, or silence will
        raise self._session.fault(packet)


def read_blob(path: str) -> bytes:
    """The bytes of a .tlm file. Raises `BlobFileError` when it is missing or damaged."""
    check_blob_file(Path(path))
    blob = Path(path).read_bytes()
    if zlib.crc32(blob[8:]) != int.from_bytes(blob[4:8], "little"):
        raise BlobFileError(f"{path} is damaged (checksum).", "export or copy it again")
    return blob
