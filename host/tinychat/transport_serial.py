"""A serial port through pyserial: USB-Serial-JTAG, USB-UART chips, ptys, rfc2217 URLs."""

from __future__ import annotations

import contextlib
import errno
import sys
from typing import Any

from . import boards
from .errors import ChatError, LinkLostError, NoPortError, PermissionFault, PortBusyError
from .transport import Transport

BAUD = 115200  # USB-Serial-JTAG ignores it; UART consoles of the boards here run at it
WRITE_TIMEOUT_S = 5.0


class SerialTransport(Transport):
    """A serial port, found again by its USB serial number when the board re-enumerates after a reset."""

    def __init__(self, port: str, baud: int = BAUD) -> None:
        self._usb_serial = ""
        if port == "auto":
            found = boards.find_board()
            port, self._usb_serial = found.device, found.serial
        self.name = port
        self._baud = baud
        self._serial: Any = None
        self._open(port)
        if not self._usb_serial:
            self._usb_serial = next((p.serial for p in boards.list_ports() if p.device == port), "")

    def _open(self, port: str) -> None:
        import serial

        try:
            line = serial.serial_for_url(port, do_not_open=True)
            line.baudrate, line.timeout, line.write_timeout = self._baud, 0, WRITE_TIMEOUT_S
            if "://" not in port and sys.platform != "win32":
                line.exclusive = True
            # DTR and RTS stay as the system raises them, both at once: any step between them resets an ESP32.
            line.open()
        except (serial.SerialException, OSError, ValueError) as err:
            raise open_error(port, err) from err
        self._serial, self.name = line, port

    def read(self, timeout: float) -> bytes:
        """See `Transport.read`."""
        import serial

        if self._serial is None:
            raise LinkLostError(f"The connection to {self.name} is closed.")
        try:
            self._serial.timeout = timeout
            first = self._serial.read(1)
            return first + self._serial.read(self._serial.in_waiting) if first else b""
        except (serial.SerialException, OSError, TypeError) as err:
            raise self._lost(err) from err  # TypeError: pyserial, when the port is closed under a read

    def write(self, data: bytes) -> None:
        """See `Transport.write`."""
        import serial

        if self._serial is None:
            raise LinkLostError(f"The connection to {self.name} is closed.")
        try:
            self._serial.write(data)
        except (serial.SerialException, OSError) as err:
            raise self._lost(err) from err

    def close(self) -> None:
        """See `Transport.close`."""
        if self._serial is not None:
            with contextlib.suppress(OSError):  # a port whose device is gone can not be closed properly
                self._serial.close()
            self._serial = None

    def reopen(self) -> None:
        """See `Transport.reopen`. A board may come back under another name: its USB serial number tells."""
        self.close()
        port = self.name
        if self._usb_serial:
            port = next((p.device for p in boards.list_ports() if p.serial == self._usb_serial), port)
        self._open(port)

    def _lost(self, err: Exception) -> LinkLostError:
        self.close()
        return LinkLostError(f"The connection to {self.name} was lost ({_reason(err)}).", "check the cable")


def _reason(err: Exception) -> str:
    text = str(err).strip() or type(err).__name__
    return text.splitlines()[0][:120]


def open_error(port: str, err: Exception) -> ChatError:
    """Turns what pyserial raised into the words for it."""
    text, code = str(err).lower(), getattr(err, "errno", None)
    if code == errno.EACCES or "permission denied" in text:
        return PermissionFault(f"This user may not open {port}.", boards.permission_hint(port))
    if code in (errno.EBUSY, errno.EAGAIN) or any(s in text for s in ("lock", "busy", "access is denied", "in use")):
        return PortBusyError(
            f"{port} is in use by another program.", "close the serial monitor or the other tinychat that holds it"
        )
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO) or any(
        s in text for s in ("no such file", "could not open port", "cannot find", "no such device")
    ):
        return NoPortError(f"There is no port {port}.", boards.CABLE_HINT)
    return NoPortError(f"{port} could not be opened ({_reason(err)}).", boards.CABLE_HINT)
