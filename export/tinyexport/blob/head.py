"""The HEAD section: what a certified head has beside its tensors, as bytes and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..quant import QTensor
from . import schema
from .content import CertifiedHead, fail
from .schema import ALIGN, HEAD, MAX_HEAD_STAGES, NO_TOKEN, round_up

TILE = 8


def pack(head: CertifiedHead) -> bytes:
    """The section's bytes."""
    scales = np.zeros(MAX_HEAD_STAGES, np.float32)
    scales[: len(head.norm_scale)] = head.norm_scale
    record = HEAD.pack(
        {
            "n_stages": len(head.stages),
            "greedy_bytes": head.greedy_bytes,
            "top40_bytes": head.top40_bytes,
            "bias_scale": float(head.bias_scale),
            "norm_scale": tuple(scales),
        }
    )
    pads = -len(head.ids) % TILE
    ids = np.pad(head.ids.astype("<u4"), (0, pads), constant_values=NO_TOKEN)
    parts = [record, ids.tobytes(), np.pad(head.bias, (0, pads)).tobytes()]
    parts += [np.pad(norms, (0, pads)).tobytes() for norms in head.norms]
    return b"".join(part + bytes(-len(part) % ALIGN) for part in parts)


def unpack(data: bytes, tensors: Sequence[QTensor], vocab: int) -> CertifiedHead:
    """The head of a section and of all tensors of its blob; BlobError when the section is not whole."""
    try:
        row = HEAD.unpack(data)
    except ValueError as err:
        raise fail(f"the {err}") from None
    stages, fixed = row["n_stages"], len(schema.HEAD_TENSORS)
    if not 1 <= stages <= MAX_HEAD_STAGES or stages + fixed >= len(tensors) or any(row["reserved"]):
        raise fail("the HEAD record has an impossible value")
    scales, bias_scale = np.asarray(row["norm_scale"], np.float32), np.float32(row["bias_scale"])
    if np.signbit(bias_scale):
        raise fail("the HEAD record has an impossible bias scale")
    if scales.view(np.uint32)[stages - 1 :].any() or np.signbit(scales).any():
        raise fail("the HEAD record has an impossible norm scale")
    count = round_up(vocab, TILE)
    sizes = [HEAD.size, 4 * count, count, *[count] * (stages - 1)]
    if len(data) != sum(round_up(size, ALIGN) for size in sizes):
        raise fail("the HEAD section has the wrong length")
    parts, at = [], 0
    for size in sizes:
        end = at + round_up(size, ALIGN)
        parts.append(data[at : at + size])
        if any(data[at + size : end]):
            raise fail("a gap in the HEAD section is not zero")
        at = end
    ids, bias = np.frombuffer(parts[1], "<u4"), np.frombuffer(parts[2], np.int8)
    norms = np.array([np.frombuffer(part, np.uint8) for part in parts[3:]], np.uint8).reshape(stages - 1, count)
    if (ids[vocab:] != NO_TOKEN).any() or bias[vocab:].any() or norms[:, vocab:].any():
        raise fail("a pad of the HEAD section is not empty")
    first = len(tensors) - stages - fixed
    rotation, offset, centre, *cut = tensors[first:]
    return CertifiedHead(
        rotation,
        offset,
        centre,
        tuple(cut),
        ids[:vocab].astype(np.uint32),
        bias[:vocab],
        bias_scale,
        norms[:, :vocab],
        scales[: stages - 1],
        row["greedy_bytes"],
        row["top40_bytes"],
    )
