"""GPT-2 and its re-implementations: learned positions, LayerNorm, fused qkv, plain GELU."""

from __future__ import annotations

from ..blob.schema import Act, NormKind, PosKind
from .base import Arch, Decision, Sizes, context_of, norm_eps, windows
from .collect import Parts
from .settings import Settings


def decide(parts: Parts, size: Sizes, settings: Settings) -> Decision:
    """GPT-2 from its config; PyTorch's own GELU is the exact one, GPT-2's the tanh form."""
    scaled = settings.config.get("scale_attn_weights", True)
    likely = Act.GELU_TANH if settings.model_type == "gpt2" else Act.GELU_ERF
    return Decision(
        norm_kind=NormKind.LAYER,
        norm_eps=norm_eps(settings, 1e-5),
        pos_kind=PosKind.LEARNED,
        act=settings.act(likely, "give --act"),
        context=context_of(parts, settings, learned=True),
        windows=windows(parts, settings),
        attn_scale=None if scaled else 1.0,
    )


ARCH = Arch(
    name="gpt2",
    model_types=("gpt2",),
    requires=frozenset({"tok_embed", "pos_embed", "attn_norm", "ffn_norm", "final_norm"}),
    decide=decide,
    fits=lambda parts: "pos_embed" in parts.tensors and parts.has("attn_norm_bias"),
)
