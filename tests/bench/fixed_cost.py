"""What a decode step costs before any weight is read: a model of 1 layer, d 16, vocabulary 32.

    python tests/bench/fixed_cost.py [--json]

Prints microseconds a greedy step, sampler included: the median of 51 runs of 64 steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "c")]
import blobs

from tinyexport.blob.content import BlobContent
from tinyexport.blob.writer import build
from tinyexport.runtime import Model
from tinyexport.spec import LayerSpec

RUNS, STEPS = 51, 64
GOAL_US = 5.0
FFN = 32


def blob() -> bytes:
    """A gated Llama layer with one head of 16."""
    layers, freqs = (LayerSpec(1, FFN, blobs.GATED),), tuple(100.0 ** (-i / 8) for i in range(8))
    spec = blobs.spec(dim=16, n_heads=1, head_dim=16, vocab=32, layers=layers, rope_dims=16, rope_freqs=freqs)
    weights = blobs.tensors(spec, ("q4_0",), np.random.default_rng(0))
    return build(BlobContent(spec=spec, tensors=weights, chat=blobs.CHAT, info=blobs.INFO))


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    session = Model(blob()).session(kv="f32")
    session.bench(1, STEPS)
    us = statistics.median(session.bench(1, STEPS)[1] for _ in range(RUNS)) / STEPS * 1e6
    if parser.parse_args().json:
        print(json.dumps({"us": us, "goal_us": GOAL_US, "backend": session.backend}))
        return
    print(f"{us:.2f} us a step ({session.backend}); goal {GOAL_US:g}: {'reached' if us <= GOAL_US else 'NOT REACHED'}")


if __name__ == "__main__":
    main()
