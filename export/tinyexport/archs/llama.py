"""Llama and what is shaped like it: Mistral, Qwen2, SmolLM, llama2.c and llama GGUF files."""

from __future__ import annotations

from ..blob.schema import Act, NormKind, PosKind
from ..errors import ConfigError
from ..spec import Fact
from .base import Arch, Decision, Sizes, context_of, norm_eps, rope_plan, windows
from .collect import Parts
from .settings import Settings

_PAIRING = {"llama": "half", "mistral": "half", "qwen2": "half", "gguf:llama": "interleaved"}


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


def decide(parts: Parts, size: Sizes, settings: Settings) -> Decision:
    """RMSNorm (LayerNorm where norms have biases), RoPE, gated or plain ffn."""
    model_type = settings.config.get("model_type")
    context = context_of(parts, settings, learned=False)
    gated = parts.has("w_gate")
    if model_type is None and settings.options.ternary is None:
        note = "a float model; if its linear layers were trained as ternary (BitLinear), say --arch bitlm"
        settings.facts["ternary"] = Fact(False, "assumed", note)
    return Decision(
        norm_kind=NormKind.LAYER if parts.has("attn_norm_bias") else NormKind.RMS,
        norm_eps=norm_eps(settings, 1e-5),
        pos_kind=PosKind.ROPE,
        act=settings.act(Act.SILU if gated else Act.GELU_ERF, "give --act"),
        context=context,
        windows=windows(parts, settings, sliding_windows(parts, settings)),
        latent=bool(settings.options.ternary),
        rope=rope_plan(parts, size, settings, context, _PAIRING.get(str(model_type))),
    )


ARCH = Arch(
    name="llama",
    model_types=("llama", "mistral", "qwen2", "gguf:llama"),
    requires=frozenset({"tok_embed", "attn_norm", "ffn_norm", "final_norm"}),
    decide=decide,
    fits=lambda parts: "pos_embed" not in parts.tensors,
)
