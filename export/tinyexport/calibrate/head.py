"""A certified head: the output head turned, cut and sorted so that bounds let most of its bytes be skipped.

Turned: with hidden states h of covariance H and rows w of covariance W, coordinates exist in which both covariances
are the same diagonal. There the first few dimensions hold most of every logit, and Cauchy and Schwarz bound what the
rest adds as well as any fixed choice of dimensions allows. The mean hidden state is taken out as a bias of each row,
the mean row as one product that all rows share.

Sorted: rows that the bounds keep for the same hidden states stand together, since a search decides over tiles of 8. The
rows that are among the best most often come first: after them the bar is high.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .. import quant
from ..blob.content import MAX_BIAS_SCALE, CertifiedHead
from ..blob.schema import COL_PAD, TensorType, round_up
from ..errors import QuantError
from ..quant import QTensor
from .rounding import round_rows

RIDGE = 2e-3  # of the mean variance, added to every direction: a text shows some of them hardly ever
LEAST = 1e-4  # of the largest variance: what the least direction of the rows counts as
MAX_CONDITION = 1e6  # of the rounded rotation
CUTS = (1, 3, 4, 6, 8)  # eighths of the columns at which the stages end
TILE = 8
CHUNK = 512  # rows sorted by how often they survive
HOT = 512  # rows that come first: most often among the best BEST
BEST = 40
SAMPLES = 800  # hidden states that decide how rows are sorted
SURVIVAL = ((0, 1), (0, BEST), (1, BEST), (2, BEST))  # sorted by who survives these stages when so many are wanted
SKETCH = 400  # random sums that stand for all survivals
AXES = 32  # principal axes of survival by which rows are sorted
JUDGED = 64  # held-back hidden states that tell how many lines are read
LINE = 64
BATCH = 16  # hidden states whose logits are held at once
UNDER_ONE_BAR = 256  # of runtime_c/src/tlm_head.c


@dataclass(frozen=True)
class Head:
    """A head as the checkpoint has it: rows [vocab, dim], biases [vocab], and the type of its stages."""

    rows: np.ndarray
    bias: np.ndarray
    kind: TensorType


def certify(head: Head, states: np.ndarray, seed: int = 0) -> CertifiedHead:
    """The certified form of `head` for hidden states like `states` [n, dim]; the last tenth of them only judges it."""
    name = head.kind.name.lower()
    if head.kind not in (TensorType.Q4_0, TensorType.Q8_0):
        raise QuantError(f"a certified head can not be of type {name}", "it holds q4_0 or q8_0: --embed q4_0")
    cut = len(states) - max(1, len(states) // 10)
    seen, judge = states[:cut].astype(np.float64), states[cut:].astype(np.float64)
    whole = turn(head, seen, stage_ends(head.rows.shape[1]))
    rng = np.random.default_rng(seed)
    result = permuted(whole, sorted_rows(whole, seen[rng.permutation(len(seen))[:SAMPLES]], rng))
    judged = judge[rng.permutation(len(judge))[:JUDGED]]
    greedy, best = bytes_read(result, judged, (1, BEST))
    return replace(result, greedy_bytes=greedy, top40_bytes=best)


def stage_ends(dim: int) -> list[int]:
    """Where the stages end: multiples of COL_PAD, the last one at `dim`."""
    return sorted({min(dim, round_up(dim * cut // CUTS[-1], COL_PAD)) for cut in CUTS[:-1]} | {dim})


def balance(hidden: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """B [dim, dim]: B h and (B^-1)^T w have the same diagonal covariance, falling, for covariances of h and of w."""
    size = len(hidden)
    hidden = hidden + RIDGE * np.trace(hidden) / size * np.eye(size)
    lower = np.linalg.cholesky(hidden)
    axes, variance, _ = np.linalg.svd(lower.T @ rows @ lower)
    scale = np.sqrt(np.sqrt(np.maximum(variance, LEAST * max(variance[0], LEAST))))
    return np.asarray((axes * scale).T @ np.linalg.inv(lower))


def turn(head: Head, states: np.ndarray, ends: list[int]) -> CertifiedHead:
    """The stages with their norms, rows in id order."""
    centre, mean = head.rows.astype(np.float64).mean(0), states.mean(0)
    rows = head.rows - centre
    moved = states - mean
    wanted = balance(moved.T @ moved / len(moved), rows.T @ rows / len(rows))
    rotation = quant.quantise("q8_0", wanted.astype(np.float32))
    exact = rotation.dequantise().astype(np.float64)
    if np.linalg.cond(exact) > MAX_CONDITION:
        raise QuantError("the hidden states of the text span too few directions", "give a longer or more varied text")
    offset = quant.quantise("f32", (-exact @ mean).astype(np.float32)[None])
    turned = rows @ np.linalg.inv(exact)
    y = states @ exact.T + offset.codes
    with np.errstate(over="ignore"):
        biases = head.bias - turned @ offset.codes[0]
        bias_scale = np.nextafter(np.float32(np.abs(biases).max() / 127), np.float32(np.inf))
    if not bias_scale <= MAX_BIAS_SCALE:
        raise QuantError("a bias of the head is too large", "leave out --head certified")
    bias = np.rint(biases / bias_scale).astype(np.int8)
    cuts = list(zip([0, *ends[:-1]], ends, strict=True))
    stages = tuple(quantise_stage(turned[:, a:b].astype(np.float32), y[:, a:b], head.kind) for a, b in cuts)
    norms, scales = norms_of(stages)
    middle = quant.quantise("f32", centre.astype(np.float32)[None])
    ids = np.arange(len(rows), dtype=np.uint32)
    return CertifiedHead(rotation, offset, middle, stages, ids, bias, bias_scale, norms, scales)


def quantise_stage(rows: np.ndarray, y: np.ndarray, kind: TensorType) -> QTensor:
    """One stage; q4_0 codes are chosen by what the vectors `y` make of them."""
    tensor = quant.quantise(kind.name.lower(), rows)
    if kind is not TensorType.Q4_0:
        return tensor
    moments = y.T @ y / len(y)
    moments += 1e-3 * max(np.trace(moments), 1e-30) / len(moments) * np.eye(len(moments))
    return round_rows(tensor, rows, moments.astype(np.float32), rounds=3)


def norms_of(stages: tuple[QTensor, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of the norms after each stage but the last, rounded up with room for float sums."""
    dim = sum(t.cols for t in stages)
    squares = np.cumsum([(t.dequantise().astype(np.float64) ** 2).sum(1) for t in stages[:0:-1]], axis=0)[::-1]
    norms = np.sqrt(squares.reshape(len(stages) - 1, stages[0].rows)) * (1 + (dim + 128) * 2.0**-21)
    scales = np.nextafter((norms.max(1) / 255).astype(np.float32), np.float32(np.inf))
    return np.ceil(norms / scales[:, None]).astype(np.uint8), scales


def permuted(head: CertifiedHead, order: np.ndarray) -> CertifiedHead:
    """The same head with its rows in another order."""

    def rows(t: QTensor) -> QTensor:
        assert t.scales is not None
        return replace(t, codes=np.ascontiguousarray(t.codes[order]), scales=np.ascontiguousarray(t.scales[order]))

    stages = tuple(rows(t) for t in head.stages)
    return replace(
        head,
        stages=stages,
        ids=head.ids[order],
        bias=head.bias[order],
        norms=np.ascontiguousarray(head.norms[:, order]),
    )


# ---- the search in floats: close enough to sort rows and to count lines --------------------------------


@dataclass(frozen=True)
class Bounds:
    """For hidden states: partial logits after each stage [stages, n, rows], and what may follow them."""

    partial: np.ndarray
    upper: np.ndarray  # [stages - 1, n, rows]


def bounds(head: CertifiedHead, states: np.ndarray, stages: int) -> Bounds:
    """Of the first `stages` stages and all rows, in stored order."""
    y = (states @ head.rotation.dequantise().T.astype(np.float64) + head.offset.codes).astype(np.float32)
    partial, upper, at = [head.biases], [], 0
    for k, t in enumerate(head.stages[:stages]):
        partial.append(partial[-1] + y[:, at : at + t.cols] @ t.dequantise().T)
        at += t.cols
        if k < len(head.norm_scale):
            later = np.linalg.norm(y[:, at:], axis=1)[:, None]
            upper.append(partial[-1] + later * (head.norms[k] * head.norm_scale[k]))
    return Bounds(np.array(partial[1:]), np.array(upper, np.float32).reshape(len(upper), *partial[-1].shape))


def sorted_rows(head: CertifiedHead, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The order of the rows."""
    vocab = len(head.ids)
    if len(head.stages) == 1:
        return np.arange(vocab)
    sketch = np.zeros((vocab, SKETCH), np.float32)
    often, lively = np.zeros(vocab, np.int64), np.zeros(vocab, np.int64)
    for at in range(0, len(states), BATCH):
        b = bounds(head, states[at : at + BATCH], len(head.stages))
        full = np.partition(b.partial[-1], (vocab - min(BEST, vocab), vocab - 1), axis=1)
        often += (b.partial[-1] >= full[:, vocab - min(BEST, vocab)][:, None]).sum(0)
        for stage, best in SURVIVAL:
            if stage < len(b.upper):
                alive = (b.upper[stage] >= full[:, vocab - min(best, vocab)][:, None]).T
                sketch += alive.astype(np.float32) @ rng.standard_normal((alive.shape[1], SKETCH), np.float32)
                lively += alive.sum(1)
    hot = np.argsort(-often, kind="stable")[: min(HOT, vocab // TILE * TILE)]
    cold = np.setdiff1d(np.arange(vocab), hot)
    places = main_axes(sketch)
    rest = split(places, cold, rng)
    chunks = [rest[i : i + CHUNK] for i in range(0, len(rest), CHUNK)]
    short = [c for c in chunks if len(c) % TILE]  # only the last one: it stays last
    chunks = sorted((c for c in chunks if len(c) % TILE == 0), key=lambda c: -lively[c].mean())
    return np.concatenate([split(places, hot, rng), *chunks, *short]).astype(np.int64)


def main_axes(x: np.ndarray) -> np.ndarray:
    """Coordinates [rows, AXES] of the rows of `x`: those that survive together lie together."""
    x = x - x.mean(0)
    _, axes = np.linalg.eigh((x.T @ x).astype(np.float64))
    return np.asarray(x @ axes[:, : -AXES - 1 : -1].astype(np.float32), np.float64)


def split(places: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`rows` ordered by halving them across the longest axis of their places, again and again down to tiles."""
    if len(rows) <= TILE:
        return rows
    x = places[rows] - places[rows].mean(0)
    moments, axis = x.T @ x, rng.standard_normal(x.shape[1])
    for _ in range(30):
        axis = moments @ axis
        axis /= max(float(np.linalg.norm(axis)), 1e-30)
    order = np.argsort(x @ axis, kind="stable")
    half = min(round_up(len(rows) // 2, TILE), (len(rows) - 1) // TILE * TILE)
    return np.concatenate([split(places, rows[order[:half]], rng), split(places, rows[order[half:]], rng)])


def bytes_read(head: CertifiedHead, states: np.ndarray, best: tuple[int, ...]) -> list[int]:
    """For searches for the k best, k of `best`: mean bytes read, as 64-byte lines; a model of tlm_head.c."""
    vocab, total = len(head.ids), np.zeros(len(best))
    for at in range(0, len(states), BATCH):
        b = bounds(head, states[at : at + BATCH], len(head.stages))
        for i in range(b.partial.shape[1]):
            for j, k in enumerate(best):
                live = _live(b.partial[-1, i], b.upper[:, i], vocab, k)
                total[j] += sum(_lines(t.nbytes, tiles) for t, tiles in zip(head.stages, live, strict=True))
                total[j] += sum(_lines(n.nbytes, tiles) for n, tiles in zip(head.norms, live, strict=False))
    arrays = sum(-(-t.nbytes // LINE) for t in head.tensors[:3]) + -(-head.bias.nbytes // LINE)
    return [
        int(LINE * (lines / max(1, len(states)) + arrays + min(k, vocab))) for lines, k in zip(total, best, strict=True)
    ]


def _live(full: np.ndarray, upper: np.ndarray, vocab: int, k: int) -> list[np.ndarray]:
    """Which tiles each stage reads."""
    tiles = round_up(vocab, TILE) // TILE
    live = [np.ones(tiles, bool) for _ in range(len(upper) + 1)]
    best, first = np.zeros(0, np.float32), 0
    while first < vocab:
        end = min(vocab, first + UNDER_ONE_BAR)
        bar = best[0] if len(best) == k else -np.inf
        chunk = slice(first // TILE, round_up(end, TILE) // TILE)
        for s, bound in enumerate(upper):
            reach = np.pad(bound[first:end] >= bar, (0, -(end - first) % TILE)).reshape(-1, TILE).any(1)
            live[s + 1][chunk] = live[s][chunk] & reach
        best = np.sort(np.concatenate([best, full[first:end]]))[-k:]
        first = end
    return live


def _lines(nbytes: int, live: np.ndarray) -> int:
    """Distinct lines that live tiles have of an array of so many bytes."""
    size = -(-nbytes // len(live))
    starts = np.flatnonzero(live) * size
    lines = np.zeros(-(-size * len(live) // LINE) + 1, np.int32)
    np.add.at(lines, starts // LINE, 1)
    np.add.at(lines, (starts + size - 1) // LINE + 1, -1)
    return int((np.cumsum(lines) > 0).sum())
