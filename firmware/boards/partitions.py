"""Partition tables in binary, from the CSV files of the boards, for hosts without ESP-IDF.

python firmware/boards/partitions.py firmware/boards/esp32s3/partitions_8mb.csv partitions.bin
"""

from __future__ import annotations

import hashlib
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

ROW = struct.Struct("<HBBII16sI")
ROW_MAGIC, HASH_MAGIC = 0x50AA, b"\xeb\xeb" + b"\xff" * 14
TABLE_AT, TABLE_BYTES = 0x8000, 0xC00
SECTOR, PAGE = 0x1000, 0x10000
TYPES = {"app": 0, "data": 1}
SUBTYPES = {("app", "factory"): 0, ("data", "nvs"): 2}


@dataclass(frozen=True)
class Row:
    """A partition; offset and size in bytes."""

    label: str
    type: int
    subtype: int
    offset: int
    size: int


def read_csv(text: str) -> list[Row]:
    """Rows of a table whose offsets and sizes are all given. Raises ValueError naming the line that is wrong."""
    rows: list[Row] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = [w.strip() for w in line.partition("#")[0].split(",")]
        if words == [""]:
            continue
        try:
            label, kind, subtype, offset, size = words
            named = SUBTYPES.get((kind, subtype))
            code = int(subtype, 0) if named is None else named
            rows.append(Row(label, TYPES[kind], code, int(offset, 0), int(size, 0)))
        except (ValueError, KeyError) as err:
            raise ValueError(f"line {number}: {line.strip()!r} is no partition ({err})") from err
    return rows


def check(rows: list[Row], flash: int) -> None:
    """Raises ValueError where rows overlap, are not aligned or do not fit into `flash` bytes."""
    end = TABLE_AT + SECTOR
    for row in sorted(rows, key=lambda r: r.offset):
        step = PAGE if row.type == TYPES["app"] else SECTOR
        if row.offset < end:
            raise ValueError(f"{row.label} begins inside of what comes before it")
        if row.offset % step or row.size % SECTOR or row.size == 0:
            raise ValueError(f"{row.label} is not aligned")
        if len(row.label) > 15:
            raise ValueError(f"{row.label} is a label of more than 15 characters")
        end = row.offset + row.size
    if end > flash:
        raise ValueError(f"the table needs {end} bytes of flash, there are {flash}")
    if len({r.label for r in rows}) != len(rows):
        raise ValueError("two partitions have the same label")


def pack(rows: list[Row]) -> bytes:
    """The table as the bootloader reads it: rows, their MD5, padding."""
    body = b"".join(ROW.pack(ROW_MAGIC, r.type, r.subtype, r.offset, r.size, r.label.encode(), 0) for r in rows)
    return (body + HASH_MAGIC + hashlib.md5(body).digest()).ljust(TABLE_BYTES, b"\xff")


def main(arguments: list[str]) -> int:
    """The command: CSV in, binary out."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    rows = read_csv(Path(arguments[0]).read_text())
    check(rows, 16 << 20)
    Path(arguments[1]).write_bytes(pack(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
