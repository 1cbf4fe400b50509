"""One RMSNorm GPT as a bare state dict, and how tests rename, fuse and identify it."""

from __future__ import annotations

import re
from typing import Any

import families
import numpy as np

from tinyexport import archs
from tinyexport.archs import ArchOptions
from tinyexport.loaders import RawCheckpoint
from tinyexport.spec import Checkpoint

VOCAB, DIM, LAYERS, FFN, CONTEXT = 50, 24, 2, 44, 32
CONFIG = {"vocab_size": VOCAB, "dim": DIM, "n_layers": LAYERS, "n_heads": 4, "max_seq_len": CONTEXT, "norm": "rms"}
Arrays = dict[str, np.ndarray]


def rms_gpt(gated: bool = True, bias: bool = False) -> Arrays:
    """The tensors of one RMSNorm GPT under the names of `families`."""
    rng = np.random.default_rng(1)
    t = families.rms_gpt_tensors(rng, VOCAB, DIM, LAYERS, FFN, CONTEXT)
    if not gated:
        for i in range(LAYERS):
            del t[f"blocks.{i}.ffn.w3.weight"]
    if bias:
        linear = [name for name in t if re.search(r"(_proj|w\d)\.weight$", name)]
        t |= {n.replace("weight", "bias"): families.shift(rng, t[n].shape[0]) for n in linear}
    return t


def renamed(tensors: Arrays, *rules: tuple[str, str]) -> Arrays:
    out = {}
    for name, values in tensors.items():
        for pattern, to in rules:
            name = re.sub(pattern, to, name)
        out[name] = values
    assert len(out) == len(tensors)
    return out


def fused(tensors: Arrays, name: str) -> Arrays:
    """q, k and v as one matrix under blocks.N.attn.<name>."""
    out = {n: v for n, v in tensors.items() if not re.search(r"[qkv]_proj", n)}
    for i in range(LAYERS):
        for leaf in ("weight", "bias"):
            parts = [tensors.get(f"blocks.{i}.attn.{p}_proj.{leaf}") for p in "qkv"]
            if parts[0] is not None:
                out[f"blocks.{i}.attn.{name}.{leaf}"] = np.concatenate(parts)
    return out


def raw_of(tensors: Arrays, config: dict[str, Any] | None = None) -> RawCheckpoint:
    raw = RawCheckpoint("pt", {}, config=dict(CONFIG if config is None else config))
    for name, values in tensors.items():
        raw.add(name, values, str(values.dtype))
    return raw


def identify(tensors: Arrays, config: dict[str, Any] | None = None, **options: Any) -> Checkpoint:
    return archs.identify(raw_of(tensors, config), ArchOptions(**options))


def assert_same(ours: Checkpoint, reference: Checkpoint) -> None:
    assert ours.spec == reference.spec
    assert set(ours.tensors) == set(reference.tensors)
    for name, values in reference.tensors.items():
        np.testing.assert_array_equal(ours.tensors[name], values, err_msg=name)
