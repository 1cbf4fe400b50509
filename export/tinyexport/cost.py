"""A model of decode speed on an ESP32-S3: every figure it gives is a prediction.

One idea: a weight byte that does not live in SRAM is a compulsory cache miss, the cache is blocking and shared by
both cores, and the SPI bus serves one line at a time. With Tm = cycles the bus needs for a line and Tc = cycles the CPU
needs to use it, one core takes Tm + Tc a line, n cores max(1.06 Tm, (Tm + Tc)/n); what is no weight product is added.
Line-fill times are fitted to public measurements (the tiers marked "measured"); nothing here was measured on a board by
this project.
"""

from __future__ import annotations

from dataclasses import dataclass

CPU_HZ = 240e6
QUEUE_LOSS = 0.06  # two cores on one bus, fitted once


@dataclass(frozen=True)
class Tier:
    """A memory behind the cache: bus clock, clocks a byte, clocks of overhead a line fill."""

    hz: float
    clocks_per_byte: float
    overhead: float
    measured: bool

    def line_cycles(self, line: int, slower: float = 1.0) -> float:
        """CPU cycles to fill one line of `line` bytes; `slower` scales the overhead."""
        return (self.overhead * slower + self.clocks_per_byte * line) / self.hz * CPU_HZ


TIERS = {
    "DIO flash 80": Tier(80e6, 4.0, 28, False),
    "QIO flash 80": Tier(80e6, 2.0, 24, True),
    "QIO flash 120": Tier(120e6, 2.0, 28, False),
    "quad PSRAM 80": Tier(80e6, 2.0, 16, True),
    "octal flash DTR 80": Tier(80e6, 0.5, 28, False),
    "octal PSRAM DTR 80": Tier(80e6, 0.5, 24, True),
    "octal PSRAM DTR 120": Tier(120e6, 0.5, 26, False),
    "octal PSRAM DTR 40": Tier(40e6, 0.5, 24, False),
}

# Instructions a weight of the esp32s3 kernels at 128 columns, counted by tests/emu (pie_counts.json); what a core waits
# beyond one cycle an instruction is assumed. The other figures are estimates.
STALLS = 1.25
CYCLES_PER_WEIGHT = {
    "esp32s3": {
        "q4_0": 0.351 * STALLS,
        "q8_0": 0.311 * STALLS,
        "t2": 0.231 * STALLS,
        "t1": 6.0,
        "f16": 9.0,
        "f32": 5.0,
    },
    "ref": {"q4_0": 9.0, "q8_0": 6.0, "t2": 7.0, "t1": 9.0, "f16": 12.0, "f32": 7.0},
}
# A batch of n q4_0 vectors: counted 0.327 n at n = 4 and 0.270 n at n = 16, so this once and this for each vector.
BATCH_UNPACK = 0.304 * STALLS
BATCH_PER_TOKEN = 0.251 * STALLS


def stream_seconds(
    nbytes: float, weights: float, tier: Tier, line: int, cpw: float, cores: int, slower: float = 1.0
) -> float:
    """Seconds to stream `nbytes` that carry `weights`, `cpw` CPU cycles each."""
    if nbytes <= 0:
        return 0.0
    lines = nbytes / line
    bus, cpu = tier.line_cycles(line, slower), cpw * weights / lines
    per_line = bus + cpu if cores == 1 else max(bus * (1 + QUEUE_LOSS), (bus + cpu) / cores)
    return lines * per_line / CPU_HZ


@dataclass(frozen=True)
class Extras:
    """Cycles of one token outside the weight products."""

    attention: float
    activation: float
    rest: float
    sampling: float

    def seconds(self, decode: bool) -> float:
        """Sampling is paid by decoded tokens only."""
        cycles = self.attention + self.activation + self.rest + (self.sampling if decode else 0.0)
        return cycles / CPU_HZ


def extras(dim: int, layers: int, heads: int, ffn: int, vocab: int, position: int, cores: int) -> Extras:
    """Attention 60 cycles a head and position, activations 20, norms and quantisation 15 an element, a barrier of
    3 us a matrix product, 5 cycles a vocabulary row and 50,000 for the draw. Estimates.
    """
    return Extras(
        attention=layers * heads * position * 60 / cores,
        activation=layers * ffn * 20 / cores,
        rest=layers * dim * 2 * 15 + (2 * layers + 1) * dim * 15 + (6 * layers + 1) * 3e-6 * CPU_HZ,
        sampling=vocab * 5 + 50e3 + 0.0005 * CPU_HZ,
    )
