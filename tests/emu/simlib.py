"""The firmware's app in this process: the simulator's harness through ctypes, with a clock that tests move.

`Sim` is a board; `SimLink` is a tinychat transport to it that may garble bytes, break, or restart the board.
"""

from __future__ import annotations

import ctypes as c
import random
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import cbuild

from tinychat.errors import LinkLostError
from tinychat.session import Clock
from tinychat.transport import Transport

APP = ROOT / "firmware" / "app"
SIM = ROOT / "firmware" / "boards" / "sim_posix"
INCLUDES = [f"-I{APP}", f"-I{SIM}", f"-I{SIM.parent}"]
# Bits of sim_state.
POWER_OFF, MISUSED, REBOOT, BUSY = 1, 2, 4, 8


def app_sources() -> list[Path]:
    """Sources of the app and of the simulated board, without a main."""
    return [*sorted(APP.glob("*.c")), SIM / "sim_board.c", SIM / "sim_flash.c", SIM / "harness.c"]


def _stale(out: Path, sources: list[Path]) -> bool:
    headers = [*APP.glob("*.h"), *SIM.glob("*.h"), SIM.parent / "board.h", cbuild.BUILD / "gcc" / "libtlm.a"]
    return not out.exists() or out.stat().st_mtime < max(p.stat().st_mtime for p in [*sources, *headers])


@lru_cache
def library() -> c.CDLL:
    """The harness as a shared library."""
    archive = cbuild.library("gcc")
    out = cbuild.BUILD / "gcc" / "libtlm_simlib.so"
    with cbuild.locked(cbuild.BUILD / "gcc"):
        if _stale(out, app_sources()):
            flags = [*cbuild.NUMERIC, *cbuild.WARNINGS, "-O2", "-fPIC", "-shared", *INCLUDES, *cbuild.INCLUDES]
            new = out.with_suffix(".new")
            cbuild.run([cbuild.present("gcc"), *flags, *app_sources(), archive, "-o", new])
            new.rename(out)
    lib = c.CDLL(str(out))
    lib.sim_new.restype = c.c_void_p
    lib.sim_new.argtypes = [
        c.c_void_p,
        c.c_size_t,
        c.c_void_p,
        c.c_uint32,
        c.c_uint8,
        c.c_uint32,
        c.c_uint32,
        c.c_char_p,
    ]
    for name, args, result in (
        ("free", [], None),
        ("boot", [c.c_uint64, c.c_uint64, c.c_uint64], None),
        ("feed", [c.c_char_p, c.c_size_t], None),
        ("take", [c.c_void_p, c.c_size_t], c.c_size_t),
        ("step", [], c.c_int),
        ("advance", [c.c_uint64], None),
        ("flash_work", [], c.c_uint64),
        ("state", [], c.c_int),
    ):
        function = getattr(lib, f"sim_{name}")
        function.argtypes, function.restype = [c.c_void_p, *args], result
    return lib


def aligned(data: bytes, size: int | None = None) -> tuple[c.Array[c.c_char], int]:
    """A buffer that holds `data` at a 64-byte boundary, filled up with 0xFF; (owner, address)."""
    size = len(data) if size is None else size
    owner = c.create_string_buffer(size + 64)
    address = (c.addressof(owner) + 63) & ~63
    c.memset(address, 0xFF, size)
    c.memmove(address, data, len(data))
    return owner, address


class Sim:
    """A board in memory. `blob` is a fixed model; with `flash` bytes there are model slots and settings instead."""

    TOKEN_US = 1000  # virtual time of a step that works

    def __init__(
        self,
        blob: bytes | None = None,
        *,
        flash: int = 0,
        slots: int = 2,
        memory: int = 0,
        context: int = 0,
        kv: str | None = None,
    ) -> None:
        self.lib = library()
        self._blob, blob_at = aligned(blob) if blob else (None, None)
        self._flash, self._flash_at = aligned(b"", flash + 8192) if flash else (None, None)
        self.flash_bytes = flash
        self._handle = self.lib.sim_new(
            blob_at, len(blob or b""), self._flash_at, flash, slots, memory, context, kv.encode() if kv else None
        )
        assert self._handle
        self.boots = 0
        self.boot()

    def boot(self, cut: int = 0, settings_cut: int = 0) -> None:
        """Power on; it goes off again after `cut` bytes of work of the models' or settings' flash (0 = never)."""
        self.boots += 1
        self.lib.sim_boot(self._handle, self.boots * 7919, cut, settings_cut)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.lib.sim_free(self._handle)

    @property
    def flash(self) -> bytes:
        return c.string_at(self._flash_at, self.flash_bytes)

    @flash.setter
    def flash(self, data: bytes) -> None:
        c.memmove(self._flash_at, data, len(data))

    @property
    def settings_flash(self) -> bytes:
        return c.string_at(self._flash_at + self.flash_bytes, 8192)

    @settings_flash.setter
    def settings_flash(self, data: bytes) -> None:
        c.memmove(self._flash_at + self.flash_bytes, data, len(data))

    @property
    def flash_work(self) -> int:
        return int(self.lib.sim_flash_work(self._handle))

    def state(self, bit: int) -> bool:
        return bool(self.lib.sim_state(self._handle) & bit)

    def feed(self, data: bytes) -> None:
        self.lib.sim_feed(self._handle, data, len(data))

    def take(self) -> bytes:
        """All output so far."""
        parts = []
        buffer = c.create_string_buffer(65536)
        while n := self.lib.sim_take(self._handle, buffer, len(buffer)):
            parts.append(buffer.raw[:n])
        return b"".join(parts)

    def step(self) -> bool:
        """One step; True when there is more to do."""
        more = bool(self.lib.sim_step(self._handle))
        if self.state(REBOOT):
            self.boot()
            return True
        return more

    def advance(self, seconds: float) -> None:
        self.lib.sim_advance(self._handle, int(seconds * 1e6))

    def run(self, limit: int = 200_000) -> bytes:
        """Steps until nothing is left to do; returns the output."""
        for _ in range(limit):
            self.advance(self.TOKEN_US / 1e6)
            if not self.step():
                return self.take()
        raise AssertionError(f"the app is still busy after {limit} steps")


def typed(sim: Sim, data: bytes) -> str:
    """What a person sees who types `data` after a pause."""
    sim.advance(3)
    sim.step()
    sim.feed(data)
    return sim.run().decode()


class SimClock(Clock):
    """Virtual time: the link moves it."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Faults:
    """Harm to a line. Rates are per byte; `breaks` and `reboots` are counts of bytes after which it happens."""

    rng: random.Random = field(default_factory=lambda: random.Random(0))
    lose: float = 0.0
    double: float = 0.0
    flip: float = 0.0
    swap: float = 0.0
    breaks: list[int] = field(default_factory=list)
    reboots: list[int] = field(default_factory=list)

    def garble(self, data: bytes) -> bytes:
        """`data` with some bytes lost, doubled, changed in a bit, or exchanged with their neighbour."""
        if not (self.lose or self.double or self.flip or self.swap):
            return data
        out = bytearray()
        total = self.lose + self.double + self.flip + self.swap
        at = 0
        while at < len(data):
            gap = int(self.rng.expovariate(total))
            out += data[at : at + gap]
            at += gap
            if at >= len(data):
                break
            pick = self.rng.uniform(0, total)
            if pick < self.lose:
                pass
            elif pick < self.lose + self.double:
                out += data[at : at + 1] * 2
            elif pick < self.lose + self.double + self.flip:
                out.append(data[at] ^ 1 << self.rng.randrange(8))
            else:
                out += data[at : at + 2][::-1]
                at += 1
            at += 1
        return bytes(out)


class SimLink(Transport):
    """A tinychat transport to a `Sim` in virtual time."""

    name = "sim in memory"
    SLICE = 40  # steps of the board a read may take before it returns

    def __init__(self, sim: Sim, clock: SimClock | None = None, faults: Faults | None = None) -> None:
        self.sim = sim
        self.clock = clock or SimClock()
        self.faults = faults or Faults()
        self.moved = 0  # bytes in both directions
        self.connected = True

    def _count(self, n: int) -> None:
        self.moved += n
        if self.faults.reboots and self.moved >= self.faults.reboots[0]:
            self.faults.reboots.pop(0)
            self.sim.boot()
        if self.faults.breaks and self.moved >= self.faults.breaks[0]:
            self.faults.breaks.pop(0)
            self.connected = False

    def read(self, timeout: float) -> bytes:
        if not self.connected:
            raise LinkLostError("The line broke.")
        data = b""
        busy = True
        for _ in range(self.SLICE):
            self._pass(0.001)
            busy = self.sim.step()
            data += self.sim.take()
            if not busy:
                break
        if not busy and not data:
            self._pass(timeout)  # nothing to do for the board: the reader waits it out
            self.sim.step()
            data = self.sim.take()
        self._count(len(data))
        return self.faults.garble(data)

    def _pass(self, seconds: float) -> None:
        self.clock.time += seconds
        self.sim.advance(seconds)

    def write(self, data: bytes) -> None:
        if not self.connected:
            raise LinkLostError("The line broke.")
        self.sim.feed(self.faults.garble(data))
        self._count(len(data))

    def close(self) -> None:
        self.connected = False

    def reopen(self) -> None:
        self.connected = True
        self.sim.take()


@lru_cache
def simulator() -> Path:
    """The program tlm-sim, built from the sources."""
    archive = cbuild.library("gcc")
    tools = cbuild.RUNTIME / "tools"
    sources = [s for s in app_sources() if s.name != "harness.c"] + [
        SIM / "main.c",
        SIM / "line.c",
        tools / "tlm_pool.c",
    ]
    out = cbuild.BUILD / "gcc" / "tlm-sim"
    with cbuild.locked(cbuild.BUILD / "gcc"):
        if _stale(out, sources):
            flags = [*cbuild.NUMERIC, *cbuild.WARNINGS, "-O2", *INCLUDES, *cbuild.INCLUDES, f"-I{tools}"]
            new = out.with_suffix(".new")
            cbuild.run([cbuild.present("gcc"), *flags, *sources, archive, "-lpthread", "-o", new])
            new.rename(out)
    return out
