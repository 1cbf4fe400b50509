"""What an architecture file provides, and the assembly that they all share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..blob.schema import (
    MAX_CONTEXT,
    MAX_DIM,
    MAX_HEAD_DIM,
    MAX_LAYERS,
    MAX_VOCAB,
    Act,
    FfnKind,
    InputQuant,
    NormKind,
    PosKind,
)
from ..errors import CheckpointError, ConfigError
from ..loaders.raw import RawCheckpoint
from ..spec import LINEAR_TENSORS, Checkpoint, Fact, LayerSpec, ModelSpec, layer_name, tensor_names
from . import rope, ternary
from .collect import Parts
from .settings import Settings, positive

# Config keys and the value at which they do nothing.
_TWISTS = {
    "scale_emb": 1, "embedding_multiplier": 1, "residual_multiplier": 1, "attention_multiplier": None,
    "logits_scaling": 1, "logit_scale": 1, "final_logit_softcapping": None, "attn_logit_softcapping": None,
    "scale_depth": None, "use_parallel_residual": False, "parallel_attn": False, "alibi": False, "qk_layernorm": False,
    "qk_norm": False, "use_qk_norm": False, "num_local_experts": None, "num_experts": None, "clip_qkv": None,
    "attn_logit_softcap": None, "scale_attn_by_inverse_layer_idx": False,
}  # fmt: skip
_USUAL_HEADS = (4, 8, 2, 6, 3, 1)


@dataclass(frozen=True)
class Sizes:
    """What the tensors tell, heads excepted."""

    dim: int
    vocab: int
    heads: int
    head_dim: int
    kv_heads: tuple[int, ...]
    ffn: tuple[int, ...]


@dataclass(frozen=True)
class RopePlan:
    """How RoPE turns the first `dims` elements of a head."""

    dims: int
    freqs: tuple[float, ...]  # radians per position and pair
    interleaved: bool  # pairs (2i, 2i+1) in the checkpoint


@dataclass(frozen=True)
class Decision:
    """What an architecture file decides for one model."""

    norm_kind: NormKind
    norm_eps: float
    pos_kind: PosKind
    act: Act
    context: int
    windows: tuple[int, ...] = ()  # one a layer; empty = all global
    attn_scale: float | None = None  # None = 1/sqrt(head_dim)
    input_quant: InputQuant = InputQuant.PLAIN
    rope: RopePlan | None = None
    latent: bool = False  # linear layers were trained with ternary weights made from these floats


@dataclass(frozen=True)
class Arch:
    """One architecture: how it is known, which parts it must have, and how its spec is decided."""

    name: str
    model_types: tuple[str, ...]
    requires: frozenset[str]
    decide: Callable[[Parts, Sizes, Settings], Decision]
    fits: Callable[[Parts], bool] = field(default=lambda parts: False)  # for checkpoints without model_type
    conv1d: bool = False  # linear weights are stored [in, out]


def sizes(parts: Parts, settings: Settings) -> Sizes:
    """Read every size off the tensors and check the config against them; fused parts are split."""
    refuse_twists(settings)
    embed = parts.tensors["tok_embed"]
    vocab, dim = embed.shape
    expect("dim", dim, settings)
    expect("layers", parts.n_layers, settings)
    q_rows = _query_rows(parts, dim, settings)
    heads = _heads(q_rows, settings)
    head_dim = q_rows // heads
    parts.split_fused(q_rows)
    kv_heads = tuple(_kv_heads(parts, i, head_dim, settings) for i in range(parts.n_layers))
    ffn = tuple(parts.tensors[layer_name(i, "w_up")].shape[0] for i in range(parts.n_layers))
    if settings.name_of("ffn") != "hidden_dim" or settings.integer("ffn") != dim:
        expect("ffn", ffn[0], settings)
    limits = ((dim, MAX_DIM, "width"), (vocab, MAX_VOCAB, "vocabulary"), (parts.n_layers, MAX_LAYERS, "layer count"),
              (head_dim, MAX_HEAD_DIM, "head width"))  # fmt: skip
    for value, limit, what in limits:
        if value > limit:
            raise CheckpointError(f"the {what} {value} is above the limit of {limit}", "a smaller model is needed")
    return Sizes(dim, vocab, heads, head_dim, kv_heads, ffn)


def refuse_twists(settings: Settings) -> None:
    """ConfigError for config keys that change the arithmetic in ways the spec can not express."""
    for key, neutral in _TWISTS.items():
        value = settings.config.get(key)
        if value is not None and value != neutral:
            raise ConfigError(
                f"the config has {key} = {value!r}, which is not supported", "this variant can not be exported"
            )


def expect(key: str, actual: int, settings: Settings) -> None:
    """ConfigError when the config states another number than the tensors."""
    stated = settings.integer(key)
    if stated is not None and stated != actual:
        raise ConfigError(
            f"the config says {settings.name_of(key)} = {stated}, the tensors say {actual}",
            "this config belongs to another model; name the right one with --config",
        )


def _query_rows(parts: Parts, dim: int, settings: Settings) -> int:
    wq = parts.tensors.get("layers.0.wq")
    if wq is not None:
        return int(wq.shape[0])
    heads = settings.options.heads or settings.integer("heads")
    head_dim = settings.integer("head_dim")
    return heads * head_dim if heads and head_dim else dim


def _heads(q_rows: int, settings: Settings) -> int:
    head_dim = settings.integer("head_dim")
    read = settings.integer("heads")
    if read is None and head_dim is not None and q_rows % head_dim == 0:
        read = q_rows // head_dim
    likely = next(n for n in _USUAL_HEADS if n == 1 or (q_rows % n == 0 and (q_rows // n) % 2 == 0))
    note = "the tensors do not tell; give --heads, or try others with --probe"
    heads = int(settings.fact("heads", settings.options.heads, read, likely, note))
    if q_rows % heads:
        raise ConfigError(f"{heads} heads do not divide the {q_rows} query rows", "correct --heads or the config")
    if head_dim is not None and settings.options.heads is None and q_rows // heads != head_dim:
        raise ConfigError(
            f"{heads} heads of {head_dim} are {heads * head_dim} query rows, the tensors have {q_rows}",
            "this config belongs to another model; name the right one with --config",
        )
    return heads


def _kv_heads(parts: Parts, layer: int, head_dim: int, settings: Settings) -> int:
    rows = parts.tensors[layer_name(layer, "wk")].shape[0]
    stated = settings.options.kv_heads or settings.integer("kv_heads")
    heads = int(settings.facts["heads"].value)
    count = rows // head_dim
    if rows % head_dim or count == 0 or heads % count or (stated is not None and stated != count):
        made_of = f"{stated} heads" if stated else f"a divisor of {heads} heads"
        raise ConfigError(
            f"layer {layer} has {rows} key rows, which is not {made_of} of {head_dim}",
            "correct --heads, --kv-heads or the config",
        )
    return int(count)


def context_of(parts: Parts, settings: Settings, learned: bool) -> int:
    """Positions the model was built for; the rows of a position table decide where there is one."""
    given = settings.options.context
    if learned:
        rows = int(parts.tensors["pos_embed"].shape[0])
        if given is not None and given > rows:
            raise ConfigError(f"--context {given} is more than the {rows} rows of the position table", "give less")
        if given is not None and given < rows:
            parts.tensors["pos_embed"] = parts.tensors["pos_embed"][:given]
        return given or rows
    note = "the tensors do not tell; give --context"
    context = int(settings.fact("context", given, settings.integer("context"), 512, note))
    if context > MAX_CONTEXT:
        raise ConfigError(f"a context of {context} is above the limit of {MAX_CONTEXT}", "give --context")
    return context


def norm_eps(settings: Settings, assumed: float) -> float:
    """Epsilon of the norms."""
    note = "the tensors do not tell; give --norm-eps"
    return float(settings.fact("norm_eps", settings.options.norm_eps, settings.number("eps"), assumed, note))


def rope_plan(parts: Parts, size: Sizes, settings: Settings, context: int, pairing: str | None) -> RopePlan:
    """RoPE from config and options. `pairing` is what the checkpoint's format defines, None when it does not."""
    scaling = settings.section("rope_parameters") or settings.section("rope_scaling")
    read_theta = settings.number("theta")
    if read_theta is None and "rope_theta" in scaling:
        read_theta = positive("rope_theta", scaling["rope_theta"])
    note = "the tensors do not tell; give --rope-theta"
    theta = float(settings.fact("rope_theta", settings.options.rope_theta, read_theta, 10000.0, note))
    factor = settings.config.get("partial_rotary_factor", scaling.get("partial_rotary_factor", 1.0))
    stated_dims = settings.config.get("rope_dims")
    if stated_dims is None:
        dims = int(size.head_dim * positive("partial_rotary_factor", factor))
    else:
        dims = int(positive("rope_dims", stated_dims))
    if dims <= 0 or dims % 2 or dims > size.head_dim:
        raise ConfigError(
            f"RoPE can not turn {dims} of {size.head_dim} elements of a head", "correct --heads or the config"
        )
    stated = settings.config.get("rope_interleaved", settings.config.get("rotary_interleaved"))
    read = pairing if stated is None else ("interleaved" if stated else "half")
    likely = "interleaved" if parts.meta_names else "half"
    kind = settings.fact("rope", settings.options.rope, read, likely, "pairing is not in the tensors; give --rope")
    freqs = rope.frequencies(theta, dims, scaling, context)
    factors = parts.tensors.pop("rope_factors", None)
    if factors is not None:
        if factors.shape != (dims // 2,) or not np.all(factors > 0):
            raise CheckpointError("rope_freqs does not fit the RoPE dimensions", "convert the checkpoint again")
        freqs = tuple(f / float(by) for f, by in zip(freqs, factors, strict=True))
    return RopePlan(dims, freqs, kind == "interleaved")


def windows(parts: Parts, settings: Settings, read: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Attention windows by layer: the option for all, else what the config says."""
    if settings.options.window is not None:
        settings.facts["window"] = Fact(settings.options.window, "given")
        return (settings.options.window,) * parts.n_layers
    return read


def assemble(
    arch: Arch, raw: RawCheckpoint, parts: Parts, size: Sizes, decision: Decision, settings: Settings
) -> Checkpoint:
    """Spec and tensors of a model, folded, checked for shape and finite values."""
    tied, turn = parts.resolve_head(settings), decision.rope
    tensors = parts.tensors
    layers = tuple(
        LayerSpec(
            n_kv_heads=size.kv_heads[i],
            ffn_dim=size.ffn[i],
            ffn_kind=FfnKind.GATED if layer_name(i, "w_gate") in tensors else FfnKind.PLAIN,
            window=decision.windows[i] if decision.windows else 0,
        )
        for i in range(parts.n_layers)
    )
    spec = ModelSpec(
        dim=size.dim, n_heads=size.heads, head_dim=size.head_dim, vocab=size.vocab, context=decision.context,
        layers=layers, norm_kind=decision.norm_kind, norm_eps=decision.norm_eps, pos_kind=decision.pos_kind,
        act=decision.act, attn_scale=decision.attn_scale or float(size.head_dim) ** -0.5,
        rope_dims=turn.dims if turn else 0, rope_freqs=turn.freqs if turn else (),
        input_quant=decision.input_quant, tied=tied,
    )  # fmt: skip
    if turn is not None and turn.interleaved:
        _fold_rope(tensors, spec)
    _check(tensors, spec, parts)
    checkpoint = Checkpoint(
        spec, tensors, arch.name, settings.facts, left_out=[*raw.left_out, *parts.left_out],
        sources=dict(raw.sources), config=dict(raw.config),
    )  # fmt: skip
    _ternary(checkpoint, parts, decision.latent)
    return checkpoint


def _fold_rope(tensors: dict[str, np.ndarray], spec: ModelSpec) -> None:
    for i in range(len(spec.layers)):
        for part in ("wq", "wk", "bq", "bk"):
            name = layer_name(i, part)
            if name in tensors:
                tensors[name] = rope.half_split_rows(tensors[name], spec.head_dim, spec.rope_dims)


def _check(tensors: dict[str, np.ndarray], spec: ModelSpec, parts: Parts) -> None:
    shapes = dict(tensor_names(spec))
    for name, values in tensors.items():
        where = parts.source_of(name)
        if name not in shapes:
            raise CheckpointError(f"tensor {where} has no place in this architecture", "it may be another; see --arch")
        if values.shape != shapes[name]:
            raise CheckpointError(
                f"tensor {where} has shape {list(values.shape)}, expected {list(shapes[name])}",
                "the checkpoint does not agree with itself or with its config",
            )
        if not np.isfinite(values).all():
            raise CheckpointError(f"tensor {where} holds NaN or Inf", "training diverged; use an earlier checkpoint")


def _ternary(checkpoint: Checkpoint, parts: Parts, latent: bool) -> None:
    """Note matrices that are ternary; replace latent ones by what their layers compute with."""
    for name, values in checkpoint.tensors.items():
        if name.rsplit(".", 1)[-1] not in LINEAR_TENSORS:
            continue
        scale = parts.packed_scale.get(name) or ternary.exact_scale(values)
        if scale is None and latent:
            checkpoint.tensors[name], scale = ternary.from_latent(values)
            checkpoint.ternary_latent.add(name)
        if scale is not None:
            checkpoint.ternary[name] = scale
