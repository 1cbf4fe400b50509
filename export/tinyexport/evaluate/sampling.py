"""Samples of a model: the same prompts and seeds for every model that is compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..blob.content import ChatSpec
from ..blob.schema import ChatKind
from ..errors import ConfigError, TinyError
from ..pipeline import read_text
from ..runtime import Model, Sampler, Session, generate
from .metrics import Metrics, measure

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Settings:
    """How samples are drawn; they stand in every report."""

    samples: int = 100
    temperature: float = 0.8
    top_k: int = 50
    max_tokens: int = 256
    seed: int = 0
    kv: str = "i8"
    threads: int = 1


@dataclass
class Sample:
    """One generated text with its metrics."""

    prompt: str
    text: str
    seed: int
    prompt_tokens: int
    stop_reason: str
    metrics: Metrics
    logprob_mean: float | None
    logprob_min: float | None
    ids: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For --json: metrics beside the rest, ids left out."""
        row = asdict(self)
        row.pop("ids")
        return {**row, **row.pop("metrics")}


def load_prompts(path: Path | None, chat: ChatSpec | None) -> list[str]:
    """Prompts of a file, one a line; the built-in ones of the model's kind without a file."""
    if path is not None:
        lines = read_text(path).split("\n")
    else:
        kind = "turns" if chat is not None and chat.kind is ChatKind.TURNS else "story"
        lines = resources.files(__package__).joinpath(f"prompts_{kind}.txt").read_text("utf-8").split("\n")
    prompts = [line.strip("\r") for line in lines if line.strip()]
    if not prompts:
        raise ConfigError(f"{path} has no prompts", "write one prompt a line")
    return prompts


def prompt_ids(model: Model, session: Session, prompt: str) -> list[int]:
    """Ids of a prompt in the model's template; TinyError when it leaves no room for an answer."""
    chat = model.chat or ChatSpec()
    ids = model.encode(chat.user_prefix + prompt + chat.reply_prefix, special=True, bos=chat.add_bos)
    if not ids:
        raise TinyError("a prompt has no tokens", "write at least one character a line")
    if len(ids) >= session.context:
        raise TinyError(
            f"the prompt {_short(prompt)} has {len(ids)} tokens, the context {session.context}", "shorten this prompt"
        )
    return ids


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


def draw(model: Model, session: Session, prompt: str, seed: int, settings: Settings) -> Sample:
    """One sample from an empty context."""
    session.rewind(0)
    sampler = Sampler(
        temperature=settings.temperature, top_k=settings.top_k, seed=seed, logprob_all=True, repeat_penalty=1.0
    )
    chat = model.chat or ChatSpec()
    ids = prompt_ids(model, session, prompt)
    started = time.perf_counter()
    first = None
    steps = []
    stream = generate(session, sampler, ids, settings.max_tokens, stop_strings=chat.stop_strings)
    for step in stream:
        first = first or time.perf_counter()
        steps.append(step)
    ended = time.perf_counter()
    tokens, sure = [s.id for s in steps], [s.choice.logprob for s in steps]
    metrics = measure(tokens, [s.choice.logprob_all for s in steps], (first or ended) - started, ended - started)
    return Sample(
        prompt, stream.text, seed, len(ids), stream.stop_reason, metrics,
        logprob_mean=sum(sure) / len(sure) if sure else None, logprob_min=min(sure, default=None), ids=tokens,
    )  # fmt: skip


def draw_all(model: Model, prompts: list[str], settings: Settings, progress: Progress, title: str) -> list[Sample]:
    """`settings.samples` samples, prompts in turn, seeds rising. A prefill before them warms the caches."""
    session = model.session(kv=settings.kv, threads=settings.threads)
    for prompt in dict.fromkeys(prompts[: settings.samples]):
        prompt_ids(model, session, prompt)
    session.eval(prompt_ids(model, session, prompts[0]))
    plan = [(prompts[i % len(prompts)], settings.seed + i) for i in range(settings.samples)]
    return [draw(model, session, prompt, seed, settings) for prompt, seed in progress(plan, title)]
