"""The models of one evaluation: the blob, and what it is compared with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import measure
from ..blob.schema import MAGIC
from ..errors import BlobError
from ..pipeline import QuantizeOptions, SourceOptions, quantize
from ..runtime import Model
from .sampling import Progress, Settings


@dataclass
class Contender:
    """A model with the name it has in the report. `original` marks unquantised weights: KV in f32, a reference."""

    label: str
    model: Model
    original: bool

    @property
    def bytes(self) -> int:
        """Size of the blob."""
        return len(self.model.data)

    @property
    def types(self) -> str:
        """Weight types, such as q4_0 or q4_0 EMBED=q8_0."""
        try:
            types = dict(json.loads(self.model.info.get("types", "{}")))
        except (ValueError, TypeError, RecursionError):  # not as this exporter writes it
            types = {}
        preset = str(types.pop("preset", "?"))
        return " ".join([preset, *(f"{group}={kind}" for group, kind in sorted(types.items()))])

    def kv(self, settings: Settings) -> str:
        """KV type it runs with."""
        return "f32" if self.original else settings.kv


def open_contender(path: str) -> Contender:
    """A .tlm blob, or any checkpoint that the exporter reads (its weights become an f32 blob in memory)."""
    file = Path(path)
    data = file.read_bytes() if file.is_file() and (file.suffix == ".tlm" or _begins_as_blob(file)) else None
    if data is not None:
        if not data:
            raise BlobError(f"{path} is empty", "write it again with tinyexport quantize")
        return Contender(file.name, Model(data), original=False)
    made = quantize(SourceOptions(path), QuantizeOptions(preset="f32"))
    return Contender(file.name or path, Model(made.data), original=True)


def _begins_as_blob(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def distinct_labels(contenders: list[Contender]) -> None:
    """Number the labels that occur twice."""
    seen: dict[str, int] = {}
    for contender in contenders:
        count = seen[contender.label] = seen.get(contender.label, 0) + 1
        if count > 1:
            contender.label += f" ({count})"


@dataclass(frozen=True)
class TextOptions:
    """What is scored: a stream in windows, or documents, each by itself with BOS first."""

    text: str
    separator: str | None = None
    limit: int | None = None  # windows or documents


def text_windows(model: Model, options: TextOptions) -> list[list[int]]:
    """Token windows of the model's own tokenizer."""
    if options.separator is not None:
        return measure.document_windows(model, options.text, options.separator, model.context, options.limit)
    return measure.stream_windows(measure.encode_stream(model, options.text), model.context)[: options.limit]


def score_texts(
    contenders: list[Contender], reference: Contender | None, options: TextOptions, settings: Settings, bar: Progress
) -> list[dict[str, Any]]:
    """Perplexity and bits a byte of each; greedy agreement and mean KL where it shares the reference's windows."""
    cuts = [text_windows(c.model, options) for c in contenders]
    common = cuts[contenders.index(reference)] if reference else None
    rows = []
    for contender, windows in zip(contenders, cuts, strict=True):
        same = reference is not None and contender is not reference and windows == common
        same = same and contender.model.vocab == reference.model.vocab if reference else False
        logits = measure.session_logits(contender.model.session(kv=contender.kv(settings), threads=settings.threads))
        against = None
        if same and reference is not None:
            against = measure.session_logits(
                reference.model.session(kv=reference.kv(settings), threads=settings.threads)
            )
        score = measure.score_windows(logits, bar(windows, f"score {contender.label}"), against)
        score.text_bytes = sum(len(contender.model.decode(w[1:])) for w in windows)
        rows.append(
            {
                "perplexity": score.perplexity,
                "nll": score.nll,
                "bits_per_byte": score.bits_per_byte,
                "tokens": score.tokens,
                "greedy_agreement": score.agree / score.tokens if same else None,
                "mean_kl": score.kl_sum / score.tokens if same else None,
            }
        )
    return rows
