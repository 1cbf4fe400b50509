"""What a message of the protocol is; `protocol.py` has them all."""

from __future__ import annotations

from dataclasses import dataclass

SCALARS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "f32": "f"}
SPANS = ("str", "bytes", "ids")  # u16 length in bytes, then the bytes; str is UTF-8, ids are u32


@dataclass(frozen=True)
class Field:
    """One field of a message body."""

    name: str
    kind: str
    doc: str


@dataclass(frozen=True)
class Message:
    """A message: requests have ids below 0x40, what a device sends has ids from 0x40 on."""

    name: str
    id: int
    doc: str
    fields: tuple[Field, ...] = ()

    @property
    def from_device(self) -> bool:
        """Whether a device sends it."""
        return self.id >= 0x40


def fields(rows: str) -> tuple[Field, ...]:
    """Fields from lines `name kind  meaning`."""
    return tuple(Field(*line.split(None, 2)) for line in rows.strip().splitlines())


SAMPLING = """
temperature f32    0 = greedy
top_k u32          0 = the candidate limit (256)
top_p f32          1 = off
min_p f32          0 = off
repeat_penalty f32 1 = off
repeat_window u32  tokens looked back at, at most 256
max_tokens u32     length of the reply; 0 = the model's own default
"""
