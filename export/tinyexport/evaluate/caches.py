"""What each kind of KV cache costs: bytes, and perplexity of a text."""

from __future__ import annotations

from typing import Any

from .. import measure
from ..kv import kv_kinds
from ..runtime import Model
from .contenders import TextOptions, text_windows
from .sampling import Progress, Settings


def compare(model: Model, options: TextOptions, settings: Settings, bar: Progress) -> list[dict[str, Any]]:
    """f32, then i8 and i4 from one scale a position to one for each kv head; bytes are of the model's whole context.

    `lost` is the share by which the perplexity is above that of f32.
    """
    windows = text_windows(model, options)
    heads = [layer.n_kv_heads for layer in model.spec.layers]
    rows: list[dict[str, Any]] = []
    for kind in ("f32", *kv_kinds("i8", heads), *kv_kinds("i4", heads)):
        session = model.session(kv=kind, threads=settings.threads)
        score = measure.score_windows(measure.session_logits(session), bar(windows, f"score KV {kind}"))
        rows.append(
            {
                "kv": kind,
                "bytes": session.need["page"] * session.need["pages"],
                "perplexity": score.perplexity,
                "lost": score.perplexity / rows[0]["perplexity"] - 1 if rows else 0.0,
            }
        )
    return rows
