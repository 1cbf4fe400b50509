"""BitNet b1.58: transformers' BitNetForCausalLM (float or packed), and plain BitLinear models."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..blob.schema import Act, InputQuant, NormKind, PosKind
from ..errors import CheckpointError, ConfigError
from ..spec import LINEAR_TENSORS, Fact
from . import ternary
from .base import Arch, Decision, Sizes, context_of, norm_eps, rope_plan, windows
from .collect import Parts
from .names import FUSED
from .settings import Settings

_UNIT_TOLERANCE = 1e-6
_TAGS = frozenset(("bitnet", "b1.58", "1-bit", "1.58-bit", "ternary", "bitlinear"))
_BITLM_KEYS = ("bitlinear", "bitnet", "ternary", "use_bitlinear", "b158")


def says_bitlinear(config: dict[str, object]) -> bool:
    """Whether a config without model_type tells that its linear layers are BitLinear."""
    return any(config.get(key) is True for key in _BITLM_KEYS) or str(config.get("linear", "")).lower() == "bitlinear"


def is_latent(parts: Parts, settings: Settings, tags: Iterable[str]) -> bool:
    """Whether a bare Llama-shaped state dict was trained as ternary: its card says so, or its weights look so."""
    if not _TAGS.isdisjoint(tags):
        settings.facts["ternary"] = Fact("latent", "read", "tag of the model card")
        return True
    linear = (v for name, v in parts.tensors.items() if name.rsplit(".", 1)[-1] in (*LINEAR_TENSORS, *FUSED))
    if ternary.looks_latent(linear):
        note = "weights crowd at the threshold of ternary rounding, as BitLinear leaves them; else say --arch llama"
        settings.facts["ternary"] = Fact("latent", "assumed", note)
        return True
    return False


def input_quant(parts: Parts, settings: Settings, eps: float, usual: InputQuant) -> InputQuant:
    """How BitLinear layers quantise their input: not, per token, or per token after a norm of their own."""
    quantisation = settings.section("quantization_config")
    inside = (
        bool(parts.inner_norms) or bool(quantisation.get("use_rms_norm")) or settings.config.get("norm_inside") is True
    )
    if inside:
        for name, gain in parts.inner_norms.items():
            if np.abs(gain - 1).max(initial=0) > _UNIT_TOLERANCE:
                raise CheckpointError(
                    f"the norm {name} inside a BitLinear layer has learned gains", "only gains of one can be exported"
                )
            parts.left_out.append(f"{name}: unit gains, the norm itself is kept")
        if quantisation.get("rms_norm_eps", eps) != eps:
            raise ConfigError(
                "the norms inside BitLinear layers have another eps", "one eps for all norms is supported"
            )
        return InputQuant.NORM_CLAMP
    stated = settings.config.get("input_quant", settings.config.get("act_quant"))
    if stated is None:
        return usual
    return InputQuant.CLAMP if str(stated).lower() in ("true", "per_token", "clamp", "int8", "8") else InputQuant.PLAIN


def _is_ternary(parts: Parts) -> bool:
    return all(
        name in parts.packed_scale or ternary.exact_scale(values) is not None
        for name, values in parts.tensors.items()
        if name.rsplit(".", 1)[-1] in LINEAR_TENSORS
    )


def _decide(
    parts: Parts, size: Sizes, settings: Settings, usual: InputQuant, latent: bool, likely_eps: float
) -> Decision:
    context = context_of(parts, settings, learned=False)
    pairing = "half" if settings.model_type in ("bitnet", "bitlm") else None
    eps = norm_eps(settings, likely_eps)
    return Decision(
        norm_kind=NormKind.RMS,
        norm_eps=eps,
        pos_kind=PosKind.ROPE,
        act=settings.act(Act.SILU if parts.has("w_gate") else Act.GELU_ERF, "give --act"),
        context=context,
        windows=windows(parts, settings),
        input_quant=input_quant(parts, settings, eps, usual),
        latent=latent,
        rope=rope_plan(parts, size, settings, context, pairing),
    )


def decide_hf(parts: Parts, size: Sizes, settings: Settings) -> Decision:
    """BitNetForCausalLM: packed, ternary floats, or latent floats (online quantisation)."""
    quantisation = settings.section("quantization_config")
    latent = not _is_ternary(parts)
    if latent and settings.options.ternary is not None:
        settings.facts["ternary"] = Fact("latent" if settings.options.ternary else "float", "given")
        latent = settings.options.ternary
    elif latent and quantisation.get("quantization_mode") == "online":
        settings.facts["ternary"] = Fact("latent", "read")
    elif latent:
        note = "weights are not ternary as stored; taken for latent ones, as a BitNet is trained"
        settings.facts["ternary"] = Fact("latent", "assumed", note)
    else:
        settings.facts["ternary"] = Fact("packed" if parts.packed_scale else "exact", "read")
    return _decide(parts, size, settings, InputQuant.CLAMP, latent, likely_eps=1e-5)


def decide_bitlm(parts: Parts, size: Sizes, settings: Settings) -> Decision:
    """Plain BitLinear layers: no extra norms, inputs in full precision unless the config says otherwise."""
    given = settings.options.arch is not None or settings.options.ternary is not None
    if _is_ternary(parts):
        settings.facts["ternary"] = Fact("exact", "read")
    settings.facts.setdefault("ternary", Fact("latent", "given" if given else "read"))
    return _decide(parts, size, settings, InputQuant.PLAIN, latent=True, likely_eps=1e-6)


BITNET = Arch(
    name="bitnet",
    model_types=("bitnet",),
    requires=frozenset({"tok_embed", "attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm", "final_norm"}),
    decide=decide_hf,
    fits=lambda parts: parts.has("attn_sub_norm") and parts.has("ffn_sub_norm"),
)
BITLM = Arch(
    name="bitlm",
    model_types=("bitlm",),
    requires=frozenset({"tok_embed", "attn_norm", "ffn_norm", "final_norm"}),
    decide=decide_bitlm,
    fits=lambda parts: bool(parts.inner_norms) and "pos_embed" not in parts.tensors,
)
