"""Llama and what is shaped like it: Mistral, Qwen2, SmolLM, llama2.c, llama GGUF files, and bare state dicts."""

from __future__ import annotations

import numpy as np

from ..blob.schema import Act, NormKind, PosKind
from ..errors import ConfigError
from ..spec import Fact
from .base import Arch, Decision, Sizes, context_of, norm_eps, rope_plan, windows
from .collect import Parts
from .rms_gpt import norm_kind
from .settings import Settings

_PAIRING = {"llama": "half", "mistral": "half", "qwen2": "half", "gguf:llama": "interleaved"}
_POSITIONS = ("rope", "none", "sinusoidal")


def sliding_windows(parts: Parts, settings: Settings) -> tuple[int, ...]:
    """Windows by layer as Mistral and Qwen2 configs state them; empty when all are global."""
    size = settings.integer("window")
    kinds = settings.config.get("layer_types")
    if size is None or settings.config.get("use_sliding_window") is False:
        return ()
    if kinds is None:
        return (size,) * parts.n_layers
    known = ("full_attention", "sliding_attention")
    if not isinstance(kinds, list) or len(kinds) != parts.n_layers or any(kind not in known for kind in kinds):
        raise ConfigError(f"layer_types {kinds!r} do not fit {parts.n_layers} layers", "correct the config")
    return tuple(size if kind == "sliding_attention" else 0 for kind in kinds)


def _positions(parts: Parts, settings: Settings) -> str:
    """How a model without a position table knows positions: its config or its RoPE buffers tell, else a guess."""
    if settings.model_type in _PAIRING and settings.options.positions is None:
        return "rope"
    buffers = " ".join(line.partition(":")[0] for line in parts.left_out).lower()
    turns = settings.get("theta") is not None or any(
        word in buffers for word in ("rope", "rotary", "freq", "cos", "sin")
    )
    note = "there is no position table; it may also be none or sinusoidal, see --probe"
    kind = str(settings.fact("positions", settings.options.positions, "rope" if turns else None, "rope", note))
    if kind not in _POSITIONS:
        raise ConfigError(f"positions {kind!r} are not supported", f"known: {', '.join(_POSITIONS)}")
    return kind


def sinusoids(context: int, dim: int) -> np.ndarray:
    """The fixed table of the first transformer [context, dim]: sines in even columns, cosines in odd ones."""
    angles = np.arange(context)[:, None] * 10000.0 ** (-np.arange(0, dim, 2) / dim)
    table = np.zeros((context, dim), np.float32)
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : dim // 2])
    return table


def decide(parts: Parts, size: Sizes, settings: Settings) -> Decision:
    """RMSNorm (LayerNorm where norms have biases), RoPE, gated or plain ffn."""
    known = settings.model_type in _PAIRING
    context = context_of(parts, settings, learned=False)
    positions = _positions(parts, settings)
    if positions == "sinusoidal":
        parts.tensors["pos_embed"] = sinusoids(context, size.dim)
    if not known and settings.options.ternary is None:
        note = "a float model; if its linear layers were trained as ternary (BitLinear), say --arch bitlm"
        settings.facts["ternary"] = Fact(False, "assumed", note)
    return Decision(
        norm_kind=NormKind.RMS if known else norm_kind(parts, settings),
        norm_eps=norm_eps(settings, 1e-5),
        pos_kind={"rope": PosKind.ROPE, "none": PosKind.NONE, "sinusoidal": PosKind.LEARNED}[positions],
        act=settings.act(Act.SILU if parts.has("w_gate") else Act.GELU_ERF, "the tensors do not tell; give --act"),
        context=context,
        windows=windows(parts, settings, sliding_windows(parts, settings)),
        latent=bool(settings.options.ternary),
        rope=rope_plan(parts, size, settings, context, _PAIRING.get(settings.model_type))
        if positions == "rope"
        else None,
    )


ARCH = Arch(
    name="llama",
    model_types=("llama", "mistral", "qwen2", "gguf:llama"),
    requires=frozenset({"tok_embed", "attn_norm", "ffn_norm", "final_norm"}),
    decide=decide,
    fits=lambda parts: "pos_embed" not in parts.tensors,
)
