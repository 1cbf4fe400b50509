"""The protocol against hostile bytes: both codecs agree, and the app under sanitizers answers after anything."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "emu"))

import simlib
from models import talker
from simlib import cbuild

from tinychat.protocol import MAX_PAYLOAD, MESSAGES, REQUESTS, SCALARS, Message
from tinychat.wire import HEADER, Damaged, Deframer, Packet, decode_body, encode, encode_body, frame


def test_generated_files_are_fresh() -> None:
    """The generator of this tree, not of an installed package: its files lie beside it."""
    command = [sys.executable, "-m", "tinychat.protocol_gen", "--check"]
    path = os.pathsep.join([str(ROOT / "host"), str(ROOT / "export")])
    done = subprocess.run(command, cwd=ROOT / "host", env=os.environ | {"PYTHONPATH": path}, check=False)
    assert done.returncode == 0


def any_value(rng: random.Random, kind: str) -> Any:
    if kind == "ids":
        return [rng.getrandbits(32) for _ in range(rng.randrange(20))]
    if kind in ("str", "bytes"):
        return rng.randbytes(rng.choice([0, 1, 5, 32, 300]))
    if kind == "f32":
        return struct.unpack("<f", struct.pack("<f", rng.choice([0.0, 1.0, 0.7, -1.0, 1e30, rng.random()])))[0]
    bits = 8 * struct.calcsize(SCALARS[kind])
    return rng.choice([0, 1, 2**bits - 1, rng.getrandbits(bits)])


def any_values(rng: random.Random, message: Message) -> dict[str, Any]:
    return {f.name: any_value(rng, f.kind) for f in message.fields}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.name)
def test_bodies_round_trip(message: Message) -> None:
    rng = random.Random(message.id)
    for _ in range(30):
        values = any_values(rng, message)
        body = encode_body(message, values)
        back = decode_body(message, body + b"newer")
        text = {f.name for f in message.fields if isinstance(back[f.name], str)}
        assert {k: v for k, v in back.items() if k not in text} == {k: v for k, v in values.items() if k not in text}


def test_deframer_finds_what_survives() -> None:
    """Every undamaged frame comes out, whatever stands between; nothing else does."""
    rng = random.Random(3)
    for _ in range(300):
        stream, sent = b"", []
        for n in range(20):
            whole = encode("ping", 1, n, data=rng.randbytes(rng.randrange(60)))
            if rng.random() < 0.3:
                at = rng.randrange(1, len(whole) - 1)
                whole = whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]
            else:
                sent.append(n)
            stream += whole + rng.choice([b"", b"text\r\n", b"\0", b"\0\0"])
        deframer, got = Deframer(), []
        while stream:
            size = rng.randrange(1, 50)
            got += [i for i in deframer.feed(stream[:size]) if isinstance(i, Packet)]
            stream = stream[size:]
        assert [p.request for p in got] == sent
        assert not [d for d in deframer.flush() if not isinstance(d, Damaged)]


BYTES, PAYLOAD, SETTLE, END = range(4)  # kinds of item, as in app_fuzz.c
# Letters and spaces, then a full stop: a state with three edges, and one where the reply may end.
GRAMMAR = bytes((1, 3, 32, 32, 1, 0, 46, 46, 14, 0, 97, 122, 1, 0, 0x80))


def request(rng: random.Random) -> bytes:
    """A payload that gets a good checksum: plausible, odd, or nonsense inside."""
    message = rng.choice(REQUESTS)
    values = any_values(rng, message)
    if message.name == "generate":
        values |= {
            "mode": rng.randrange(3),
            "flags": rng.getrandbits(5),
            "expect": 2**32 - 1,
            "max_tokens": rng.randrange(1, 5),
        }
        if rng.random() < 0.8:
            values |= {
                "grammar": rng.choice([b"", b"", b"\x01" + rng.randbytes(rng.randrange(1, 40)), GRAMMAR]),
                "top_p": 1.0,
                "min_p": 0.0,
                "repeat_penalty": 1.0,
                "repeat_window": 9,
                "top_k": 5,
            }
            values |= {"temperature": rng.choice([0.0, 0.8, 5.0])}
    if message.name == "probe" and rng.random() < 0.7:
        values["ids"] = [rng.randrange(1024) for _ in range(rng.randrange(30))]
    if message.name == "upload_begin":
        values |= {
            "slot": rng.choice([0, 1, 255]),
            "size": rng.choice([64, 5000, 120_000]),
            "sha256": rng.randbytes(32),
        }
    if message.name == "upload_chunk":
        values |= {"offset": rng.choice([0, 1024, 16]), "data": rng.randbytes(rng.choice([16, 1024]))}
        values["crc"] = zlib.crc32(values["data"])
    body = encode_body(message, values)
    if rng.random() < 0.3:
        body = body[: rng.randrange(len(body) + 1)] + rng.randbytes(rng.randrange(8))
    kind = message.id if rng.random() < 0.95 else rng.randrange(256)
    return (HEADER.pack(kind, 0, 0, rng.randrange(4)) + body)[:MAX_PAYLOAD]


def damaged(rng: random.Random) -> bytes:
    """Bytes that are no frame, or a frame that is too short, too long or hurt; or what a person might type."""
    draw = rng.random()
    if draw < 0.3:
        return frame(rng.randbytes(rng.choice([0, 1, 5, 6, 7, 2048, 3000])))
    if draw < 0.6:
        return rng.randbytes(rng.choice([1, 20, 3000]))
    if draw < 0.8:
        whole = bytearray(frame(request(rng)))
        whole[rng.randrange(len(whole))] = rng.randrange(256)
        return bytes(whole)
    return rng.choice([b"hello\n", b"/set temp 0.5\n", b"/info\n", b"\x03", b"a" * 700 + b"\n", b"/\n\x08\x7f\n"])


def stream(seed: int) -> bytes:
    """Items of one stream: a greeting, requests and damage, the end."""
    rng = random.Random(seed)
    items = [(BYTES, encode("hello", 0, 1, major=1, minor=0, host="fuzz")), (SETTLE, b"")]
    for _ in range(rng.randrange(1, 14)):
        items.append((PAYLOAD, request(rng)) if rng.random() < 0.75 else (BYTES, damaged(rng)))
        if rng.random() < 0.3:
            items.append((SETTLE, b""))
    return b"".join(struct.pack("<BI", kind, len(data)) + data for kind, data in [*items, (END, b"")])


@pytest.mark.parametrize("variant", ["gcc-asan", "clang-asan"])
def test_the_app_survives_anything(variant: str, tmp_path: Path) -> None:
    blob = tmp_path / "talker.tlm"
    blob.write_bytes(talker(max_tokens=4))
    sources = [ROOT / "tests/fuzz/app_fuzz.c", *simlib.app_sources()]
    program = cbuild.program(variant, *sources, flags=simlib.INCLUDES)
    streams = tmp_path / "streams"
    count = 1500
    streams.write_bytes(b"".join(map(stream, range(count))))
    assert cbuild.run([program, blob, streams]) == f"{count} streams\n"
