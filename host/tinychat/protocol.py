"""THE serial protocol, declared once.

Messages and their fields stand in `protocol_requests.py` and `protocol_events.py`, limits, enumerations and error
codes in `protocol_codes.py`, framing and the codec of the host in `wire.py`. `protocol_gen.py` writes
`firmware/app/protocol_gen.h` and the tables of `host/PROTOCOL.md` from these files; a test fails when either is stale.
"""

from __future__ import annotations

from .protocol_codes import (
    ANY_POSITION,
    AUTO,
    CONSTANTS,
    ENUMS,
    ERROR_TEXT,
    HEADER_BYTES,
    KV_SCALE,
    MAX_CHUNK,
    MAX_PAYLOAD,
    VERSION_MAJOR,
    VERSION_MINOR,
    Check,
    Error,
    GenerateFlag,
    LogLevel,
    Mode,
    ModelState,
    Reason,
    SettingsField,
    SlotState,
    TokenFlag,
)
from .protocol_events import EVENTS
from .protocol_message import SCALARS, SPANS, Field, Message
from .protocol_requests import REQUESTS

__all__ = [
    "ANY_POSITION",
    "AUTO",
    "BY_ID",
    "BY_NAME",
    "CONSTANTS",
    "ENUMS",
    "ERROR_TEXT",
    "EVENTS",
    "HEADER_BYTES",
    "KV_SCALE",
    "MAX_CHUNK",
    "MAX_PAYLOAD",
    "MESSAGES",
    "REQUESTS",
    "SCALARS",
    "SPANS",
    "VERSION_MAJOR",
    "VERSION_MINOR",
    "Check",
    "Error",
    "Field",
    "GenerateFlag",
    "LogLevel",
    "Message",
    "Mode",
    "ModelState",
    "Reason",
    "SettingsField",
    "SlotState",
    "TokenFlag",
]

MESSAGES = REQUESTS + EVENTS
BY_NAME = {m.name: m for m in MESSAGES}
BY_ID = {m.id: m for m in MESSAGES}
