"""Instruction counts of the PIE kernels, and what a TinyTalk token takes by them.

`python tests/emu/pie_counts.py` writes pie_counts.json; test_pie_counts.py fails where a kernel needs more than 3 %
over the table. Counts are of the assembly alone, whole calls, all scale work included; the C around it is in the
estimate as stated in `CALLER`, not in the table.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pie_host import make_case
from pie_run import run_floats, run_linear, run_quant_halves, run_score_pages

TABLE = Path(__file__).with_name("pie_counts.json")
ROWS = 128
BATCHES = (4, 8, 16)


def linear_counts() -> dict[str, dict[str, float]]:
    """kernel/columns[/batch] -> instructions and instructions a weight and vector, 128 rows."""
    found = {}
    for n in (128, 512):
        for kind in ("q4_0", "q8_0", "t2"):
            case = make_case(kind, ROWS, n, 16, n)
            plans = [(f"linear_{kind}", 1)]
            plans += [(f"batch_{kind}" if kind != "t2" else "linear_t2", b) for b in BATCHES]
            for kernel, batch in plans:
                _, count = run_linear(kernel, case, slice(0, batch))
                key = f"{kernel}/{n}" + (f"/{batch}" if batch > 1 else "")
                found[key] = {"instructions": count, "per_weight": round(count / (ROWS * n * batch), 4)}
    return found


def other_counts() -> dict[str, dict[str, float]]:
    """Quantisation, activation, addition of a vector; attention of one head of 8 dims over 48 positions."""
    found = {}
    rng = np.random.default_rng(0)
    for n in (128, 512):
        x = rng.normal(0, 1, n).astype(np.float32)
        found[f"quant/{n}"] = per(run_quant_halves(x), "per_value", n)
    x = rng.normal(0, 1, 128).astype(np.float32)
    found["act_gelu_tanh/128"] = per(run_floats("act", "act_gelu_tanh", x, [0, 128]), "per_value", 128)
    found["act_silu/128"] = per(run_floats("act", "act_silu", x, [0, 128]), "per_value", 128)
    found["add/128"] = per(run_floats("add", "add", x, [x, 128]), "per_value", 128)
    found["max/48"] = per(run_floats("softmax", "max", x, [48]), "per_position", 48)
    found["exp/48"] = per(run_floats("softmax", "exp", x, [48, np.array([9], np.float32)]), "per_position", 48)
    found["sum8/48"] = per(run_floats("softmax", "sum8", x, [6]), "per_position", 48)
    for cache in ("i8", "i4"):
        score, mix = run_score_pages(cache, 3, 8)
        found[f"score_{cache}/8x48"] = per(score, "per_position", 48)
        found[f"mix_{cache}/8x32"] = per(mix, "per_position", 32)
    found["quant/32"] = per(run_quant_halves(x[:32]), "per_value", 32)
    return found


def per(instructions: int, unit: str, count: int) -> dict[str, float]:
    """An entry of the table."""
    return {"instructions": instructions, unit: round(instructions / count, 2)}


def all_counts() -> dict[str, dict[str, float]]:
    """The whole table, measured."""
    return linear_counts() | other_counts()


# What the C around the kernels takes, in instructions a unit: estimated from the shape of the loops, not measured.
CALLER = {
    "linear call": 120,  # arguments, scales_fit over 4 blocks, entry and return
    "scale": 70,  # of a quantised block: a division (about 40) and the rest
    "head": 380,  # query codes 210, calls 60, -0.0 and 1/Z over 8 dims 95
    "block of positions": 140,  # of a head: a scale, and the calls of product, quantisation and mix
    "normed value": 14,
    "cached value": 14,  # kv_store
    "ranked logit": 6,  # the top candidate while rows stream
}


PEAK, PRODUCT = 1.0, 1.9  # of a position: tlm_k_s3_absmax and tlm_k_s3_mul


def attention(counts: dict[str, dict[str, float]], positions: int, cache: str) -> float:
    """Instructions of one head of 8 dims over `positions` of an i8 or i4 cache."""
    blocks = (positions + 31) // 32
    steps = ("max/48", "exp/48", "sum8/48", f"score_{cache}/8x48")
    a_position = sum(counts[k]["per_position"] for k in steps) + PEAK + PRODUCT
    a_block = (
        counts["quant/32"]["instructions"] + counts[f"mix_{cache}/8x32"]["instructions"] + CALLER["block of positions"]
    )
    return CALLER["head"] + positions * a_position + blocks * a_block


def tinytalk(counts: dict[str, dict[str, float]], position: int, batch: int = 1, cache: str = "i8") -> dict[str, float]:
    """Instructions of one token of TinyTalk (d 128, 8 layers, 16 heads of 8, ffn 512, vocabulary 14,019) at `position`.

    Args:
        batch: 1 for a decode step with head; else a share of a prefill batch without one.
    """
    tail = f"/{batch}" if batch > 1 else ""
    kernel = "batch_q4_0" if batch > 1 else "linear_q4_0"

    def weights(n: int) -> float:
        return counts[f"{kernel}/{n}{tail}"]["per_weight"]

    layers, d, ffn, heads, vocabulary = 8, 128, 512, 16, 14_019
    blocks = 3 * d // 32 + ffn // 32
    quant = 3 * counts["quant/128"]["instructions"] + counts["quant/512"]["instructions"]
    a_layer = {
        "core weights": 4 * d * d * weights(128) + d * ffn * weights(128) + ffn * d * weights(512),
        "calls": 6 * CALLER["linear call"] / batch,
        "quantisation": quant + blocks * CALLER["scale"],
        "attention": heads * attention(counts, position + 1, cache),
        "activation": ffn * counts["act_gelu_tanh/128"]["per_value"],
        "norms": 2 * d * CALLER["normed value"],
        "biases and residuals": (4 * d + ffn) * counts["add/128"]["per_value"],
        "cache": 2 * d * CALLER["cached value"],
    }
    parts = {name: layers * value for name, value in a_layer.items()}
    if batch == 1:
        parts["head weights"] = vocabulary * d * weights(128)
        parts["ranking"] = vocabulary * CALLER["ranked logit"]
    return {**parts, "total": sum(parts.values())}


def prefill(counts: dict[str, dict[str, float]], tokens: int, batch: int) -> float:
    """Instructions of a prompt of `tokens` in batches, the head once."""
    body = sum(tinytalk(counts, position, batch)["total"] for position in range(tokens))
    last = tinytalk(counts, tokens - 1)
    return body + last["head weights"] + last["ranking"]


def main() -> None:
    """Writes the table and prints the estimates."""
    counts = all_counts()
    TABLE.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for key, value in counts.items():
        print(f"{key:28} {value}")
    for name, part in tinytalk(counts, 40).items():
        print(f"{name:40} {part / 1e6:8.3f} M")
    print(f"{'total with an i4 cache':40} {tinytalk(counts, 40, cache='i4')['total'] / 1e6:8.3f} M")
    print(f"{'prefill of 60':40} {prefill(counts, 60, 16) / 1e6:8.3f} M")


if __name__ == "__main__":
    main()
