"""Texts to token streams, and streams to batches.

A batch is a function of (seed, step) alone, so a resumed run sees what the unbroken run would have seen.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .recipe import Recipe, SourcePart, TrainError
from .tokenizer import Tokenizer

IGNORED = -100  # torch.nn.functional.cross_entropy leaves such targets out
REPLY_PREFIX = "Bot:"


@dataclass(frozen=True)
class Stream:
    """A source as tokens. `learn[i]` says whether token i may be a target; `starts` are document starts."""

    ids: np.ndarray  # int32 [n]
    learn: np.ndarray  # bool [n]
    starts: np.ndarray  # int64
    weight: float
    aligned: float


def read_text(path: Path, hint: str = "") -> str:
    """A UTF-8 text file, plain or .xz; TrainError with `hint` when it is missing or empty."""
    try:
        data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        text = data.decode("utf-8")
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as err:
        raise TrainError(f"the text {path} can not be read: {err}", hint or "see [data] in the recipe") from err
    if not text.strip():
        raise TrainError(f"the text {path} is empty", hint or "see [data] in the recipe")
    return text


def split_documents(text: str, source: SourcePart) -> list[str]:
    """Documents of a source: stories by separator lines, dialogues by blank lines, a text as it is."""
    text = text.replace("\r\n", "\n")
    if source.kind == "stories":
        parts = re.split(rf"^{re.escape(source.separator)}$", text, flags=re.MULTILINE)
    elif source.kind == "chat":
        parts = re.split(r"\n\s*\n", text)
    else:
        parts = [text]
    return [part.strip() for part in parts if part.strip()]


def encode_dialogue(dialogue: str, tok: Tokenizer, separator: str) -> tuple[list[int], list[bool]]:
    """Tokens of one dialogue and which of them are learned: replies with the EOS that ends them.

    The cut lies right after `Bot:`, where the runtime's prompt ends; a reply keeps its leading space.
    """
    ids, learn = list(tok.document_start), [False] * len(tok.document_start)
    for i, exchange in enumerate(part.strip("\n") for part in dialogue.split(separator) if part.strip()):
        prompt, found, reply = exchange.partition(f"\n{REPLY_PREFIX}")
        if not found or not reply.strip():
            continue  # a dialogue that was cut off
        asked = tok.encode(("\n" if i else "") + prompt + found)
        answer = [*tok.encode(reply.rstrip()), tok.eos]
        ids += asked + answer
        learn += [False] * len(asked) + [True] * len(answer)
    return ids, learn


def _encode_source(source: SourcePart, text: str, tok: Tokenizer) -> Stream:
    ids: list[int] = []
    learn: list[bool] = []
    starts: list[int] = []
    for document in split_documents(text, source):
        starts.append(len(ids))
        if source.kind == "chat":
            got, wanted = encode_dialogue(document, tok, source.separator)
        else:
            got = [*tok.document_start, *tok.encode(document), tok.eos]
            wanted = [True] * len(got)
        ids += got
        learn += wanted
    aligned = source.aligned if source.aligned >= 0 else (1.0 if source.kind == "chat" else 0.25)
    return Stream(np.array(ids, np.int32), np.array(learn, bool), np.array(starts), source.weight, aligned)


def source_texts(recipe: Recipe) -> list[str]:
    """The training texts, in the recipe's order."""
    return [read_text(recipe.path(source.path), recipe.data.hint) for source in recipe.data.train]


def tokenizer_documents(recipe: Recipe, texts: list[str]) -> Iterator[str]:
    """What a tokenizer is trained on: every document, without the EOS markers."""
    for source, text in zip(recipe.data.train, texts, strict=True):
        for document in split_documents(text, source):
            yield document.replace(source.separator, "")


def build_streams(recipe: Recipe, texts: list[str], tok: Tokenizer) -> list[Stream]:
    """All sources as tokens.

    Raises:
        TrainError: a source is shorter than one window, or a chat source has no complete exchange.
    """
    streams = []
    for source, text in zip(recipe.data.train, texts, strict=True):
        stream = _encode_source(source, text, tok)
        if len(stream.ids) < recipe.model.context + 1:
            raise TrainError(
                f"{source.path} has {len(stream.ids)} tokens, fewer than one window of {recipe.model.context + 1}",
                "give more text, or a smaller model.context",
            )
        if not stream.learn.any():
            raise TrainError(f"{source.path} has nothing to learn", "chat texts need lines `User: ...` and `Bot: ...`")
        streams.append(stream)
    return streams


def batch_at(streams: list[Stream], context: int, batch: int, seed: int, step: int) -> tuple[Any, Any]:
    """Inputs and targets of one step: int64 torch tensors [batch, context], IGNORED where nothing is learned."""
    import torch

    rng = np.random.default_rng((seed, step))
    shares = np.array([s.weight for s in streams])
    inputs = np.empty((batch, context), np.int64)
    targets = np.empty((batch, context), np.int64)
    for row, which in enumerate(rng.choice(len(streams), size=batch, p=shares / shares.sum())):
        stream = streams[which]
        last = len(stream.ids) - context - 1
        at = int(rng.integers(0, last + 1))
        if rng.random() < stream.aligned:
            at = min(int(rng.choice(stream.starts)), last)
        window = stream.ids[at : at + context + 1]
        inputs[row] = window[:-1]
        targets[row] = np.where(stream.learn[at + 1 : at + context + 1], window[1:], IGNORED)
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def valid_windows(recipe: Recipe, tok: Tokenizer) -> np.ndarray:
    """The validation text as int64 [windows, context]: one stream, non-overlapping, the rest dropped.

    Raises:
        TrainError: it is shorter than one window.
    """
    if not recipe.data.valid:
        return np.empty((0, recipe.model.context), np.int64)
    text = read_text(recipe.path(recipe.data.valid), recipe.data.hint)
    ids = np.array([*tok.document_start, *tok.encode(text)], np.int64)
    count = len(ids) // recipe.model.context
    if not count:
        raise TrainError(f"{recipe.data.valid} has {len(ids)} tokens, fewer than one window", "give more text")
    return ids[: count * recipe.model.context].reshape(count, recipe.model.context)
