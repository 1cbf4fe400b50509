"""When does a model know that it does not know? A threshold for replies, from dialogues with known replies.

For every user turn of a text in the model's own template the model replies by itself, as a device would, and two
numbers of that reply are kept: the mean and the minimum of its tokens' log-probabilities over the sampler's
candidates. The error of the turn is the model's negative log-likelihood of the reply that the text has. Handing the
least confident turns to a bigger model leaves the others; the curve is their perplexity against the share handed on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..blob.schema import ChatKind
from ..errors import ConfigError, TinyError
from ..measure import log_softmax
from ..runtime import Model, Sampler, Session, generate
from .sampling import Progress, Settings

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
REPLY_TOKENS = 60


@dataclass(frozen=True)
class Turn:
    """One user turn: everything before the reply, and the reply that the text has."""

    before: str
    reply: str


@dataclass(frozen=True)
class Judged:
    """A turn, the model's confidence in its own reply (nat), and its loss on the true one."""

    mean: float
    minimum: float
    nll_sum: float
    tokens: int


def find_turns(model: Model, text: str) -> list[Turn]:
    """Turns of the dialogues (blank lines apart) of a text in the model's template."""
    chat = model.chat
    if chat is None or chat.kind is not ChatKind.TURNS:
        raise ConfigError("a model that continues texts has no replies to be sure of", "leave --dialogues out")
    turn = re.compile(
        re.escape(chat.user_prefix) + ".*?" + re.escape(chat.reply_prefix) + "(.*?)" + re.escape(chat.turn_end), re.S
    )
    out = []
    for dialogue in re.split(r"\n[ \t]*\n", text):
        whole = dialogue if dialogue.endswith(chat.turn_end) else dialogue + "\n"
        out += [Turn(whole[: m.start(1)], m.group(1)) for m in turn.finditer(whole) if m.group(1).strip()]
    if not out:
        raise ConfigError("the text has no turn in this model's template", f"turns look like {_shape(chat)!r}")
    return out


def _shape(chat: Any) -> str:
    return f"{chat.user_prefix}...{chat.reply_prefix}...{chat.turn_end}"


def judge(model: Model, session: Session, turn: Turn, seed: int) -> Judged | None:
    """None when the turn does not fit the context, or the model says nothing."""
    assert model.chat is not None
    head = model.encode(turn.before, special=True, bos=model.chat.add_bos)
    reply = model.encode(turn.reply, cont=True)
    if not head or not reply or len(head) + max(len(reply), REPLY_TOKENS) >= session.context:
        return None
    session.rewind(0)
    ids = head + reply
    logp = log_softmax(session.eval(ids[:-1], want=[i >= len(head) - 1 for i in range(len(ids) - 1)]))
    nll = -float(logp[np.arange(len(reply)), reply].sum())
    session.rewind(len(head) - 1)
    sampler = Sampler(model, seed=seed)
    steps = generate(session, sampler, head[-1:], REPLY_TOKENS, stop_strings=model.chat.stop_strings)
    sure = [step.choice.logprob for step in steps]
    return Judged(sum(sure) / len(sure), min(sure), nll, len(reply)) if sure else None


def trade_off(judged: Sequence[Judged], rule: str) -> list[dict[str, float]]:
    """Perplexity of the kept turns for each share handed on by `rule` ("mean" or "minimum"), and its threshold."""
    ranked = sorted(judged, key=lambda j: float(getattr(j, rule)))
    out = []
    for share in SHARES:
        at = round(share * len(ranked))
        kept = ranked[at:]
        if not kept:
            continue
        nll = sum(j.nll_sum for j in kept) / sum(j.tokens for j in kept)
        out.append(
            {"escalated": at / len(ranked), "threshold": float(getattr(kept[0], rule)), "perplexity": math.exp(nll)}
        )
    return out


def rank_correlation(judged: Sequence[Judged], rule: str) -> float:
    """Spearman's rho of confidence against loss a token; -1 is a perfect judge, 0 a blind one."""
    sure = np.array([getattr(j, rule) for j in judged]).argsort().argsort()
    loss = np.array([j.nll_sum / j.tokens for j in judged]).argsort().argsort()
    return float(np.corrcoef(sure, loss)[0, 1])


def calibrate(model: Model, text: str, limit: int, settings: Settings, progress: Progress) -> dict[str, Any]:
    """The trade-off curves of at most `limit` turns, spread over the text; TinyError when under 10 can be judged."""
    turns = find_turns(model, text)
    chosen = [turns[i] for i in np.unique(np.linspace(0, len(turns) - 1, min(limit, len(turns))).astype(int))]
    session = model.session(kv=settings.kv, threads=settings.threads)
    results = [judge(model, session, turn, i) for i, turn in enumerate(progress(chosen, "confidence"))]
    judged = [j for j in results if j is not None]
    if len(judged) < 10:
        raise TinyError(f"only {len(judged)} turns can be judged", "give a text of more or shorter dialogues")
    return {
        "turns": len(judged),
        "skipped": len(results) - len(judged),
        "perplexity": math.exp(sum(j.nll_sum for j in judged) / sum(j.tokens for j in judged)),
        "rank_correlation": {rule: rank_correlation(judged, rule) for rule in ("mean", "minimum")},
        "mean": trade_off(judged, "mean"),
        "minimum": trade_off(judged, "minimum"),
        "best": trade_off([Judged(-j.nll_sum / j.tokens, 0, j.nll_sum, j.tokens) for j in judged], "mean"),
    }
