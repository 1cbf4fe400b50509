"""Kinds of KV cache, as people write them: `i8`, or `i4/2` where a position has two scales for K and two for V."""

from __future__ import annotations

import re

from .errors import ChatError
from .protocol import AUTO, KV_SCALE

KV_NAMES = ("f32", "f16", "i8", "i4")
_SYNTAX = re.compile(r"(f32|f16|i8|i4)|(i8|i4)/([1-9][0-9]?)")


def kv_name(number: int) -> str:
    """The kind that the protocol writes as `number`."""
    name, groups = KV_NAMES[number % KV_SCALE], number // KV_SCALE + 1
    return name if groups == 1 else f"{name}/{groups}"


def kv_number(name: str) -> int:
    """The number of a kind. Raises `ChatError` for what is none."""
    found = _SYNTAX.fullmatch(name)
    number = AUTO
    if found is not None:
        plain, scaled, groups = found.groups()
        number = KV_NAMES.index(plain or scaled) + KV_SCALE * (int(groups or 1) - 1)
    if number >= AUTO:
        hint = f"one of {', '.join(KV_NAMES)}; i8 and i4 take up to 63 scales a position: i4/2"
        raise ChatError(f"kv_type can not be '{name}'.", hint)
    return number
