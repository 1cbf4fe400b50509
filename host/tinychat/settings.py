"""Names, ranges and spelling of the settings that a person gives and a device keeps."""

from __future__ import annotations

import struct
from ctypes import c_float
from typing import Any

from .errors import ChatError
from .kv import kv_name, kv_number
from .protocol import AUTO, Mode, SettingsField

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_window", "max_tokens")
MODES = tuple(m.name.lower() for m in Mode)
FLOATS = ("temperature", "top_p", "min_p", "repeat_penalty")
LEAST = 2.0**-126  # the smallest normal float32; below it there is only 0
#: Lowest and highest value that the firmware takes, and the words for it.
RANGES: dict[str, tuple[float, float, str]] = {
    "temperature": (0, 100, "from 0 (always the likeliest token) to about 2"),
    "top_k": (0, 256, "from 0 (as many as there are) to 256"),
    "top_p": (LEAST, 1, "above 0, at most 1 (1 = off)"),
    "min_p": (0, 1 - 2.0**-24, "from 0 (off) to below 1"),
    "repeat_penalty": (1, 100, "from 1 (off) to 100"),
    "repeat_window": (0, 256, "from 0 (off) to 256 tokens"),
    "brightness": (0, 100, "percent, from 0 to 100"),
    "echo": (0, 1, "0 or 1"),
}
ANY_COUNT = (0, 0xFFFFFFFF, "it is a number from 0 on")


def setting_names() -> tuple[str, ...]:
    """Names of all settings, as in PROTOCOL.md."""
    return tuple(f.name.lower() for f in SettingsField if f.name)


def shortest(value: float) -> float:
    """The number with the fewest digits that is the same float32: 0.7, not 0.699999988079071."""
    bits = struct.pack("<f", value)
    return next((n for d in range(1, 9) if struct.pack("<f", n := float(f"{value:.{d}g}")) == bits), value)


def checked(name: str, value: Any) -> Any:
    """`value` as the setting `name` takes it. Raises `ChatError` for what can not be one."""
    if name == "kv_type":
        return value if value == "auto" else kv_name(kv_number(str(value)))
    if name == "mode" and value in MODES:
        return value
    if name == "mode":
        raise ChatError(f"{name} can not be '{value}'.", "one of " + ", ".join(MODES))
    try:
        number = float(value) + 0.0 if name in FLOATS else int(value)  # + 0.0: -0 is 0
        held = c_float(number).value if name in FLOATS else number
    except (TypeError, ValueError, OverflowError):
        raise ChatError(f"{name} can not be '{value}'.", "it is a number") from None
    low, high, words = RANGES.get(name, ANY_COUNT)
    if not low <= held <= high or (name in FLOATS and 0 < held < LEAST):
        raise ChatError(f"{name} can not be {value}.", words)
    return number


def wire_value(name: str, value: Any) -> Any:
    """A setting as the protocol writes it."""
    if name == "mode":
        return MODES.index(value) if value in MODES else value
    if name == "kv_type":
        return AUTO if value == "auto" else kv_number(value)
    return value
