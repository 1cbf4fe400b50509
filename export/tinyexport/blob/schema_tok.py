"""The TOKENIZER section of the blob format (see `schema.py` for the rules).

One `tok` record, then the tables of its kind. Offsets count from the start of the section.
"""

from __future__ import annotations

import enum

from .schema import Record

RECORDS: tuple[Record, ...] = ()
ENUMS: tuple[type[enum.IntEnum] | type[enum.IntFlag], ...] = ()
CONSTANTS: dict[str, int] = {}
