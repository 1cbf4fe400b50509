"""What a model says of a text: negative log-likelihood, perplexity, scores of continuations.

Two definitions (both of DATA: the shared test data). Stream: the text is one token stream, cut into
non-overlapping windows, the first token of a window is context only. Documents: each document by itself,
BOS in front (context only), cut at the window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .errors import TinyError
from .runtime import Model, Session

Logits = Callable[[Sequence[int]], np.ndarray]  # ids [n] -> float32 logits [n, vocab]


@dataclass
class TextScore:
    """Sum of negative log-likelihoods over the scored tokens of a text."""

    nll_sum: float = 0.0
    tokens: int = 0
    text_bytes: int = 0
    agree: int = 0
    kl_sum: float = 0.0
    steps: list[float] = field(default_factory=list)

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood a token, in nat."""
        return self.nll_sum / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(nll)."""
        return math.exp(min(self.nll, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """Total information over the bytes of the text."""
        return self.nll_sum / math.log(2) / max(self.text_bytes, 1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Natural log-probabilities, float64, over the last axis."""
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


def stream_windows(ids: Sequence[int], window: int) -> list[list[int]]:
    """Non-overlapping windows of a token stream; a last window of one token scores nothing and is left out."""
    cuts = [list(ids[i : i + window]) for i in range(0, len(ids), window)]
    return [c for c in cuts if len(c) > 1]


def document_windows(model: Model, text: str, separator: str, window: int, limit: int | None = None) -> list[list[int]]:
    """Documents of a text, line breaks around them cut off, BOS in front where the model has one, cut at `window`."""
    bos = [model.bos] if model.bos is not None else []
    documents = [d.strip("\r\n") for d in text.split(separator)]
    documents = [d for d in documents if d.strip()][:limit]
    windows = [(bos + model.encode(d))[:window] for d in documents]
    return [w for w in windows if len(w) > 1]


def encode_stream(model: Model, text: str) -> list[int]:
    """Ids of a whole text, literal special tokens matched; TinyError when nothing can be scored."""
    ids = model.encode(text, special=True)
    if len(ids) < 2:
        raise TinyError("the text has fewer than two tokens", "perplexity needs a token to predict")
    return ids


def session_logits(session: Session) -> Logits:
    """The C runtime as a function from ids to logits, each call in a fresh context."""

    def run(ids: Sequence[int]) -> np.ndarray:
        session.rewind(0)
        return session.eval(ids, want="all")

    return run


def score_windows(logits: Logits, windows: Iterable[Sequence[int]], against: Logits | None = None) -> TextScore:
    """NLL of every token but the first of each window; with `against`, agreement and KL(against || logits) too."""
    score = TextScore()
    for ids in windows:
        logp = log_softmax(logits(ids[:-1]))
        targets = np.asarray(ids[1:])
        picked = -logp[np.arange(len(targets)), targets]
        score.nll_sum += float(picked.sum())
        score.tokens += len(targets)
        score.steps.extend(float(v) for v in picked)
        if against is not None:
            ref = log_softmax(against(ids[:-1]))
            score.agree += int((ref.argmax(-1) == logp.argmax(-1)).sum())
            score.kl_sum += float((np.exp(ref) * (ref - logp)).sum())
    if score.tokens == 0:
        raise TinyError("no token of the text can be scored", "give a text of at least two tokens")
    return score


def score_continuations(
    model: Model, session: Session, prompt: str, continuations: Sequence[str], bos: bool
) -> list[tuple[float, int]]:
    """Log-likelihood (nat) and token count of each continuation after `prompt`."""
    head = model.encode(prompt, special=True, bos=bos)
    if not head:
        raise TinyError("the prompt has no tokens", "give a prompt, or let BOS be prepended with --bos")
    out = []
    session.rewind(0)
    last = session.eval(head, want="last")
    start = session.position
    for text in continuations:
        ids = model.encode(text, cont=True)
        if not ids:
            raise TinyError("a continuation has no tokens", "give at least one character")
        session.rewind(start)
        rows = np.concatenate([last, session.eval(ids, want="all")[:-1]]) if len(ids) > 1 else last
        logp = log_softmax(rows)
        out.append((float(logp[np.arange(len(ids)), ids].sum()), len(ids)))
    return out
