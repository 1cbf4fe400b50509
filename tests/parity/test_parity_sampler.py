"""The sampler chain in C draws what the oracle draws, with the same log-probabilities to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from tinyexport.errors import RuntimeFault
from tinyexport.native import NativeFault
from tinyexport.reference.oracle_math import OracleError
from tinyexport.reference.oracle_sample import OracleSampler
from tinyexport.runtime import Sampler


def random_params(rng: np.random.Generator) -> dict[str, float]:
    return {
        "temperature": float(rng.choice([0.0, 0.1, 0.7, 1.0, 5.0])),
        "top_k": int(rng.choice([0, 1, 2, 40, 256])),
        "top_p": float(rng.choice([1.0, 0.95, 0.5, 1e-6])),
        "min_p": float(rng.choice([0.0, 0.0, 0.05, 0.9])),
        "repeat_penalty": float(rng.choice([1.0, 1.3, 10.0])),
        "repeat_window": int(rng.choice([0, 1, 7, 256])),
        "seed": int(rng.integers(0, 2**63)) * 2 + int(rng.integers(0, 2)),
    }


def random_logits(rng: np.random.Generator, vocab: int) -> np.ndarray:
    """Sometimes with many ties, zeros of both signs, or far apart."""
    x = rng.standard_normal(vocab) * rng.choice([0.1, 3.0, 100.0])
    if rng.random() < 0.4:
        x = np.round(x)
    return x.astype(np.float32) * np.float32(rng.choice([1, 1, 0, -0.0]))


@pytest.mark.parametrize("seed", range(80))
def test_draws_and_logprobs_are_equal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vocab = int(rng.choice([1, 2, 50, 300, 3000]))
    params = random_params(rng)
    mask = rng.random(vocab) < 0.5 if rng.random() < 0.4 else None
    if mask is not None:
        mask[int(rng.integers(0, vocab))] = True
    ours = OracleSampler(**params, allowed=None if mask is None else mask.__getitem__)
    c = Sampler(**params, logprob_all=True, allowed=mask)
    for _ in range(12):
        logits = random_logits(rng, vocab)
        c.feed(logits, slice_rows=int(rng.integers(1, vocab + 1)))
        a, b = c.sample(), ours.sample(logits)
        assert (a.id, a.candidates) == (b.id, b.candidates)
        assert np.array([a.logprob, a.logprob_all], np.float32).tobytes() == (
            np.array([b.logprob, b.logprob_all], np.float32).tobytes()
        )


def test_a_non_finite_logit_is_refused_by_both() -> None:
    logits = np.array([1, np.nan, 2], np.float32)
    with pytest.raises(OracleError):
        OracleSampler().sample(logits)
    with pytest.raises(NativeFault, match="overflowed"):
        Sampler().feed(logits)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": 1.0},
        {"min_p": -0.1},
        {"repeat_penalty": 0.5},
        {"top_k": 257},
        {"repeat_window": 257},
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RuntimeFault, match="a sampling option is out of its range"):
        Sampler(**wrong)


def test_sampling_twice_needs_logits_twice() -> None:
    sampler = Sampler()
    sampler.feed(np.zeros(4, np.float32))
    assert sampler.sample().id == 0
    with pytest.raises(NativeFault):
        sampler.sample()
