"""The loader in an ESP32-S3's ROM, as far as esptool needs it to write flash: SLIP packets over TCP."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import zlib

CHIP_ID_S3 = 9
FLASH_ID_REGISTER = 0x60002058  # W0 of SPI1: where the flash chip's answer to "read id" stands
FLASH_ID = 0x1840C8  # 16 MB
SYNC, FLASH_BEGIN, FLASH_DATA, FLASH_END, READ_REG, WRITE_REG = 0x08, 0x02, 0x03, 0x04, 0x0A, 0x09
SPI_SET_PARAMS, SPI_ATTACH, DEFL_BEGIN, DEFL_DATA, DEFL_END, FLASH_MD5, SECURITY = (
    0x0B,
    0x0D,
    0x10,
    0x11,
    0x12,
    0x13,
    0x14,
)


def slip(packet: bytes) -> bytes:
    return b"\xc0" + packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


def unslip(packet: bytes) -> bytes:
    return packet.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")


class FakeRom:
    """Listens on `url`; what was written is in `flash` (erased bytes are 0xFF)."""

    def __init__(self, size: int = 16 << 20, worn_at: int | None = None) -> None:
        self.flash = bytearray(b"\xff") * size
        self._worn_at = worn_at
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _run(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with line:
                self._serve(line)

    def _serve(self, line: socket.socket) -> None:
        pending = b""
        while True:
            try:
                data = line.recv(65536)
            except OSError:
                return
            if not data:
                return
            pending += data
            while pending.count(b"\xc0") >= 2:
                _, packet, pending = pending.split(b"\xc0", 2)
                if packet:
                    line.sendall(self._answer(unslip(packet)))
                else:
                    pending = b"\xc0" + pending

    def _answer(self, packet: bytes) -> bytes:
        _, op, _size, _check = struct.unpack_from("<BBHI", packet)
        value, extra = 0, b""
        body = packet[8:]
        if op == READ_REG:
            value = FLASH_ID if struct.unpack("<I", body)[0] == FLASH_ID_REGISTER else 0
        elif op == SECURITY:
            extra = struct.pack("<IB7sII", 0, 0, bytes(7), CHIP_ID_S3, 0)
        elif op in (FLASH_BEGIN, DEFL_BEGIN):
            size, _blocks, _block, self._at = struct.unpack_from("<IIII", body)
            self._inflate = zlib.decompressobj() if op == DEFL_BEGIN else None
            erase = (size + 4095) // 4096 * 4096
            self.flash[self._at : self._at + erase] = b"\xff" * erase
        elif op in (FLASH_DATA, DEFL_DATA):
            data = body[16:]
            if self._inflate:
                data = self._inflate.decompress(data)
            self.flash[self._at : self._at + len(data)] = data
            if self._worn_at is not None and self._at <= self._worn_at < self._at + len(data):
                self.flash[self._worn_at] ^= 1
            self._at += len(data)
        elif op == FLASH_MD5:
            at, size = struct.unpack_from("<II", body)
            extra = hashlib.md5(self.flash[at : at + size]).hexdigest().encode()
        answer = slip(struct.pack("<BBHI", 1, op, len(extra) + 4, value) + extra + bytes(4))
        return answer * (8 if op == SYNC else 1)
