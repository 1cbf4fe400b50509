"""A host without any manners: sends packets, collects what comes back. For tests of the device alone."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

from simlib import Sim

from tinychat.protocol import ANY_POSITION, AUTO, MAX_CHUNK, VERSION_MAJOR, VERSION_MINOR, GenerateFlag, Mode
from tinychat.wire import Damaged, Deframer, Packet, Text, encode

GENERATE: dict[str, Any] = {
    "mode": Mode.CHAT,
    "flags": 0,
    "expect": ANY_POSITION,
    "seed": 1,
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "repeat_window": 0,
    "max_tokens": 8,
    "grammar": b"",
    "text": b"hello",
}


class RawHost:
    """Packets to and from a `Sim`; `text` and `damaged` keep the rest of its output."""

    def __init__(self, sim: Sim, greet: bool = True) -> None:
        self.sim = sim
        self.session = self.request = 0
        self.text = b""
        self.damaged = 0
        self.logs: list[str] = []
        self._deframer = Deframer()
        if greet:
            self.hello()

    def hello(self, major: int = VERSION_MAJOR) -> Packet:
        self.session = 0
        (answer,) = self.call("hello", major=major, minor=VERSION_MINOR, host="raw")
        if answer.name == "welcome":
            self.session = answer.session
        return answer

    def raw(self, data: bytes) -> list[Packet]:
        """Feeds bytes, runs until the board is idle, and returns the packets that came."""
        self.sim.feed(data)
        return self.sort(self.sim.run())

    def sort(self, output: bytes) -> list[Packet]:
        packets = []
        for item in self._deframer.feed(output):
            if isinstance(item, Packet) and item.name == "log":
                self.logs.append(item.text)
            elif isinstance(item, Packet):
                packets.append(item)
            elif isinstance(item, Text):
                self.text += item.data
            elif isinstance(item, Damaged):
                self.damaged += 1
        return packets

    def frame(self, name: str, **values: Any) -> bytes:
        self.request += 1
        return encode(name, self.session, self.request, **values)

    def call(self, name: str, **values: Any) -> list[Packet]:
        """All packets that answer a request, run to its end."""
        packets = self.raw(self.frame(name, **values))
        assert all(p.request in (self.request, 0) for p in packets), packets
        return packets

    def one(self, name: str, **values: Any) -> Packet:
        (packet,) = self.call(name, **values)
        return packet

    def generate(self, text: bytes | str, **values: Any) -> tuple[bytes, list[Packet], Packet]:
        """Text, tokens and `done` of a reply; asserts that it adds up."""
        packets = self.call("generate", **GENERATE | values | {"text": text})
        assert packets[-1].name == "done", packets
        return self.reply(packets)

    @staticmethod
    def reply(packets: list[Packet]) -> tuple[bytes, list[Packet], Packet]:
        done = packets[-1]
        tokens = [p for p in packets if p.name == "token"]
        assert [t.index for t in tokens] == list(range(done.tokens))
        whole = b"".join(t.text for t in tokens) + done.text
        assert zlib.crc32(whole) == done.text_crc
        whole.decode("utf-8")
        return whole, tokens, done

    def probe(self, ids: list[int]) -> list[Packet]:
        *rows, ok = self.call("probe", flags=0, ids=ids)
        assert ok.name == "ok", ok
        return rows

    def begin(self, blob: bytes, slot: int = AUTO) -> Packet:
        return self.one("upload_begin", slot=slot, size=len(blob), sha256=hashlib.sha256(blob).digest())

    def chunk(self, blob: bytes, at: int, size: int = MAX_CHUNK) -> Packet:
        data = blob[at : at + size]
        return self.one("upload_chunk", offset=at, crc=zlib.crc32(data), data=data)

    def send(self, blob: bytes, at: int = 0, size: int = MAX_CHUNK) -> Packet | None:
        """Chunks from `at` on; the first packet that is no acknowledgement, or None."""
        while at < len(blob):
            answer = self.chunk(blob, at, size)
            if answer.name != "upload_is":
                return answer
            at = answer.offset
        return None

    def verify(self) -> Packet:
        return self.call("upload_verify")[-1]

    def upload(self, blob: bytes, slot: int = AUTO) -> Packet:
        """A whole upload: `ok`, or the error that ended it."""
        begun = self.begin(blob, slot)
        if begun.name != "upload_is":
            return begun
        bad = self.send(blob, begun.offset)
        if bad is not None:
            return bad
        verified = self.verify()
        return verified if verified.name != "ok" else self.one("upload_activate")


__all__ = ["GENERATE", "GenerateFlag", "Mode", "RawHost"]
