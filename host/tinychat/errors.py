"""Errors that a person at the keyboard can act on. `cli.py` is the one place that prints them and sets exit codes."""

from __future__ import annotations


class ChatError(Exception):
    """One sentence of what is wrong, and a hint of what to do about it.

    `code` is a short stable name for scripts (`--json` prints it).
    """

    code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NoPortError(ChatError):
    """No board was found, or the named port does not exist."""

    code = "no_port"


class PermissionFault(ChatError):
    """The operating system does not let this user open the port."""

    code = "permission"


class PortBusyError(ChatError):
    """Another program holds the port."""

    code = "port_busy"


class WrongFirmwareError(ChatError):
    """Something answers or stays silent, but it does not speak the protocol."""

    code = "wrong_firmware"


class VersionError(ChatError):
    """Device and tinychat speak different major versions of the protocol."""

    code = "protocol_version"


class DeviceError(ChatError):
    """The device answered a request with an error.

    `number` is the protocol's `Error`, `detail` the number that came with it.
    """

    code = "device"
    number = 0
    detail = 0

    def __init__(self, message: str, hint: str = "", name: str = "device") -> None:
        super().__init__(message, hint)
        self.code = name


class NoModelError(DeviceError):
    """The device holds no model that could answer."""


class LinkLostError(ChatError):
    """The connection broke: cable pulled, board reset, simulator gone."""

    code = "device_lost"


class LinkTimeoutError(ChatError):
    """The device does not answer although the port is open."""

    code = "timeout"


class SimError(ChatError):
    """The simulator is missing, or did not start."""

    code = "sim"


class BlobFileError(ChatError):
    """A .tlm file that is missing, damaged or no blob at all."""

    code = "blob"


class GrammarFileError(ChatError):
    """A grammar or JSON schema that is missing, or does not compile."""

    code = "grammar"


class FlashError(ChatError):
    """esptool is missing, a build folder lacks a file, or the flashing itself failed."""

    code = "flash"
