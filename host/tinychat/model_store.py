"""The model partition as `firmware/app/store.c` forms it, so that flashing can put a model there directly.

A slot is one sector of bookkeeping, then the blob. At offset 0 of that sector stands the header
`magic u32 | sequence u32 | size u32 | sha256 32 bytes | crc32 u32`, little-endian; the rest is erased (0xFF).
The highest sequence among the slots wins.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

from .errors import FlashError
from .faults import make
from .protocol import Error

HEADER = struct.Struct("<4sII32s")
MAGIC = b"TMS1"
SECTOR = 4096
ENTRY = struct.Struct("<HBBII16sI")
ENTRY_MAGIC = 0x50AA
APP_TYPE = 0


@dataclass(frozen=True)
class Partition:
    """A row of an ESP-IDF partition table; offset and size in bytes."""

    label: str
    type: int
    subtype: int
    offset: int
    size: int

    @property
    def is_app(self) -> bool:
        """True for a partition that holds firmware."""
        return self.type == APP_TYPE


def parse_partitions(table: bytes) -> list[Partition]:
    """Rows of a binary partition table. Raises `FlashError` when it is none."""
    rows = []
    for at in range(0, len(table) - ENTRY.size + 1, ENTRY.size):
        magic, kind, subtype, offset, size, label, _flags = ENTRY.unpack_from(table, at)
        if magic != ENTRY_MAGIC:
            break
        rows.append(Partition(label.split(b"\0")[0].decode("ascii", "replace"), kind, subtype, offset, size))
    if not rows:
        raise FlashError("The partition table is empty or damaged.", "build the firmware again")
    return rows


def slot_images(blob: bytes, partition_bytes: int) -> dict[int, bytes]:
    """What to write into a model partition so that `blob` is the model: offset in the partition -> bytes.

    Whether the firmware cuts the partition into one slot or two is not known here. Slot 0 takes the blob; where a
    second slot could be, its bookkeeping is erased, or an older model there might win.
    """
    if SECTOR + len(blob) > partition_bytes:
        raise make(Error.STORE_SIZE, 0, f"the model has {len(blob)} bytes, its partition {partition_bytes - SECTOR}")
    head = HEADER.pack(MAGIC, 1, len(blob), hashlib.sha256(blob).digest())
    head += struct.pack("<I", zlib.crc32(head))
    images = {0: head.ljust(SECTOR, b"\xff") + blob}
    second = partition_bytes // 2 // SECTOR * SECTOR
    if SECTOR + len(blob) <= second:
        images[second] = b"\xff" * SECTOR
    return images
