"""Text from elsewhere, made harmless: a device, a model or a checkpoint must not steer the terminal."""

from __future__ import annotations

BIDI = {0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069}


def printable(text: str) -> str:
    """`text` without what would steer the terminal: control characters other than newline and tab."""
    return "".join(c if c in "\n\t" or not _is_control(c) else "\N{REPLACEMENT CHARACTER}" for c in text)


def _is_control(c: str) -> bool:
    code = ord(c)
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code <= 0xDFFF or code in BIDI
