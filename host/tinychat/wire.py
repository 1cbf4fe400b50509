"""Framing and codec of the serial protocol, host side.

A frame on the wire is `00 02 COBS(header body crc32) 00`; the last zero may be the first of the next
frame. Header: type u8, flags u8 (zero), session u16, request u16. All numbers are little-endian.
Bytes outside frames are text, which never holds 00 or 02.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cobs import cobs

from .printable import printable
from .protocol import BY_ID, BY_NAME, HEADER_BYTES, MAX_PAYLOAD, SCALARS, SPANS, Message

HEADER = struct.Struct("<BBHH")
START = 0x02  # after a zero: a frame begins


class WireError(ValueError):
    """A packet that this version of the protocol can not hold or read."""


@dataclass(frozen=True)
class Packet:
    """A decoded message. Fields are attributes too: `packet.text`."""

    name: str
    session: int
    request: int
    values: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        """A field of the message."""
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"{self.__dict__.get('name')} has no field {name}") from None


def _pack_span(kind: str, value: Any) -> bytes:
    if kind == "ids":
        data = struct.pack(f"<{len(value)}I", *value)
    else:
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
    if len(data) > 0xFFFF:
        raise WireError("a field is longer than 65535 bytes")
    return struct.pack("<H", len(data)) + data


def encode_body(message: Message, values: Mapping[str, Any]) -> bytes:
    """The body of `message`; a missing field is an error, so is an unknown one."""
    known = {f.name for f in message.fields}
    if values.keys() != known:
        raise WireError(f"{message.name}: fields {sorted(values.keys() ^ known)} are missing or unknown")
    parts = []
    for f in message.fields:
        value = values[f.name]
        try:
            parts.append(_pack_span(f.kind, value) if f.kind in SPANS else struct.pack("<" + SCALARS[f.kind], value))
        except struct.error as error:
            raise WireError(f"{message.name}.{f.name}: {error}") from None
    return b"".join(parts)


def decode_body(message: Message, body: bytes) -> dict[str, Any]:
    """Fields of a body; bytes after the last known field are a newer version's and are ignored."""
    at, values = 0, {}
    for f in message.fields:
        try:
            if f.kind not in SPANS:
                (values[f.name],) = struct.unpack_from("<" + SCALARS[f.kind], body, at)
                at += struct.calcsize("<" + SCALARS[f.kind])
                continue
            (length,) = struct.unpack_from("<H", body, at)
        except struct.error:
            raise WireError(f"{message.name} is cut off at {f.name}") from None
        data = body[at + 2 : at + 2 + length]
        at += 2 + length
        if len(data) != length or (f.kind == "ids" and length % 4):
            raise WireError(f"{message.name} is cut off at {f.name}")
        values[f.name] = list(struct.unpack(f"<{length // 4}I", data)) if f.kind == "ids" else data
        if f.kind == "str" and message.from_device and message.name not in ("token", "done"):
            values[f.name] = printable(data.decode("utf-8", "replace"))
    return values


def frame(payload: bytes) -> bytes:
    """`payload` (header and body) as it stands on the wire."""
    return bytes((0, START)) + cobs.encode(payload + struct.pack("<I", zlib.crc32(payload))) + b"\0"


def unframe(segment: bytes) -> bytes:
    """The payload of the bytes between two zeros; WireError when damaged."""
    try:
        data = cobs.decode(segment)
    except cobs.DecodeError:
        raise WireError("not COBS") from None
    if len(data) < HEADER_BYTES + 4 or struct.unpack("<I", data[-4:])[0] != zlib.crc32(data[:-4]):
        raise WireError("wrong checksum")
    return data[:-4]


def encode(name: str, session: int, request: int, /, **values: Any) -> bytes:
    """A whole frame, delimiters included; WireError when it would be too long."""
    message = BY_NAME[name]
    payload = HEADER.pack(message.id, 0, session, request) + encode_body(message, values)
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"{name} is {len(payload)} bytes long, the limit is {MAX_PAYLOAD}")
    return frame(payload)


def decode(payload: bytes) -> Packet:
    """The packet of a payload; an unknown type gives a packet named "?XX" with its raw body."""
    kind, _flags, session, request = HEADER.unpack_from(payload)
    body = payload[HEADER.size :]
    if kind not in BY_ID:
        return Packet(f"?{kind:02x}", session, request, {"body": body})
    return Packet(BY_ID[kind].name, session, request, decode_body(BY_ID[kind], body))


@dataclass(frozen=True)
class Text:
    """Bytes outside frames: a boot log, or the reply to a typed line."""

    data: bytes


@dataclass(frozen=True)
class Damaged:
    """Bytes between two zeros that are not a frame."""

    data: bytes
    why: str


class Deframer:
    """Splits a byte stream into packets, text and damage. Never raises, never grows past a frame."""

    LIMIT = MAX_PAYLOAD + 4 + (MAX_PAYLOAD + 4) // 254 + 1

    def __init__(self) -> None:
        """Starts outside a frame."""
        self._segment: bytearray | None = None  # of a frame; None: in text
        self._after_zero = False

    def feed(self, data: bytes) -> Iterator[Packet | Text | Damaged]:
        """What `data` completes, in order."""
        head, *rest = data.split(b"\0")
        yield from self._more(head)
        for part in rest:
            yield from self._zero()
            yield from self._more(part)

    def flush(self) -> Iterator[Damaged]:
        """Gives up a frame that began and does not end (after a silence, or when the port is lost)."""
        if self._segment:
            yield Damaged(bytes(self._segment), "cut off")
        self._segment, self._after_zero = None, False

    def _more(self, part: bytes) -> Iterator[Text | Damaged]:
        if not part:
            return
        if self._after_zero and part[0] == START:
            self._segment, part = bytearray(), part[1:]
        self._after_zero = False
        if self._segment is None:
            yield Text(part)
            return
        self._segment += part
        if len(self._segment) > self.LIMIT:
            yield Damaged(bytes(self._segment), "too long")
            self._segment = None

    def _zero(self) -> Iterator[Packet | Damaged]:
        segment, self._segment, self._after_zero = self._segment, None, True
        if segment is None:
            return
        try:
            packet = decode(unframe(bytes(segment)))
        except WireError as fault:
            yield Damaged(bytes(segment), str(fault))
            return
        yield packet
