"""`quantize --probe TEXT`: the perplexity of every alternative of the facts that tensors do not hold."""

from __future__ import annotations

import dataclasses
from typing import Any

from . import archs, measure, pipeline
from .blob import writer
from .runtime import Model

MAX_TOKENS = 1024


def float_blob(source: pipeline.Source) -> bytes:
    """The source as an f32 blob."""
    content = pipeline.make_content(source, pipeline.QuantizeOptions(preset="f32"))
    return writer.build(content)


def text_perplexity(data: bytes, text: str, bos: bool) -> float:
    """Perplexity of a text on an f32 KV cache, every window started by BOS when `bos`."""
    model = Model(data)
    size = model.spec.context
    ids = measure.encode_stream(model, text)[:MAX_TOKENS]
    front = [model.bos] if bos and model.bos is not None else []
    windows = [front + w for w in measure.stream_windows(ids, size - len(front))]
    return measure.score_windows(measure.session_logits(model.session(kv="f32")), windows).perplexity


def probe_facts(
    options: pipeline.SourceOptions, text: str, progress: pipeline.Progress = pipeline.no_progress
) -> list[dict[str, Any]]:
    """Rows {options, perplexity, chosen}, best first; empty when every fact was read or given."""
    first = pipeline.load_source(options)
    alternatives = archs.undecided(first.checkpoint)
    if first.checkpoint.facts["bos"].origin == "assumed" and first.tokenizer.bos is not None:
        alternatives = [{**a, "bos": b} for a in (alternatives or [{}]) for b in (True, False)]
    rows = []
    for changes in progress(alternatives, "probe"):
        source = pipeline.load_source(dataclasses.replace(options, arch=dataclasses.replace(options.arch, **changes)))
        bos = bool(source.checkpoint.facts["bos"].value)
        rows.append({"options": changes, "perplexity": text_perplexity(float_blob(source), text, bos)})
    return sorted(rows, key=lambda row: float(row["perplexity"]))
