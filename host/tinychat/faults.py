"""The device's error codes as exceptions with a hint."""

from __future__ import annotations

from .errors import DeviceError, NoModelError
from .protocol import ERROR_TEXT, Error
from .wire import Packet

UPLOAD_HINT = "put a model on it: tinychat upload model.tlm"
HINTS: dict[Error, str] = {
    Error.BAD_MESSAGE: "if no value was wrong: update tinychat or the firmware",
    Error.VERSION: "update tinychat or the firmware",
    Error.UNKNOWN_MESSAGE: "the firmware is older than this tinychat: flash a newer one",
    Error.BUSY: "wait for the reply, or stop it",
    Error.UNSUPPORTED: "this board, firmware or model can not do it",
    Error.NO_MODEL: UPLOAD_HINT,
    Error.CONVERSATION: "start a new conversation: /new",
    Error.TEXT: "leave out the characters that this small vocabulary lacks",
    Error.PROMPT_TOO_LONG: "shorten it; `tinychat info` tells the context",
    Error.GRAMMAR: "update tinychat and the firmware; a model with a pruned vocabulary may lack characters",
    Error.NUMERIC: "the stored model may be damaged: upload it again",
    Error.STORE_READ_ONLY: "its model is part of the firmware image or of the simulator's command line",
    Error.STORE_SIZE: "quantise it smaller (--q4_0, --prune-vocab), or use a board with more flash",
    Error.STORE_FLASH: "try again; if it stays, the flash chip is worn or its power is weak",
    Error.STORE_HASH: "upload it again",
    Error.MODEL_FORMAT: "export the model again; `tinyexport inspect` tells whether the file is whole",
    Error.MODEL_VERSION: "flash newer firmware, or export with the older tinyexport",
    Error.MODEL_MEMORY: "choose a smaller context or KV type: tinychat settings context=128 kv=i4",
    Error.MODEL_KV: "choose fewer scales: --kv i4, or tinychat settings kv=i4",
    Error.MODEL_TEMPLATE: "shorten its user_prefix and reply_prefix in tinyexport.json, and export it again",
    Error.SETTINGS_STORE: "the settings hold until power off",
    Error.INTERNAL: "please report it, with the output of `tinychat info`",
}


def error_name(number: int) -> str:
    """Stable name of an error code: `no_model`; `device_99` for one that this version does not know."""
    try:
        return Error(number).name.lower()
    except ValueError:
        return f"device_{number}"


def sentence(text: str) -> str:
    """`text` with a capital first and a full stop last."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def make(number: int, detail: int = 0, text: str = "") -> DeviceError:
    """The exception for an error code.

    Args:
        number: `Error`.
        detail: see the code.
        text: the device's own sentence; "" takes the table's.
    """
    known = Error(number) if number in Error._value2member_map_ else None
    text = text or (ERROR_TEXT[known] if known is not None else f"error {number}")
    kind = NoModelError if known == Error.NO_MODEL else DeviceError
    error = kind(sentence(text), HINTS.get(known, "") if known is not None else "", error_name(number))
    error.number, error.detail = number, detail
    return error


def from_packet(packet: Packet) -> DeviceError:
    """The exception for an `error` message."""
    return make(packet.code, packet.detail, packet.text)
