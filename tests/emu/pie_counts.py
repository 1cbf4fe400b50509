"""Instructions of the PIE kernels, for the table of budgets (tests/budgets.py), target "esp32s3".

    python tests/emu/pie_counts.py [--update --reason WHY]

Whole calls, all scale work included, counted by the interpreter on the .S files. Cases: linear kernels ROWSxCOLUMNS
and xBATCH; attention 8 dims by positions, one head; feed heads by dims, keys dims by tokens; the rest by values. The
target "esp32s3 token" has whole TinyTalk tokens with the C around the kernels: pie_token.py says how that is counted;
fitted keys are those of rules 12 and 15.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import budgets
from pie_token import WINDOWS, call_count, measure

ROWS = 128
BATCHES = (4, 8, 16)
COLUMNS = (128, 512)
HEAD_SLICES = (16, 32, 96)  # columns of stages of a certified head
TARGET = "esp32s3"


def kernel_counts() -> dict[str, int]:
    """Every kernel on its own."""
    found = {}
    for kind in ("q4_0", "q8_0", "t2"):
        for n in COLUMNS:
            found[f"linear_{kind}/{ROWS}x{n}"] = call_count(f"linear_{kind}", ROWS // 8, n, 1)
            for b in BATCHES:
                batch = "linear_t2" if kind == "t2" else "four_q4_0" if (kind, b) == ("q4_0", 4) else f"batch_{kind}"
                found[f"{batch}/{ROWS}x{n}x{b}"] = call_count(batch, ROWS // 8, n, b)
        for n in HEAD_SLICES:
            found[f"linear_{kind}/{ROWS}x{n}"] = call_count(f"linear_{kind}", ROWS // 8, n, 1)
    for n in COLUMNS:
        found[f"quant/{n}"] = call_count("quant", n // 16, 0, 0)
    for name in ("act_gelu_tanh", "act_silu", "add", "absmax"):
        found[f"{name}/128"] = call_count(name, 128, 0, 0)
    found["codes/128"] = call_count("codes", 128, 0, 0)
    found["centre/128"], found["gain/128"] = call_count("centre", 16, 0, 0), call_count("gain", 32, 1, 0)
    for tokens_of_batch in (1, 16):
        found[f"keys/4x{tokens_of_batch}"] = call_count("keys", tokens_of_batch, 0, 0)
    for dims in (8, 16):
        found[f"feed/4x{dims}"] = call_count("feed", dims, 0, 0)
    found["query/8"], found["divide/8"] = call_count("query", 2, 0, 0), call_count("divide", 2, 0, 0)
    found["scales/48"] = call_count("scales", 3, 0, 0)
    found["range/48"] = call_count("range", 12, 0, 0)
    for name in ("exp", "mul"):
        found[f"{name}/48"] = call_count(name, 48, 0, 0)
    found["exp_near/48"] = call_count("exp_near", 12, 0, 0)
    found["sum8/48"] = call_count("sum8", 6, 0, 0)
    for cache in ("i8", "i4"):
        found[f"score_{cache}/8x48"] = call_count(f"score_{cache}", 3, 8, 0)
        found[f"store_{cache}/128"] = call_count(f"store_{cache}", 128, 0, 0)
        found[f"mix_{cache}/8x32"] = call_count(f"mix_{cache}", 8, 0, 0)
    return found


def kernels() -> budgets.Measured:
    """The kernels' part: no compiler has a say in it."""
    return budgets.Measured(TARGET, "", kernel_counts())


def tokens() -> budgets.Measured:
    """Whole tokens: the C is GCC's for RISC-V."""
    counts = {}
    for cache in ("i8", "i4"):
        plain, fitted = measure(cache), measure(cache, keys=True)
        counts |= {f"{window}, {cache} cache": token.total for window, token in plain.items()}
        counts |= {f"{window}, {cache} cache, fitted keys": fitted[window].total for window in WINDOWS[:2]}
    return budgets.Measured(f"{TARGET} token", budgets.compiler_version("riscv64-unknown-elf-gcc"), counts)


def both() -> Iterator[budgets.Measured]:
    """The kernels, then the tokens."""
    yield kernels()
    yield tokens()


if __name__ == "__main__":
    budgets.command(both)
