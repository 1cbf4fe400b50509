"""A small device in Python that speaks the protocol: what the real firmware does, without a model.

Its reply to a text is known beforehand (`reply_pieces`), so that a test can tell a right reply from a wrong one.
It runs in a test's own process (`FakeLink`, with time that does not pass) or as a program on stdin and stdout that
takes `tlm-sim`'s place (`python fake_device.py BLOB --option...`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import select
import struct
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinychat import wire
from tinychat.errors import LinkLostError
from tinychat.protocol import (
    ANY_POSITION,
    AUTO,
    ERROR_TEXT,
    VERSION_MAJOR,
    Error,
    GenerateFlag,
    ModelState,
    Reason,
    SettingsField,
    SlotState,
)
from tinychat.session import Clock
from tinychat.transport import Transport

CONTEXT = 128
WINDOW = 4096


def make_blob(bytes_: int = 20_000, seed: int = 1) -> bytes:
    """Bytes with a true header and checksum, as far as tinychat looks into a blob."""
    body = struct.pack("<HHII", 1, 0, bytes_, 3) + random.Random(seed).randbytes(bytes_ - 20)
    return struct.pack("<4sI", b"TLM\x1a", zlib.crc32(body)) + body


def reply_pieces(text: bytes, seed: int, position: int) -> list[bytes]:
    """Tokens of the reply: depends on everything that a real reply depends on."""
    rng = random.Random(hash((zlib.crc32(text), seed, position)))
    words = [b" sun", b" moon", b" the", b" caf\xc3\xa9", b" \xf0\x9f\x90\xb1", b" runs", b".", b"\n"]
    return [b" You", b" said"] + [rng.choice(words) for _ in range(rng.randrange(3, 20))]


@dataclass
class Running:
    """A reply under way or just ended."""

    request: int
    pieces: list[bytes]
    seed: int
    at: int = 0
    reason: int | None = None
    limit: int = 64
    dropped: int = 0


@dataclass
class FakeDevice:
    """State of the device; `feed` takes bytes in and `tick` does one step of work."""

    model: bytes | None = field(default_factory=make_blob)
    model_state: int | None = None
    model_error: int = 0
    major: int = VERSION_MAJOR
    story: bool = False
    endless: bool = False
    drop_next: int = 0
    step_s: float = 0.0
    boot_text: str = ""
    error_in_reply: int = 0
    verify_error: int = 0
    confidence: str = ""

    def __post_init__(self) -> None:
        self.boots = 0
        self.replies_begun = 0
        self.stored: dict[str, Any] = {}
        self.upload: tuple[int, bytes] | None = None
        self.flash = bytearray()
        self.verified = False
        self.output = bytearray()
        self.next_session = 1
        self.boot()

    def boot(self) -> None:
        """Power on: what lies in flash stays, everything else is new."""
        self.boots += 1
        self.uptime = 0
        self.session = 0
        self.hello_request = 0
        self.position = 0
        self.running: Running | None = None
        self.last: Running | None = None
        self.deframer = wire.Deframer()
        self.settings: dict[str, Any] = {
            "temperature": 0.7, "top_k": 40, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0, "repeat_window": 0,
            "max_tokens": 64, "mode": 0, "kv_type": AUTO, "context": 0, "brightness": 50, "echo": 1,
        } | self.stored  # fmt: skip
        self.output += self.boot_text.encode()

    @property
    def state(self) -> int:
        """`ModelState`."""
        if self.model_state is not None:
            return self.model_state
        return ModelState.READY if self.model is not None else ModelState.NONE

    # ---- in and out -----------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes from the host."""
        for item in self.deframer.feed(data):
            if isinstance(item, wire.Packet):
                self.handle(item)

    def take(self) -> bytes:
        """Bytes for the host."""
        data, self.output = bytes(self.output), bytearray()
        return data

    def send(self, name: str, request: int, /, **values: Any) -> None:
        self.output += wire.encode(name, self.session, request, **values)

    def refuse(self, packet: wire.Packet, code: int, detail: int = 0) -> None:
        self.send("error", packet.request, code=code, detail=detail, type=0, text=ERROR_TEXT.get(code, ""))

    def handle(self, packet: wire.Packet) -> None:
        if packet.name == "hello":
            self.hello(packet)
        elif packet.session != self.session or not self.session:
            self.refuse(packet, Error.SESSION)
        else:
            getattr(self, "do_" + packet.name)(packet)

    def hello(self, packet: wire.Packet) -> None:
        if packet.major != self.major:
            self.refuse(packet, Error.VERSION, self.major)
            return
        if self.running:
            self.finish(Reason.TAKEN)
        self.session, self.next_session = self.next_session, self.next_session % 0xFFFF + 1
        self.last = None
        self.send(
            "welcome", packet.request, major=self.major, minor=0, max_payload=2048, max_text=1536, window=WINDOW,
            model_state=self.state, model_error=self.model_error, selfcheck=0, position=self.position,
            firmware="fake 1.0", board="fake", model="fake" if self.model else "",
        )  # fmt: skip

    # ---- a reply --------------------------------------------------------------------------------

    def do_generate(self, p: wire.Packet) -> None:
        known = self.running or self.last
        if known and known.request == p.request:
            self.send_accepted(known)
            self.send_tokens(known, 0)
            return
        if self.running:
            self.refuse(p, Error.BUSY, self.running.request)
        elif self.last and (p.request - self.last.request) % 0x10000 > 0x8000:
            self.refuse(p, Error.STALE)
        elif self.state != ModelState.READY:
            self.refuse(p, Error.NO_MODEL)
        elif p.expect not in (ANY_POSITION, self.position):
            self.refuse(p, Error.CONVERSATION, self.position)
        elif len(p.text) > CONTEXT * 4:
            self.refuse(p, Error.PROMPT_TOO_LONG, len(p.text))
        else:
            self.begin(p)

    def begin(self, p: wire.Packet) -> None:
        self.replies_begun += 1
        self.prompt_tokens = len(p.text.split()) + 2
        self.cached = 0 if p.mode else self.position
        seed = 4242 if p.flags & GenerateFlag.RANDOM_SEED else p.seed
        pieces = reply_pieces(p.text, seed, self.cached)
        if self.endless:
            pieces = [b" on", b" and"] * 500
        limit = self.settings["max_tokens"] if p.flags & GenerateFlag.DEFAULTS else p.max_tokens
        self.running = Running(p.request, pieces, seed, limit=limit or 64, dropped=self.drop_next)
        self.send_accepted(self.running)
        self.send("progress", p.request, at=1, of=self.prompt_tokens)

    def send_accepted(self, r: Running) -> None:
        self.send(
            "accepted", r.request, prompt_tokens=self.prompt_tokens, cached_tokens=self.cached, dropped=r.dropped,
            reread_tokens=r.dropped * 9, seed=r.seed,
        )  # fmt: skip

    def tick(self) -> bool:
        """One step of work. True when there was any."""
        self.uptime += 1000
        r = self.running
        if r is None:
            return False
        if r.at < min(len(r.pieces), r.limit):
            r.at += 1
            self.send_token(r, r.at - 1)
        else:
            self.finish(Reason.LENGTH if r.at >= r.limit else Reason.STOP_ID)
        return True

    def send_token(self, r: Running, index: int) -> None:
        self.send(
            "token",
            r.request,
            index=index,
            id=100 + index,
            flags=1,
            logprob=-0.25,
            logprob_all=0.0,
            text=r.pieces[index],
        )

    def finish(self, reason: int) -> None:
        r, self.running = self.running, None
        assert r is not None
        r.reason = Reason.ERROR if self.error_in_reply else reason
        self.last = r
        self.position = self.cached + self.prompt_tokens + r.at
        self.send_done(r)

    def send_done(self, r: Running) -> None:
        self.send(
            "done",
            r.request,
            reason=r.reason,
            error=self.error_in_reply,
            tokens=r.at,
            text_crc=zlib.crc32(b"".join(r.pieces[: r.at])),
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached,
            dropped=r.dropped,
            reread_tokens=r.dropped * 9,
            position=self.position,
            context=CONTEXT,
            prefill_us=20_000,
            decode_us=1_000_000,
            first_token_us=25_000,
            logprob_mean=-0.25,
            logprob_min=-0.5,
            seed=r.seed,
            text=b"",
        )

    def send_tokens(self, r: Running, first: int) -> None:
        for index in range(first, r.at):
            self.send_token(r, index)
        if r.reason is not None:
            self.send_done(r)

    def do_resend(self, p: wire.Packet) -> None:
        known = self.running or self.last
        if known is None or known.request != p.reply:
            self.refuse(p, Error.NOTHING)
        else:
            self.send_tokens(known, p.first)

    def do_stop(self, p: wire.Packet) -> None:
        if self.running is None:
            self.refuse(p, Error.NOTHING)
            return
        self.send("ok", p.request)
        self.finish(Reason.STOPPED)

    def do_reset(self, p: wire.Packet) -> None:
        if self.running:
            self.finish(Reason.STOPPED)
        self.position = 0
        self.send("ok", p.request)

    def do_ping(self, p: wire.Packet) -> None:
        self.send(
            "pong", p.request, uptime_us=self.uptime, busy=self.running.request if self.running else 0, data=p.data
        )

    # ---- facts and settings ---------------------------------------------------------------------

    def do_info(self, p: wire.Packet) -> None:
        model = self.model or b""
        self.send(
            "info_is", p.request, firmware="fake 1.0", board="fake", chip="python", model="fake" if model else "",
            arch="fake", licence="MIT", attribution="nobody", kernels="none", flash_mode="RAM", warning="",
            blob_major=1, blob_minor=0, model_state=self.state, model_error=self.model_error, model_bytes=len(model),
            model_crc=zlib.crc32(model), selfcheck=0, vocab=512, context=CONTEXT, model_context=256,
            position=self.position, kv_type=2, batch=16, batch_in_pages=0, head_rows=0, head_mode=0, threads=1,
            chat_kind=0 if self.story else 1, cache_line=64, cpu_mhz=240, memory_total=300_000, memory_used=200_000,
            heap_free=100_000, psram=0, slots=1, slot=0, slot_bytes=4_000_000, benches=2, uptime_us=self.uptime,
            confidence=self.confidence,
        )  # fmt: skip

    def send_settings(self, p: wire.Packet) -> None:
        mask = SettingsField(0)
        for name in self.stored:
            mask |= SettingsField[name.upper()]
        self.send("settings", p.request, mask=mask, stored=1, **self.settings)

    do_settings_get = send_settings

    def do_settings_set(self, p: wire.Packet) -> None:
        for name in self.settings:
            if p.mask & SettingsField[name.upper()]:
                self.settings[name] = self.stored[name] = p.values[name]
        self.send_settings(p)

    def do_settings_forget(self, p: wire.Packet) -> None:
        for name in list(self.stored):
            if p.mask & SettingsField[name.upper()]:
                del self.stored[name]
        self.send_settings(p)

    def do_bench(self, p: wire.Packet) -> None:
        rows = [("line fill QIO 64 B, 2 cores", 470.0, "cycles"), ("heap free", 280.0, "KB")]
        if p.which >= len(rows):
            self.refuse(p, Error.UNSUPPORTED)
            return
        name, value, unit = rows[p.which]
        self.send("bench_row", p.request, name=name, value=value, unit=unit, note="fake")
        self.send("ok", p.request)

    def do_reboot(self, p: wire.Packet) -> None:
        self.send("ok", p.request)
        self.boot()

    # ---- upload ---------------------------------------------------------------------------------

    def send_upload(self, p: wire.Packet) -> None:
        assert self.upload is not None
        size, sha = self.upload
        state = SlotState.VERIFIED if self.verified else SlotState.PARTIAL
        self.send(
            "upload_is", p.request, slot=0, state=state, offset=len(self.flash), size=size, window=WINDOW, sha256=sha
        )

    def do_upload_begin(self, p: wire.Packet) -> None:
        if p.size > 4_000_000:
            self.refuse(p, Error.STORE_SIZE, 4_000_000)
            return
        if self.upload != (p.size, p.sha256):
            self.upload, self.flash, self.verified, self.model = (p.size, p.sha256), bytearray(), False, None
        self.send_upload(p)

    def do_upload_chunk(self, p: wire.Packet) -> None:
        if self.upload is None:
            self.refuse(p, Error.STORE_NOT_BEGUN)
        elif p.offset > len(self.flash):
            self.refuse(p, Error.STORE_OFFSET, len(self.flash))
        elif zlib.crc32(p.data) != p.crc:
            self.refuse(p, Error.STORE_CRC)
        else:
            if p.offset == len(self.flash):
                self.flash += p.data
            self.send_upload(p)

    def do_upload_verify(self, p: wire.Packet) -> None:
        if self.upload is None:
            self.refuse(p, Error.STORE_NOT_BEGUN)
        elif len(self.flash) != self.upload[0]:
            self.refuse(p, Error.STORE_INCOMPLETE, len(self.flash))
        elif hashlib.sha256(self.flash).digest() != self.upload[1]:
            self.refuse(p, Error.STORE_HASH)
        elif self.verify_error:
            self.refuse(p, self.verify_error)
        else:
            self.send("progress", p.request, at=len(self.flash), of=len(self.flash))
            self.verified = True
            self.send("ok", p.request)

    def do_upload_activate(self, p: wire.Packet) -> None:
        if not self.verified:
            self.refuse(p, Error.STORE_NOT_VERIFIED)
            return
        self.model = bytes(self.flash)
        self.send("ok", p.request)


# ---- in a test's own process ----------------------------------------------------------------------


class FakeClock(Clock):
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Faults:
    """What happens to the bytes: probabilities a byte, and moments (bytes from the device) of larger harm."""

    seed: int = 0
    lose: float = 0.0
    double: float = 0.0
    flip: float = 0.0
    swap: float = 0.0
    disconnect_at: tuple[int, ...] = ()
    reboot_at: tuple[int, ...] = ()
    reopen_failures: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def harm(self, data: bytes) -> bytes:
        """`data` as the line delivers it."""
        total = self.lose + self.double + self.flip + self.swap
        if not total:
            return data
        out = bytearray()
        for byte in data:
            roll = self.rng.random()
            if roll < self.lose:
                continue
            if roll < self.lose + self.double:
                out += bytes((byte, byte))
            elif roll < self.lose + self.double + self.flip:
                out.append(byte ^ (1 << self.rng.randrange(8)))
            elif roll < total and out:
                out.insert(len(out) - 1, byte)
            else:
                out.append(byte)
        return bytes(out)


class FakeLink(Transport):
    """A line to a `FakeDevice` in the same process."""

    name = "fake"

    def __init__(self, device: FakeDevice, clock: FakeClock, faults: Faults | None = None) -> None:
        self.device, self.clock, self.faults = device, clock, faults or Faults()
        self.is_open = True
        self.passed = 0
        self.harms = sorted(
            [(at, "disconnect") for at in self.faults.disconnect_at] + [(at, "reboot") for at in self.faults.reboot_at]
        )
        self.failures_left = self.faults.reopen_failures
        self.dead = False

    def read(self, timeout: float) -> bytes:
        self._check()
        self.clock.time += 0.001
        if self.dead:
            self.clock.time += timeout
            return b""
        self.device.tick()
        data = self.device.take()
        if not data:
            self.clock.time += timeout
            return b""
        self.passed += len(data)
        if self.harms and self.passed >= self.harms[0][0]:
            _, what = self.harms.pop(0)
            if what == "disconnect":
                self.is_open = False
                self._check()
            self.device.boot()
        return self.faults.harm(data)

    def write(self, data: bytes) -> None:
        self._check()
        if not self.dead:
            self.device.feed(self.faults.harm(data))

    def _check(self) -> None:
        if not self.is_open:
            raise LinkLostError("The connection to fake was lost.")

    def close(self) -> None:
        self.is_open = False

    def reopen(self) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise LinkLostError("There is no port fake.")
        self.is_open = True


# ---- as a program ---------------------------------------------------------------------------------


def serve(device: FakeDevice, fd_in: int, fd_out: int) -> None:
    """Serves a device over two file descriptors until one of them ends."""
    with contextlib.suppress(OSError, ValueError):
        while _serve_once(device, fd_in, fd_out):
            pass


def _serve_once(device: FakeDevice, fd_in: int, fd_out: int) -> bool:
    busy = device.running is not None
    ready, _, _ = select.select([fd_in], [], [], device.step_s if busy else None)
    if ready:
        data = os.read(fd_in, 65536)
        if not data:
            return False
        device.feed(data)
    if busy and (device.step_s or not ready):
        device.tick()
    data = device.take()
    while data:
        data = data[os.write(fd_out, data) :]
    return True


def main() -> None:
    """`fake_device.py BLOB [--option...]`; the environment variable FAKE holds fields of `FakeDevice` as JSON."""
    options = json.loads(os.environ.get("FAKE", "{}"))
    if options.pop("fail", None):
        print("tlm-sim: the blob is damaged (checksum)", file=sys.stderr)
        sys.exit(1)
    die_after, once = options.pop("die_after", None), Path(options.pop("once", "no such file"))
    device = FakeDevice(**options)
    if die_after is not None and not once.exists():
        tick = device.tick

        def dying() -> bool:
            if device.running and device.running.at >= die_after:
                once.touch()
                sys.exit(0)
            return tick()

        device.tick = dying  # type: ignore[method-assign]
    serve(device, 0, 1)


if __name__ == "__main__":
    main()
