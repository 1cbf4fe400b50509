"""The architecture as data: what `archs/` produce and `blob/`, `reference/oracle.py` consume.

A `ModelSpec` names no model family. Weights travel beside it in a `Checkpoint` under canonical
names (`tensor_names`), always float32 numpy arrays in [out, in] orientation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .blob.schema import Act, FfnKind, InputQuant, NormKind, PosKind


@dataclass(frozen=True)
class LayerSpec:
    """One transformer layer. `has_*` facts are not stored: a tensor exists or it does not."""

    n_kv_heads: int
    ffn_dim: int
    ffn_kind: FfnKind
    window: int = 0  # positions, itself included; 0 = global


@dataclass(frozen=True)
class ModelSpec:
    """Everything the forward pass needs besides the tensors."""

    dim: int
    n_heads: int
    head_dim: int
    vocab: int
    context: int
    layers: tuple[LayerSpec, ...]
    norm_kind: NormKind
    norm_eps: float
    pos_kind: PosKind
    act: Act
    attn_scale: float
    rope_dims: int = 0
    rope_freqs: tuple[float, ...] = ()  # radians per position and pair, scaling applied; rope_dims/2
    input_quant: InputQuant = InputQuant.PLAIN
    tied: bool = True


@dataclass(frozen=True)
class Fact:
    """A fact that tensors do not hold, and where it came from."""

    value: Any
    origin: str  # "read" (config, tokenizer), "given" (option), "assumed" (a warning)
    note: str = ""


@dataclass
class Checkpoint:
    """A model in canonical form: spec, tensors, facts and what was left out.

    `tensors` maps the names of `tensor_names(spec)` (optional ones may be missing) to float32
    arrays: matrices [out, in], vectors [n]. `ternary` holds, for tensors that are already ternary
    at their source, the scale s of values in {-s, 0, +s}.
    """

    spec: ModelSpec
    tensors: dict[str, np.ndarray]
    arch: str
    facts: dict[str, Fact] = field(default_factory=dict)
    ternary: dict[str, float] = field(default_factory=dict)
    ternary_latent: set[str] = field(default_factory=set)  # float weights known to be trained for three levels
    left_out: list[str] = field(default_factory=list)  # one line each: name and reason
    sources: dict[str, str] = field(default_factory=dict)  # file name -> sha256
    config: dict[str, Any] = field(default_factory=dict)


# Canonical names. The field of the blob's spec or layer record is the last part of the name.
MODEL_TENSORS = ("tok_embed", "pos_embed", "final_norm", "final_norm_bias", "head", "head_bias")
LAYER_TENSORS = (
    "attn_norm", "attn_norm_bias", "wq", "bq", "wk", "bk", "k_range", "k_feedback", "wv", "bv",
    "attn_sub_norm", "wo", "bo",
    "ffn_norm", "ffn_norm_bias", "w_gate", "b_gate", "w_up", "b_up", "ffn_sub_norm", "w_down", "b_down",
)  # fmt: skip
LINEAR_TENSORS = ("wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down")
OPTIONAL_TENSORS = frozenset(
    (
        *MODEL_TENSORS[1:],
        *(part for part in LAYER_TENSORS if part not in ("wq", "wk", "wv", "wo", "w_up", "w_down")),
    )
)


def layer_name(layer: int, part: str) -> str:
    """Canonical name of a layer tensor, e.g. `layers.3.wq`."""
    return f"layers.{layer}.{part}"


def tensor_names(spec: ModelSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every canonical name with its shape, in the order the blob stores them.

    Optional tensors are included; a `Checkpoint` may lack them. A tied head is never stored.
    """
    yield "tok_embed", (spec.vocab, spec.dim)
    if spec.pos_kind is PosKind.LEARNED:
        yield "pos_embed", (spec.context, spec.dim)
    q_dim = spec.n_heads * spec.head_dim
    for i, layer in enumerate(spec.layers):
        kv_dim = layer.n_kv_heads * spec.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "attn_norm": (spec.dim,), "attn_norm_bias": (spec.dim,),
            "wq": (q_dim, spec.dim), "bq": (q_dim,),
            "wk": (kv_dim, spec.dim), "bk": (kv_dim,),
            "k_range": (2, kv_dim), "k_feedback": (spec.head_dim, kv_dim),
            "wv": (kv_dim, spec.dim), "bv": (kv_dim,),
            "attn_sub_norm": (q_dim,), "wo": (spec.dim, q_dim), "bo": (spec.dim,),
            "ffn_norm": (spec.dim,), "ffn_norm_bias": (spec.dim,),
            "w_gate": (layer.ffn_dim, spec.dim), "b_gate": (layer.ffn_dim,),
            "w_up": (layer.ffn_dim, spec.dim), "b_up": (layer.ffn_dim,),
            "ffn_sub_norm": (layer.ffn_dim,), "w_down": (spec.dim, layer.ffn_dim), "b_down": (spec.dim,),
        }  # fmt: skip
        gated = layer.ffn_kind is FfnKind.GATED
        for part in LAYER_TENSORS:
            if part in ("w_gate", "b_gate") and not gated:
                continue
            yield layer_name(i, part), shapes[part]
    yield "final_norm", (spec.dim,)
    yield "final_norm_bias", (spec.dim,)
    if not spec.tied:
        yield "head", (spec.vocab, spec.dim)
    yield "head_bias", (spec.vocab,)
