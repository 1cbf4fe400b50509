"""Names, ranges and spelling of the settings that a person gives and a device keeps."""

from __future__ import annotations

import struct
from typing import Any

from .errors import ChatError
from .protocol import AUTO, Mode, SettingsField
from .reply import KV_NAMES

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_window", "max_tokens")
MODES = tuple(m.name.lower() for m in Mode)
FLOATS = ("temperature", "top_p", "min_p", "repeat_penalty")
RANGES = {
    "temperature": "from 0 (always the likeliest token) to about 2",
    "top_p": "above 0, at most 1 (1 = off)",
    "min_p": "from 0 (off) to below 1",
    "repeat_penalty": "from 1 (off)",
    "brightness": "percent",
    "echo": "0 or 1",
}


def setting_names() -> tuple[str, ...]:
    """Names of all settings, as in PROTOCOL.md."""
    return tuple(f.name.lower() for f in SettingsField if f.name)


def shortest(value: float) -> float:
    """The number with the fewest digits that is the same float32: 0.7, not 0.699999988079071."""
    bits = struct.pack("<f", value)
    return next((n for d in range(1, 9) if struct.pack("<f", n := float(f"{value:.{d}g}")) == bits), value)


def checked(name: str, value: Any) -> Any:
    """`value` as the setting `name` takes it. Raises `ChatError` for what can not be one."""
    if name == "mode" and value in MODES:
        return value
    if name == "kv_type" and value in (*KV_NAMES, "auto"):
        return value
    if name in ("mode", "kv_type"):
        known = MODES if name == "mode" else (*KV_NAMES, "auto")
        raise ChatError(f"{name} can not be '{value}'.", "one of " + ", ".join(known))
    try:
        number = float(value) if name in FLOATS else int(value)
    except (TypeError, ValueError, OverflowError):
        raise ChatError(f"{name} can not be '{value}'.", "it is a number") from None
    bad = number < 0 or number != number or number > 0xFFFFFFFF
    bad = bad or (name == "top_p" and not 0 < number <= 1) or (name == "min_p" and number >= 1)
    bad = bad or (name == "repeat_penalty" and number < 1) or (name in ("brightness", "echo") and number > 255)
    if bad or (name == "temperature" and number > 100):
        raise ChatError(f"{name} can not be {value}.", RANGES.get(name, "it is a number from 0 on"))
    return number


def wire_value(name: str, value: Any) -> Any:
    """A setting as the protocol writes it."""
    if name == "mode":
        return MODES.index(value) if value in MODES else value
    if name == "kv_type":
        return KV_NAMES.index(value) if value in KV_NAMES else AUTO
    return value
