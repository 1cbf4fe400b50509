"""A TCP line: an emulated board's UART, or a simulator that listens on a port."""

from __future__ import annotations

import select
import socket
from urllib.parse import urlsplit

from .errors import ChatError, LinkLostError, NoPortError
from .transport import Transport

CONNECT_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 10.0


class SocketTransport(Transport):
    """`socket://host:port`. Small writes leave at once: Nagle's algorithm would add 50 ms an exchange."""

    lossy = False

    def __init__(self, url: str) -> None:
        self.name = url
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or port is None:
            raise ChatError(f"'{url}' does not name a host and a port.", "write it as socket://localhost:5601")
        self._address = (host, port)
        self._socket: socket.socket | None = None
        self.reopen()

    def read(self, timeout: float) -> bytes:
        """See `Transport.read`."""
        line = self._line()
        try:
            ready, _, _ = select.select([line], [], [], timeout)
            if not ready:
                return b""
            data = line.recv(65536)
        except (OSError, ValueError) as err:
            raise self._lost(str(err)) from err
        if not data:
            raise self._lost("the other end hung up")
        return data

    def write(self, data: bytes) -> None:
        """See `Transport.write`."""
        try:
            self._line().sendall(data)
        except OSError as err:
            raise self._lost(str(err)) from err

    def close(self) -> None:
        """See `Transport.close`."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def reopen(self) -> None:
        """See `Transport.reopen`."""
        self.close()
        try:
            line = socket.create_connection(self._address, timeout=CONNECT_TIMEOUT_S)
        except (OSError, OverflowError) as err:
            raise NoPortError(
                f"Nothing accepts connections at {self.name} ({err}).", "start the emulator or simulator first"
            ) from err
        line.settimeout(WRITE_TIMEOUT_S)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = line

    def _line(self) -> socket.socket:
        if self._socket is None:
            raise LinkLostError(f"The connection to {self.name} is closed.")
        return self._socket

    def _lost(self, reason: str) -> LinkLostError:
        self.close()
        return LinkLostError(f"The connection to {self.name} was lost ({reason}).")
