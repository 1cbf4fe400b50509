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

# Instructions of a call, "kernel/case": copies of tests/bench/budgets.json, which a test holds equal. The reference
# kernels, which run where the esp32s3 kernels have none, are those of a RISC-V core with a FPU.
COUNTED = {
    "esp32s3": {
        "linear_q4_0/128x128": 5_769,
        "linear_q8_0/128x128": 5_106,
        "linear_t2/128x128": 3_792,
        "batch_q4_0/128x128x8": 34_985,
        "batch_q4_0/128x128x16": 66_121,
        "act_gelu_tanh/128": 5_245,
        "quant/128": 702,
        "centre/128": 453,
        "gain/128": 517,
        "add/128": 230,
        "score_i8/8x48": 412,
        "mix_i8/8x32": 86,
        "range/48": 103,
        "exp_near/48": 1_160,
        "mul/48": 88,
        "sum8/48": 64,
        "query/8": 99,
        "divide/8": 31,
        "scales/48": 42,
        "store_i4/128": 649,
        "keys/4x1": 59,
        "keys/4x16": 344,
        "feed/4x8": 641,
        "feed/4x16": 1_881,
    },
    "rv32imafc": {
        "linear_q4_0/16x128": 13_691,
        "linear_q8_0/16x128": 17_210,
        "linear_t2/16x128": 10_787,
        "linear_t1/16x128": 29_669,
        "linear_f16/16x128": 47_566,
        "linear_f32/16x128": 29_096,
        "kv_feed/16": 2_446,
        "bound/128": 4_113,
    },
}
PIE, REF = COUNTED["esp32s3"], COUNTED["rv32imafc"]
STALLS = 1.25  # cycles an instruction: assumed, nothing here was measured on a board


_REFERENCE = {kind: REF[f"linear_{kind}/16x128"] / 2048 * STALLS for kind in ("q4_0", "q8_0", "t2", "t1", "f16", "f32")}
CYCLES_PER_WEIGHT = {
    "esp32s3": _REFERENCE | {kind: PIE[f"linear_{kind}/128x128"] / 16_384 * STALLS for kind in ("q4_0", "q8_0", "t2")},
    "ref": _REFERENCE,
}
BOUND_CYCLES = REF["bound/128"] / 128 * STALLS  # of a row of a certified head, after each stage
# A batch of n q4_0 vectors, by those of 8 and 16: this once and this for each vector.
BATCH_PER_TOKEN = (PIE["batch_q4_0/128x128x16"] - PIE["batch_q4_0/128x128x8"]) / 16_384 / 8 * STALLS
BATCH_UNPACK = PIE["batch_q4_0/128x128x8"] / 16_384 * STALLS - 8 * BATCH_PER_TOKEN


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
    keys: float

    def seconds(self, decode: bool) -> float:
        """Sampling is paid by decoded tokens only."""
        cycles = self.attention + self.activation + self.rest + self.keys + (self.sampling if decode else 0.0)
        return cycles / CPU_HZ


# The C around the kernels, instructions a unit: from a profile of the code that tests/emu/pie_token.py counts. A test
# holds the whole token that this model gives to the one counted there.
HEAD_C = 272  # of attention: calls
HEAD_REST = 198  # positions of a last page or block that is not whole
SCALES_C = 80  # of a group of heads in a layer: zeros around two rows of scales
GROUP_C = 960  # of a further group in a layer: calls of attention and of two stores
NORM_C = 400  # the root, a division
MATRIX_C = 730  # calls of a linear layer
CACHED_C = 6.0  # of a value of K or V, its codes and peak in assembly included
CENTRED_C = 55  # of four columns of keys and a batch: their check, a call
FED_C = 17  # of a weight of fed keys and a batch: unpacked
RANKED_C = 12.1  # of a logit
DRAW_C = 9_700
BARRIER_S = 3e-6  # both cores meet, a matrix product: assumed
FIRMWARE_S = 0.5e-3  # what the firmware does with a token: assumed


def _attention(dim: int, layers: int, heads: int, position: int, groups: int) -> float:
    """Instructions of all heads: a part of a head, a part of a position that grows with the head's dims."""
    by_position = sum(PIE[f"{step}/48"] for step in ("range", "exp_near", "mul", "sum8")) / 48
    by_position += PIE["quant/128"] / 128
    by_dim = 2 / 16 + PIE["mix_i8/8x32"] / 8 / 32  # of a position
    by_position += (PIE["score_i8/8x48"] - 2 * 8 * 3) / 48 + by_dim * dim / heads
    by_head = HEAD_C + HEAD_REST + PIE["query/8"] + PIE["divide/8"] + 10 * (dim / heads - 8)
    scales = groups * (SCALES_C + 2 * PIE["scales/48"] / 48 * (position + 1)) + (groups - 1) * GROUP_C
    return layers * (heads * (by_head + by_position * (position + 1)) + scales)


def _rest(dim: int, layers: int, ffn: int) -> float:
    """Norms, quantised inputs, sums, what goes into the cache, calls."""
    norm = NORM_C + dim * ((PIE["centre/128"] + PIE["gain/128"]) / 128 + PIE["sum8/48"] / 48)
    quant, add = PIE["quant/128"] / 128, PIE["add/128"] / 128
    layer = 2 * norm + (3 * dim + ffn) * quant + (4 * dim + ffn) * add + 2 * dim * CACHED_C + 6 * MATRIX_C
    return layers * layer + norm + dim * quant


@dataclass(frozen=True)
class FittedKeys:
    """Channels of all layers with rule 12 (`centred`, of queries `scaled`) and with the feedback of rule 15 (`fed`).

    `odd`: those that the assembly leaves to the reference, `fed` has the others.
    """

    centred: int = 0
    scaled: int = 0
    fed: int = 0
    odd: int = 0
    head_dim: int = 8


def _fours(dims: int) -> float:
    """Of weights that four heads of fed keys have."""
    return dims * (dims - 1) / 2 + 1


def _fitted(keys: FittedKeys, batch: int) -> float:
    """Instructions of a token of a batch, part of them shared by the batch."""
    row = (PIE["keys/4x16"] - PIE["keys/4x1"]) / 15
    centred = row / 4 + (PIE["keys/4x1"] - row + CENTRED_C) / 4 / batch
    four = (PIE["feed/4x16"] - 2 * PIE["feed/4x8"]) / (_fours(16) - 2 * _fours(8))
    value = (PIE["feed/4x8"] - four * _fours(8)) / 32 - PIE["store_i4/128"] / 128  # more than without feedback
    fed = value + (four / 4 + FED_C / batch) * _fours(keys.head_dim) / keys.head_dim
    odd = REF["kv_feed/16"] / 16 / (8 + 1) * (keys.head_dim + 1) - PIE["store_i4/128"] / 128  # counted for heads of 8
    return keys.centred * centred + keys.scaled * PIE["mul/48"] / 48 + keys.fed * fed + keys.odd * odd


def extras(
    dim: int,
    layers: int,
    heads: int,
    ffn: int,
    vocab: int,
    position: int,
    cores: int,
    keys: FittedKeys = FittedKeys(),
    batch: int = 1,
    groups: int = 1,
) -> Extras:
    """Counted instructions times STALLS; attention runs on all cores, the rest on one. The waiting is assumed."""
    return Extras(
        attention=_attention(dim, layers, heads, position, groups) * STALLS / cores,
        activation=layers * ffn * PIE["act_gelu_tanh/128"] / 128 * STALLS,
        rest=_rest(dim, layers, ffn) * STALLS + (6 * layers + 1) * BARRIER_S * CPU_HZ,
        sampling=(vocab * RANKED_C + DRAW_C) * STALLS + FIRMWARE_S * CPU_HZ,
        keys=_fitted(keys, batch) * STALLS,
    )
