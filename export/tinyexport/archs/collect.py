"""Tensors of a checkpoint under canonical names: unpacked, transposed, split, duplicates dropped."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

import numpy as np

from ..errors import CheckpointError, ConfigError
from ..loaders.raw import RawCheckpoint
from ..spec import Fact, layer_name
from . import ternary
from .names import BIAS_OF, FUSED, Recognised, bias_name
from .settings import Settings

_MATRICES = frozenset((*BIAS_OF, *FUSED))
_KIN = (("wk", "wv", "wq", "wo"), ("w_up", "w_gate", "w_down"), ("ffn_norm", "attn_norm"))
_ALWAYS = ("wq", "wk", "wv", "wo", "w_up", "w_down")


@dataclass
class Parts:
    """Canonical (and, until split, fused) tensors of one checkpoint."""

    tensors: dict[str, np.ndarray]
    n_layers: int
    names: dict[str, str]  # canonical -> checkpoint name
    left_out: list[str] = field(default_factory=list)
    packed_scale: dict[str, float] = field(default_factory=dict)  # canonical name -> scale of a packed tensor
    inner_norms: dict[str, np.ndarray] = field(default_factory=dict)  # checkpoint name -> gain inside a BitLinear
    unknown: list[str] = field(default_factory=list)

    @property
    def meta_names(self) -> bool:
        """Whether the names are those of Meta's Llama and llama2.c, whose RoPE pairs are interleaved."""
        return self.names.get("layers.0.wq", "").endswith("attention.wq.weight")

    def has(self, part: str) -> bool:
        """Whether the first layer has the part."""
        return layer_name(0, part) in self.tensors

    def source_of(self, canonical: str) -> str:
        """The checkpoint's own name of a tensor, for messages."""
        return self.names.get(canonical, canonical)

    def split_fused(self, q_rows: int) -> None:
        """Take fused matrices (and their biases) apart; rows are in the order q, k, v or gate, up."""
        for i in range(self.n_layers):
            for fused, targets in FUSED.items():
                for name_of in (lambda part: part, bias_name):
                    self._split(layer_name(i, name_of(fused)), [layer_name(i, name_of(t)) for t in targets], q_rows)

    def _split(self, fused: str, targets: list[str], q_rows: int) -> None:
        if fused not in self.tensors:
            return
        whole = self.tensors.pop(fused)
        first = q_rows if len(targets) == 3 else 0
        rest, odd = divmod(whole.shape[0] - first, 2)
        if odd or rest <= 0:
            raise CheckpointError(
                f"tensor {self.source_of(fused)} with {whole.shape[0]} rows can not be split into {len(targets)}",
                "check --heads and the config",
            )
        at = 0
        for target in targets:
            count = first if len(targets) == 3 and at == 0 else rest
            self.tensors[target] = np.ascontiguousarray(whole[at : at + count])
            self.names[target] = self.source_of(fused)
            if fused in self.packed_scale:
                self.packed_scale[target] = self.packed_scale[fused]
            at += count

    def trim_vocab(self, settings: Settings) -> None:
        """Drop rows beyond the config's vocab_size: padding that training added."""
        rows, stated = self.tensors["tok_embed"].shape[0], settings.integer("vocab")
        if stated is None or stated == rows:
            return
        if stated > rows:
            raise ConfigError(
                f"the config says {settings.name_of('vocab')} = {stated}, the embedding has {rows} rows",
                "this config belongs to another model; name the right one with --config",
            )
        for name in ("tok_embed", "head", "head_bias"):
            if name in self.tensors and self.tensors[name].shape[0] == rows:
                self.tensors[name] = np.ascontiguousarray(self.tensors[name][:stated])
        self.left_out.append(f"{self.source_of('tok_embed')}: {rows - stated} padding rows beyond the vocabulary")

    def resolve_head(self, settings: Settings) -> bool:
        """Whether the head is tied; a duplicate of the embedding is left out."""
        head, stated = self.tensors.get("head"), settings.get("tied")
        if head is None:
            if stated is False:
                raise CheckpointError(
                    "the config says that the head is not tied, and no head is there",
                    "the checkpoint is incomplete, or tie_word_embeddings is wrong",
                )
            return True
        if head.shape == self.tensors["tok_embed"].shape and np.array_equal(head, self.tensors["tok_embed"]):
            del self.tensors["head"]
            self.left_out.append(f"{self.source_of('head')}: duplicate of {self.source_of('tok_embed')}")
            return True
        if stated:
            settings.facts["tied"] = Fact(
                False, "assumed", "the config says tied, but the head differs from the embedding"
            )
        return False


def collect(raw: RawCheckpoint, found: Recognised, *, transpose: bool, divide_scale: bool) -> Parts:
    """Take the recognised tensors out of `raw`; `transpose` for Conv1D weights stored [in, out]."""
    parts = Parts({}, found.n_layers, {}, unknown=list(found.unknown))
    for name in found.buffers:
        parts.left_out.append(f"{name}: a buffer, not a weight ({raw.stored.get(name, '?')})")
    parts.inner_norms = {name: raw.tensors[name] for name in found.inner_norms.values()}
    for (layer, part), name in found.parts.items():
        canonical = part if layer is None else layer_name(layer, part)
        values = _plain(raw.tensors[name], name)
        if name in found.scales and part in _MATRICES:
            values, parts.packed_scale[canonical] = _scaled(values, raw.tensors[found.scales[name]], name, divide_scale)
        if values.dtype != np.float32:
            raise CheckpointError(
                f"tensor {name} holds {values.dtype}, not floats",
                "packed or quantised forms other than BitNet's are not read",
            )
        if transpose and part in _MATRICES and values.ndim == 2:
            values = np.ascontiguousarray(values.T)
        parts.tensors[canonical] = values
        parts.names[canonical] = name
    used = set(found.parts.values())
    parts.unknown += [scale for weight, scale in found.scales.items() if weight not in used]
    return parts


def _plain(values: np.ndarray, name: str) -> np.ndarray:
    """Drop leading dimensions of length one, as a position table [1, n, d] has."""
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim not in (1, 2) or values.size == 0:
        raise CheckpointError(f"tensor {name} has shape {list(values.shape)}", "a matrix or a vector was expected")
    return values


def _scaled(values: np.ndarray, scale: np.ndarray, name: str, divide: bool) -> tuple[np.ndarray, float]:
    """Values of a BitNet weight with its scale, and that scale."""
    if scale.size != 1 or not np.isfinite(scale).all() or float(scale.reshape(-1)[0]) <= 0:
        raise CheckpointError(f"the weight_scale of {name} is not one positive number", "download the checkpoint again")
    factor = np.float32(scale.reshape(-1)[0])
    factor = np.float32(1) / factor if divide else factor
    if values.dtype == np.uint8:
        values = ternary.unpack(values, name)
    elif values.dtype == np.float32 and (own := ternary.exact_scale(values)) is not None:
        return values * factor, float(np.float32(own) * factor)
    else:
        raise CheckpointError(
            f"{name} has a weight_scale, but is not ternary", "save the model with offline quantisation"
        )
    return values * factor, float(factor)


def missing_parts(parts: Parts, required: frozenset[str]) -> list[tuple[str, list[str]]]:
    """Canonical names that should be there and are not, each with leftover names that look like it."""
    present = {name.split(".", 2)[2] for name in parts.tensors if name.startswith("layers.")}
    fused_away = {t for fused, targets in FUSED.items() if fused in present for t in targets}
    fused_away |= {bias_name(t) for fused, targets in FUSED.items() if bias_name(fused) in present for t in targets}
    per_layer = {p for p in required if p not in ("tok_embed", "pos_embed", "final_norm", "final_norm_bias")}
    missing = [
        name for name in ("tok_embed", *sorted(required - per_layer - {"tok_embed"})) if name not in parts.tensors
    ]
    for i in range(max(parts.n_layers, 1)):
        for part in sorted((present | per_layer | set(_ALWAYS)) - fused_away):
            if layer_name(i, part) not in parts.tensors:
                missing.append(layer_name(i, part))
    return [(name, _alike(name, parts)) for name in missing]


def _alike(canonical: str, parts: Parts) -> list[str]:
    """Leftover tensors whose names are close to where the missing one would stand."""
    layer, _, part = canonical.rpartition(".")
    twins = [name for c, name in parts.names.items() if c.rpartition(".")[2] == part]
    kin = next((group for group in _KIN if part in group), ())
    siblings = [parts.names[f"{layer}.{p}"] for p in kin if f"{layer}.{p}" in parts.names]
    return difflib.get_close_matches((twins + siblings + [canonical])[0], parts.unknown, 3, 0.4)


def complain(missing: list[tuple[str, list[str]]], unknown: list[str]) -> None:
    """CheckpointError that names what is missing or left over; nothing when all is in its place."""
    if missing:
        names = [name for name, _ in missing]
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        perhaps = list(dict.fromkeys([*(n for _, alike in missing for n in alike), *unknown]))[:6]
        raise CheckpointError(
            f"the checkpoint lacks {', '.join(names[:4])}{more}",
            f"unused tensors that may be meant: {', '.join(perhaps)}; map them with --names"
            if perhaps
            else "it is incomplete; see what it holds with: tinyexport inspect",
        )
    if unknown:
        more = f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
        raise CheckpointError(
            f"no use is known for the tensor {', '.join(unknown[:4])}{more}",
            "the architecture has parts that are not supported, or spellings to map with --names",
        )
