"""python tests/bench/certified.py PLAIN.tlm CERTIFIED.tlm: decode with either head, interleaved, as a ratio of medians.

One thread, KV i8, the same tokens into both, processor time. The layers and the sampler count too.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

from tinyexport.runtime import Model, Sampler, Session

ROUNDS, TOKENS = 25, 120


def seconds(session: Session, ids: np.ndarray, top_k: int) -> float:
    """Of one token, its logits searched for the `top_k` best."""
    sampler = Sampler(top_k=top_k)
    session.rewind(0)
    start = time.process_time()
    for i in range(len(ids)):
        session.eval_sample(ids[i : i + 1], sampler)
    return (time.process_time() - start) / len(ids)


def written(session: Session, model: Model) -> np.ndarray:
    """Tokens that the model writes: what a token costs depends on them."""
    sampler, ids = Sampler(temperature=0.8, top_k=40, seed=1), [1]
    while len(ids) < min(TOKENS, model.context):
        session.eval_sample(ids[-1:], sampler)
        ids.append(sampler.sample().id)
    return np.array(ids)


def main(paths: list[str]) -> None:
    """Print one line a top-k."""
    models = [Model(path) for path in paths]
    sessions = [model.session(kv="i8") for model in models]
    ids = written(sessions[0], models[0])
    print(f"{sessions[0].backend}, {len(ids)} tokens")
    for top_k in (1, 40, 256):
        runs = [[seconds(s, ids, top_k) for s in sessions] for _ in range(ROUNDS)]
        plain, certified = (statistics.median(times) for times in zip(*runs, strict=True))
        ratio = statistics.median(a / b for a, b in runs)
        print(f"top-k {top_k:3}: plain {plain * 1e6:6.1f} us, certified {certified * 1e6:6.1f} us, ratio {ratio:.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
