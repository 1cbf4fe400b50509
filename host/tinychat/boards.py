"""Which USB devices may be a board, and what a user can do when a port does not open."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from .errors import NoPortError

#: USB (vendor, product) -> what it is. Product None matches the whole vendor.
USB_IDS: dict[tuple[int, int | None], str] = {
    (0x303A, 0x1001): "ESP32 USB-Serial-JTAG",
    (0x303A, None): "Espressif USB",
    (0x10C4, 0xEA60): "CP210x USB-UART",
    (0x1A86, 0x7523): "CH340 USB-UART",
    (0x1A86, 0x55D3): "CH343 USB-UART",
    (0x1A86, 0x55D4): "CH9102 USB-UART",
    (0x0403, 0x6001): "FT232 USB-UART",
    (0x0403, 0x6010): "FT2232 USB-UART",
    (0x0403, 0x6014): "FT232H USB-UART",
    (0x0403, 0x6015): "FT231X USB-UART",
    (0x2E8A, None): "Raspberry Pi Pico",
    (0x0483, 0x5740): "STM32 USB serial",
}

LINUX_PERMISSION_HINT = (
    "add yourself to the group of serial ports and log in again: sudo usermod -aG dialout $USER (Arch, Fedora: uucp); "
    'or install a udev rule: echo \'SUBSYSTEM=="tty", ATTRS{idVendor}=="303a", MODE="0666"\' | '
    "sudo tee /etc/udev/rules.d/99-tinychat.rules && sudo udevadm control --reload && sudo udevadm trigger"
)
CABLE_HINT = (
    "plug the board in with a cable that carries data (`tinychat list --all` shows every port); "
    "or, without one: --sim model.tlm"
)


@dataclass(frozen=True)
class Port:
    """A serial port of this machine.

    Attributes:
        device: name to open, such as /dev/ttyACM0 or COM3.
        what: the chip behind it, or "" when it is not a known one.
        serial: USB serial number ("" when there is none), by which a board is found again after a reset.
    """

    device: str
    what: str
    vid: int | None
    pid: int | None
    serial: str
    description: str

    @property
    def known(self) -> bool:
        """True when the USB id is one that boards have."""
        return bool(self.what)


def usb_name(vid: int | None, pid: int | None) -> str:
    """Name of the chip with this USB id, or ""."""
    if vid is None:
        return ""
    return USB_IDS.get((vid, pid)) or USB_IDS.get((vid, None)) or ""


def list_ports() -> list[Port]:
    """All serial ports, boards with a known USB id first, Espressif's own before USB-UART chips."""
    from serial.tools import list_ports as pyserial_ports

    ports = []
    for p in pyserial_ports.comports():
        ports.append(Port(p.device, usb_name(p.vid, p.pid), p.vid, p.pid, p.serial_number or "", p.description or ""))
    return sorted(ports, key=lambda p: (not p.known, p.vid != 0x303A, p.device))


def find_board() -> Port:
    """The one board that is plugged in. Raises `NoPortError` when there is none, or more than one."""
    known = [p for p in list_ports() if p.known]
    if not known:
        raise none_found()
    if len(known) > 1:
        names = ", ".join(f"{p.device} ({p.what})" for p in known)
        raise NoPortError(f"More than one board is plugged in: {names}.", f"choose one: --port {known[0].device}")
    return known[0]


def none_found() -> NoPortError:
    """The words for a machine without a board."""
    return NoPortError("No board was found on any serial port.", CABLE_HINT)


def permission_hint(port: str) -> str:
    """What to do when the system refuses to open `port`."""
    if sys.platform.startswith("linux"):
        return LINUX_PERMISSION_HINT
    if sys.platform == "win32":
        return f"close the program that holds {port} (a serial monitor, another tinychat), or replug the board"
    return f"check the owner and mode of {port}: ls -l {port}"
