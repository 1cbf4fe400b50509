"""Shows what a device says outside of frames, and its log lines. Listens only: nothing is sent."""

from __future__ import annotations

import sys
import time

from .errors import ChatError, LinkLostError
from .pipe import emit
from .printable import printable
from .protocol import LogLevel
from .reply import word
from .transport import SimOptions, Transport, open_transport
from .wire import Damaged, Deframer, Packet, Text

GAP_S = 0.5
LEVELS = [level.name.lower() for level in LogLevel]


def watch(port: str, sim: SimOptions, frames: bool, as_json: bool) -> None:
    """Shows until Ctrl-C; waits for a device that goes away."""
    line = open_transport(port, sim)
    print(f"listening on {line.name}; Ctrl-C ends it", file=sys.stderr)
    try:
        while True:
            try:
                _listen(line, frames, as_json)
            except LinkLostError as err:
                if port.startswith("sim:"):
                    raise
                print(f"{err.message} Waiting for it.", file=sys.stderr)
                _wait_for(line)
    except KeyboardInterrupt:
        return
    finally:
        line.close()


def _wait_for(line: Transport) -> None:
    while True:
        try:
            line.reopen()
        except ChatError:
            time.sleep(0.5)
        else:
            return


def _listen(line: Transport, frames: bool, as_json: bool) -> None:
    deframer = Deframer()
    last = time.monotonic()
    while True:
        data = line.read(0.2)
        if data:
            last = time.monotonic()
        silent = not data and time.monotonic() - last > GAP_S
        for item in deframer.flush() if silent else deframer.feed(data):
            _show(item, frames, as_json)


def _show(item: Packet | Text | Damaged, frames: bool, as_json: bool) -> None:
    if isinstance(item, Text):
        text = item.data.decode("utf-8", "replace")
        if as_json:
            emit({"event": "text", "text": text})
        else:
            sys.stdout.write(printable(text.replace("\r\n", "\n").replace("\r", "")))
            sys.stdout.flush()
    elif isinstance(item, Packet) and item.name == "log":
        level = word(LEVELS, item.level)
        if as_json:
            emit({"event": "log", "level": level, "text": item.text})
        else:
            print(f"[{level}] {item.text}", flush=True)
    elif frames:
        name = item.name if isinstance(item, Packet) else f"damaged ({item.why})"
        if as_json:
            emit({"event": "frame", "name": name})
        else:
            print(f"<{name}>", flush=True)
