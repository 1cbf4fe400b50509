"""GPT-Neo: learned positions, LayerNorm, unscaled scores, alternating global and local windows."""

from __future__ import annotations

from typing import Any

from ..blob.schema import MAX_LAYERS, Act, NormKind, PosKind
from ..errors import ConfigError
from .base import Arch, Decision, Sizes, context_of, norm_eps, windows
from .collect import Parts
from .settings import Settings


def _kinds(parts: Parts, settings: Settings) -> list[str]:
    """ "global" or "local" by layer, from attention_layers or the run-length form attention_types."""
    listed = settings.config.get("attention_layers")
    runs: Any = settings.config.get("attention_types")
    if listed is None and runs is None:
        note = "the tensors do not tell which layers are local; give --config"
        listed = settings.fact("window", None, None, ["global", "local"] * parts.n_layers, note)[: parts.n_layers]
    elif listed is None:
        try:
            listed = [kind for kinds, times in runs for _ in range(min(times, MAX_LAYERS + 1)) for kind in kinds]
        except (TypeError, ValueError):
            raise ConfigError(
                f"attention_types = {runs!r} is not [[kinds, times], ...]", "correct the config"
            ) from None
    if not isinstance(listed, list) or any(kind not in ("global", "local") for kind in listed):
        raise ConfigError(f"attention layers {listed!r} are not global or local", "correct the config")
    if len(listed) != parts.n_layers:
        raise ConfigError(
            f"the config gives {len(listed)} attention kinds for {parts.n_layers} layers", "correct attention_types"
        )
    return listed


def _windows(parts: Parts, settings: Settings) -> tuple[int, ...]:
    if settings.options.window is not None:
        return ()
    size = settings.integer("window") or 256
    return tuple(size if kind == "local" else 0 for kind in _kinds(parts, settings))


def decide(parts: Parts, size: Sizes, settings: Settings) -> Decision:
    """GPT-Neo from its config."""
    return Decision(
        norm_kind=NormKind.LAYER,
        norm_eps=norm_eps(settings, 1e-5),
        pos_kind=PosKind.LEARNED,
        act=settings.act(Act.GELU_TANH, "what GPT-Neo uses; give --act"),
        context=context_of(parts, settings, learned=True),
        windows=windows(parts, settings, _windows(parts, settings)),
        attn_scale=1.0,
    )


ARCH = Arch(
    name="gpt_neo",
    model_types=("gpt_neo",),
    requires=frozenset(
        {
            "tok_embed",
            "pos_embed",
            "attn_norm",
            "attn_norm_bias",
            "bo",
            "ffn_norm",
            "ffn_norm_bias",
            "b_up",
            "b_down",
            "final_norm",
            "final_norm_bias",
        }
    ),
    decide=decide,
    fits=lambda parts: ".attn.attention." in parts.source_of("layers.0.wq"),  # a nesting of its own
)
