"""RMSNorm GPT (the 2.5M, 5M, 7M and 10M models): learned positions, RMSNorm, gated or plain ffn."""

from __future__ import annotations

from ..blob.schema import Act, NormKind, PosKind
from ..errors import ConfigError
from .base import Arch, Decision, Sizes, context_of, norm_eps, windows
from .collect import Parts
from .settings import Settings


def norm_kind(parts: Parts, settings: Settings) -> NormKind:
    """RMSNorm or LayerNorm without bias: told by the config, an option or the tensors' names."""
    stated = settings.get("norm")
    read = None if stated is None else ("rms" if "rms" in str(stated).lower() else "layer")
    if read is None and any("rms" in parts.source_of(f"layers.0.{part}").lower() for part in ("attn_norm", "ffn_norm")):
        read = "rms"
    if read is None and "rms_gpt" in (settings.options.arch, settings.model_type):
        read = "rms"
    note = "norms without biases may also be LayerNorms"
    if parts.has("attn_norm_bias"):
        return NormKind.LAYER
    kind = settings.fact("norm", settings.options.norm, read, "rms", note)
    if kind not in ("rms", "layer"):
        raise ConfigError(f"the norm {kind!r} is not supported", "known: rms, layer")
    return NormKind.RMS if kind == "rms" else NormKind.LAYER


def decide(parts: Parts, size: Sizes, settings: Settings) -> Decision:
    """Everything but heads, eps and the activation is read off the tensors."""
    gated = parts.has("w_gate")
    return Decision(
        norm_kind=norm_kind(parts, settings),
        norm_eps=norm_eps(settings, 1e-6),
        pos_kind=PosKind.LEARNED,
        act=settings.act(Act.SILU if gated else Act.GELU_ERF, "the tensors do not tell; give --act"),
        context=context_of(parts, settings, learned=True),
        windows=windows(parts, settings),
    )


ARCH = Arch(
    name="rms_gpt",
    model_types=("rms_gpt",),
    requires=frozenset({"tok_embed", "pos_embed", "attn_norm", "ffn_norm", "final_norm"}),
    decide=decide,
    fits=lambda parts: "pos_embed" in parts.tensors and not parts.has("attn_norm_bias"),
)
