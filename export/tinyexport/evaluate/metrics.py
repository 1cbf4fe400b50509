"""What is measured of one generated text. Times in ms, probabilities over the whole vocabulary at temperature 1."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

REPEAT_WINDOW = 10
NGRAM = 3


def repetition_rate(tokens: Sequence[Hashable]) -> float:
    """Share of tokens that already stand among the `REPEAT_WINDOW` - 1 tokens before them."""
    repeated = sum(t in tokens[max(0, i - REPEAT_WINDOW + 1) : i] for i, t in enumerate(tokens))
    return repeated / len(tokens)


def coherence_length(tokens: Sequence[Hashable]) -> int:
    """Tokens before the first 3-gram that occurred before begins; all of them when none does."""
    seen = set()
    for i in range(len(tokens) - NGRAM + 1):
        gram = tuple(tokens[i : i + NGRAM])
        if gram in seen:
            return i
        seen.add(gram)
    return len(tokens)


@dataclass(frozen=True)
class Metrics:
    """The nine inference metrics of one sample, or their means; None where a reply has no token to measure."""

    ttft_ms: float | None
    tokens_per_s: float | None
    latency_ms: float | None
    tokens: float | None
    perplexity: float | None
    token_probability: float | None
    repetition_rate: float | None
    coherence_length: float | None
    vocabulary_diversity: float | None


METRIC_NAMES = tuple(f.name for f in fields(Metrics))
TITLES = {
    "ttft_ms": "time to first token, ms",
    "tokens_per_s": "tokens/s",
    "latency_ms": "total latency, ms",
    "tokens": "tokens generated",
    "perplexity": "perplexity of the sample",
    "token_probability": "average token probability",
    "repetition_rate": "repetition rate (10-token window)",
    "coherence_length": "coherence length (tokens before a repeated 3-gram)",
    "vocabulary_diversity": "vocabulary diversity",
}


def measure(ids: Sequence[int], logprobs: Sequence[float], first_s: float, total_s: float) -> Metrics:
    """Of the tokens `ids` with natural log-probabilities `logprobs`; seconds to the first token and to the end."""
    n, latency = len(ids), total_s * 1000
    if n == 0:
        return Metrics(None, None, latency, 0, None, None, None, None, None)
    return Metrics(
        ttft_ms=first_s * 1000,
        tokens_per_s=(n - 1) / (total_s - first_s) if n > 1 and total_s > first_s else None,
        latency_ms=latency,
        tokens=n,
        perplexity=math.exp(min(-sum(logprobs) / n, 700.0)),
        token_probability=sum(math.exp(p) for p in logprobs) / n,
        repetition_rate=repetition_rate(ids),
        coherence_length=coherence_length(ids),
        vocabulary_diversity=len(set(ids)) / n,
    )


def mean(samples: Sequence[Metrics]) -> dict[str, float | None]:
    """Each metric's mean over the samples that have it."""
    rows = [asdict(s) for s in samples]
    out: dict[str, float | None] = {}
    for name in METRIC_NAMES:
        values: list[Any] = [row[name] for row in rows if row[name] is not None]
        out[name] = sum(values) / len(values) if values else None
    return out
