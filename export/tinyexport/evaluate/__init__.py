"""Know what a model says: inference metrics, text scores against a reference, confidence; the JSON is the truth.

result = evaluate(["model.tlm", "checkpoint/"], Settings(samples=20), prompts=None, text=TextOptions("..."))
Path("report.html").write_text(report.render(result))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__
from ..pipeline import no_progress
from . import caches, confidence
from .contenders import Contender, TextOptions, distinct_labels, open_contender, score_texts
from .metrics import mean
from .report import render
from .sampling import Progress, Settings, draw_all, load_prompts

__all__ = ["Settings", "TextOptions", "evaluate", "render"]


def evaluate(
    paths: Sequence[str],
    settings: Settings,
    *,
    prompts: Path | None = None,
    text: TextOptions | None = None,
    dialogues: str | None = None,
    turns: int = 200,
    by_cache: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Evaluate the model at the first path beside those at the others; plain data for --json.

    The reference of agreement and KL is the first other model with original weights, else the first other one.
    `by_cache` scores the text with every kind of KV cache that suits the first model.
    TinyError for empty texts, prompts longer than the context, and files that are no model.
    """
    contenders = [open_contender(path) for path in paths]
    distinct_labels(contenders)
    reference = next((c for c in contenders[1:] if c.original), contenders[1] if len(contenders) > 1 else None)
    lines = load_prompts(prompts, contenders[0].model.chat)
    rows = [_model_row(c, settings, lines, progress) for c in contenders]
    if text is not None:
        for row, scores in zip(rows, score_texts(contenders, reference, text, settings, progress), strict=True):
            row["text"] = scores
    return {
        "tool": f"tinyexport {__version__}",
        "settings": asdict(settings),
        "prompts": lines,
        "reference": reference.label if reference and text else None,
        "models": rows,
        "caches": caches.compare(contenders[0].model, text, settings, progress) if by_cache and text else None,
        "confidence": confidence.calibrate(contenders[0].model, dialogues, turns, settings, progress)
        if dialogues is not None
        else None,
    }


def _model_row(contender: Contender, settings: Settings, prompts: list[str], progress: Progress) -> dict[str, Any]:
    kv = contender.kv(settings)
    own = Settings(**{**asdict(settings), "kv": kv})
    samples = draw_all(contender.model, prompts, own, progress, f"sample {contender.label}")
    return {
        "label": contender.label,
        "types": contender.types,
        "kv": kv,
        "bytes": contender.bytes,
        "mean": mean([s.metrics for s in samples]),
        "samples": [s.as_dict() for s in samples],
        "text": None,
    }
