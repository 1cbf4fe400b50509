"""What a session needs from a line: bytes in, bytes out, open again. Opening by name is here too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from .errors import ChatError


@dataclass(frozen=True)
class SimOptions:
    """How the simulator stands in for a board; None leaves the simulator's own choice."""

    like: str | None = None
    context: int | None = None
    kv: str | None = None
    flash: str | None = None


class Transport(ABC):
    """A line of bytes. All errors are `ChatError`s; a broken line is `LinkLostError`."""

    name: str
    #: True when the line may garble bytes (a UART); pipes and TCP do not.
    lossy: bool = True

    @abstractmethod
    def read(self, timeout: float) -> bytes:
        """Returns what has arrived, waiting up to `timeout` seconds for the first byte; b"" when none came."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Sends all of `data`."""

    @abstractmethod
    def close(self) -> None:
        """Releases the line; closing twice is allowed."""

    @abstractmethod
    def reopen(self) -> None:
        """Opens the line again after it was lost. Raises a `ChatError` when it is not there (yet)."""


def open_transport(target: str, sim: SimOptions | None = None) -> Transport:
    """Opens `auto`, a port name, `socket://host:port`, another pyserial URL, or `sim:BLOB`.

    Args:
        target: where the device is.
        sim: options of the simulator; used by `sim:` only.
    """
    if target.startswith("sim:"):
        from .transport_sim import SimTransport

        return SimTransport(target[4:], sim or SimOptions())
    if target.startswith("socket://"):
        from .transport_socket import SocketTransport

        return SocketTransport(target)
    if "://" in target and target.split("://", 1)[0] not in ("rfc2217", "loop", "spy", "hwgrep", "alt", "cp2110"):
        raise ChatError(
            f"'{target}' is not a kind of port that tinychat knows.",
            "use auto, /dev/ttyACM0, COM3, socket://host:port or sim:model.tlm",
        )
    from .transport_serial import SerialTransport

    return SerialTransport(target)
