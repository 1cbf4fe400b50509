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
from pie_run import run_linear, run_quant_halves, run_score_pages

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
    """Quantisation of 128 and 512 values; scores and mix of one head of 8 dims over 48 positions."""
    found = {}
    rng = np.random.default_rng(0)
    for n in (128, 512):
        count = run_quant_halves(rng.normal(0, 1, n).astype(np.float32))
        found[f"quant/{n}"] = {"instructions": count, "per_value": round(count / n, 2)}
    score, mix = run_score_pages(3, 8)
    found["score_i8/8x48"] = {"instructions": score, "per_position": round(score / 48, 2)}
    found["mix_i8/8x32"] = {"instructions": mix, "per_position": round(mix / 32, 2)}
    return found


def all_counts() -> dict[str, dict[str, float]]:
    """The whole table, measured."""
    return linear_counts() | other_counts()


# What the C around the kernels takes, in instructions a unit: counted by hand on the shape of the loops, not measured.
CALLER = {
    "linear call": 120,  # arguments, scales_fit over 4 blocks, entry and return
    "quantised block": 70,  # a division (about 40) and the scale
    "head": 500,  # query codes, a call each of score and mix, -0.0, 1/Z
    "position of a head": 62,  # peak and max 9, exp 30, sum 8, w = e*vs 7, its share of a block's codes 8
    "normed value": 14,
    "activated value": 75,  # gelu_tanh: exp and a division
    "added value": 5,
    "cached value": 14,  # kv_store
    "ranked logit": 6,  # the top candidate while rows stream
}


def tinytalk(counts: dict[str, dict[str, float]], position: int, batch: int) -> dict[str, float]:
    """Instructions of one token of TinyTalk (d 128, 8 layers, 16 heads of 8, ffn 512, vocabulary 14,019) at `position`.

    Args:
        batch: 1 for a decode step with head; else a share of a prefill batch without one.
    """
    tail = f"/{batch}" if batch > 1 else ""
    kernel = "batch_q4_0" if batch > 1 else "linear_q4_0"

    def weights(n: int) -> float:
        return counts[f"{kernel}/{n}{tail}"]["per_weight"]

    layers, d, ffn, heads, vocabulary = 8, 128, 512, 16, 14_019
    per = CALLER
    positions = position + 1
    score, mix = counts["score_i8/8x48"]["per_position"], counts["mix_i8/8x32"]["per_position"]
    blocks = 3 * d // 32 + ffn // 32
    parts = {
        "core weights": layers * (4 * d * d * weights(128) + d * ffn * weights(128) + ffn * d * weights(512)),
        "head weights": 0 if batch > 1 else vocabulary * d * weights(128),
        "calls": layers * 6 * per["linear call"] / batch,
        "quantisation": layers
        * (
            3 * counts["quant/128"]["instructions"]
            + counts["quant/512"]["instructions"]
            + blocks * per["quantised block"]
        ),
        "attention": layers * heads * (per["head"] + positions * (score + mix + per["position of a head"])),
        "norms, activation, residuals, cache": layers
        * (2 * d * per["normed value"] + ffn * per["activated value"] + 5 * d * per["added value"])
        + layers * 2 * d * per["cached value"],
        "ranking": 0 if batch > 1 else vocabulary * per["ranked logit"],
    }
    return {**parts, "total": sum(parts.values())}


def prefill(counts: dict[str, dict[str, float]], tokens: int, batch: int) -> float:
    """Instructions of a prompt of `tokens` in batches, the head once."""
    body = sum(tinytalk(counts, position, batch)["total"] for position in range(tokens))
    last = tinytalk(counts, tokens - 1, 1)
    return body + last["head weights"] + last["ranking"]


def main() -> None:
    """Writes the table and prints the estimates."""
    counts = all_counts()
    TABLE.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for key, value in counts.items():
        print(f"{key:28} {value}")
    for name, value in tinytalk(counts, 40, 1).items():
        print(f"{name:40} {value / 1e6:8.3f} M")
    print(f"{'prefill of 60':40} {prefill(counts, 60, 16) / 1e6:8.3f} M")


if __name__ == "__main__":
    main()
