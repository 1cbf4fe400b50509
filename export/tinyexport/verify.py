"""The three comparisons of a blob with the world outside (a1, a2, b).

(a1) the C runtime against the numpy oracle: bit-equal logits. (a2) the graph: C on an f32 blob of the dequantised
weights, f32 KV, against PyTorch fp32 on the same weights: at most 1e-4 of the logit range. (b) the cost of
quantisation against the original checkpoint: perplexity, mean KL, teacher-forced argmax agreement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import measure
from .blob import reader, writer
from .blob.writer import BlobContent
from .errors import CheckpointError
from .pipeline import Progress, Source, float_content, float_tensors, no_progress
from .reference.oracle import Oracle
from .runtime import Model
from .spec import Checkpoint

GRAPH_LIMIT = 1e-4  # of the logit range


@dataclass
class Comparison:
    """Largest error relative to the logit range, over `positions` positions."""

    max_rel_err: float
    positions: int
    bit_equal: bool
    argmax_agreement: float


@dataclass
class Cost:
    """What quantisation cost on a text."""

    perplexity: float
    blob_perplexity: float
    argmax_agreement: float
    mean_kl: float
    tokens: int


@dataclass
class Report:
    """All comparisons; `ok` says whether (a1) and (a2) hold."""

    oracle: Comparison
    graph: Comparison
    fp32: Cost

    @property
    def ok(self) -> bool:
        """(a1) is bit-equal and (a2) within its limit."""
        return self.oracle.bit_equal and self.graph.max_rel_err <= GRAPH_LIMIT

    def as_dict(self) -> dict[str, Any]:
        """The keys that --json promises."""
        return {**asdict(self), "ok": self.ok}


def compare(ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    """Two logit arrays [n, vocab]."""
    span = float(theirs.max() - theirs.min()) or 1.0
    return Comparison(
        max_rel_err=float(np.abs(ours.astype(np.float64) - theirs).max()) / span,
        positions=len(ours),
        bit_equal=bool(np.array_equal(ours.view(np.uint32), theirs.astype(np.float32).view(np.uint32))),
        argmax_agreement=float((ours.argmax(-1) == theirs.argmax(-1)).mean()),
    )


def oracle_comparison(data: bytes, content: BlobContent, ids: Sequence[int], kv: str = "i8") -> Comparison:
    """(a1)."""
    with_c = Model(data).session(kv=kv).eval(ids, want="all")
    return compare(with_c, Oracle(content, kv).eval(ids))


def graph_comparison(content: BlobContent, ids: Sequence[int]) -> Comparison:
    """(a2)."""
    from .reference.graph import torch_logits

    ours = Model(writer.build(float_content(content))).session(kv="f32").eval(ids, want="all")
    return compare(ours, torch_logits(Checkpoint(content.spec, float_tensors(content), ""), ids))


def cost(
    data: bytes, checkpoint: Checkpoint, windows: Sequence[Sequence[int]], kv: str, progress: Progress = no_progress
) -> Cost:
    """(b): the blob against the original weights in PyTorch fp32, on the same windows."""
    from .reference.graph import torch_logits

    session = Model(data).session(kv=kv)
    reference = measure.TextScore()

    def original(ids: Sequence[int]) -> np.ndarray:
        logits = torch_logits(checkpoint, ids)
        one = measure.score_windows(lambda _ids: logits, [ids])
        reference.nll_sum += one.nll_sum
        reference.tokens += one.tokens
        return logits

    blob = measure.score_windows(measure.session_logits(session), progress(windows, "compare"), against=original)
    return Cost(
        perplexity=reference.perplexity,
        blob_perplexity=blob.perplexity,
        argmax_agreement=blob.agree / blob.tokens,
        mean_kl=blob.kl_sum / blob.tokens,
        tokens=blob.tokens,
    )


def verify(
    source: Source, data: bytes, text: str, *, kv: str = "i8", max_tokens: int = 2048, progress: Progress = no_progress
) -> Report:
    """All three comparisons of the blob `data` with the checkpoint it was made from."""
    content = reader.read(data)
    model = Model(data)
    spec, original = content.spec, source.checkpoint.spec
    if (spec.dim, len(spec.layers)) != (original.dim, len(original.layers)) or spec.vocab != original.vocab:
        raise CheckpointError(
            "the blob was not made from this checkpoint: their sizes differ",
            "a blob with a pruned vocabulary is compared with `tinyexport eval --against`",
        )
    ids = measure.encode_stream(model, text)[:max_tokens]
    if content.chat is not None and content.chat.add_bos and model.bos is not None:
        ids = [model.bos, *ids]
    windows = measure.stream_windows(ids, spec.context)
    first = windows[0][:96]
    return Report(
        oracle=oracle_comparison(data, content, first, kv),
        graph=graph_comparison(content, first),
        fp32=cost(data, source.checkpoint, windows, kv, progress),
    )
