"""GPT-Neo: learned positions, LayerNorm, unscaled scores, alternating global and local windows."""

from __future__ import annotations

from ..blob.schema import MAX_LAYERS, Act, NormKind, PosKind
from ..errors import ConfigError
from .base import Arch, Decision, Sizes, context_of, norm_eps, windows
from .collect import Parts
from .settings import Settings


def _kinds(settings: Settings) -> list[str]:
    """ "global" or "local" by layer, from attention_layers or the run-length form attention_types."""
    listed = settings.config.get("attention_layers")
    if listed is None:
        runs = settings.config.get("attention_types", [])
        try:
            listed = [kind for kinds, times in runs for _ in range(min(times, MAX_LAYERS + 1)) for kind in kinds]
        except (TypeError, ValueError):
            raise ConfigError(
                f"attention_types = {runs!r} is not [[kinds, times], ...]", "correct the config"
            ) from None
    if not isinstance(listed, list) or any(kind not in ("global", "local") for kind in listed):
        raise ConfigError(f"attention layers {listed!r} are not global or local", "correct the config")
    return listed


def _windows(parts: Parts, settings: Settings) -> tuple[int, ...]:
    kinds = _kinds(settings)
    if len(kinds) != parts.n_layers:
        raise ConfigError(
            f"the config gives {len(kinds)} attention kinds for {parts.n_layers} layers", "correct attention_types"
        )
    size = settings.integer("window") or 256
    return tuple(size if kind == "local" else 0 for kind in kinds)


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
)
