"""What else the assumed facts of a checkpoint could be, for `--probe`."""

from __future__ import annotations

from typing import Any

from ..blob.schema import FfnKind, PosKind
from ..spec import Checkpoint

_MAX_HEAD_DIM = 128
_MIN_HEAD_DIM = 4


def undecided(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Changes of ArchOptions to try, the present guess ({}) first; empty when nothing was assumed.

    Head count and RoPE pairing depend on each other and are varied together, other facts alone.
    """
    assumed = {name: fact.value for name, fact in checkpoint.facts.items() if fact.origin == "assumed"}
    heads = _heads(checkpoint) if "heads" in assumed else [None]
    pairings = ["half", "interleaved"] if "rope" in assumed else [None]
    out: list[dict[str, Any]] = []
    for count in heads:
        for pairing in pairings:
            change = {"heads": count, "rope": pairing}
            out.append({k: v for k, v in change.items() if v is not None and v != assumed[k]})
    if "ternary" in assumed:
        assumed["ternary"] = bool(assumed["ternary"])  # "latent" is what the option True gives
    for name, values in _alone(checkpoint).items():
        if name in assumed:
            out += [{name: value} for value in values if value != assumed[name]]
    unique = [change for i, change in enumerate(out) if change not in out[:i]]
    return [{}, *(change for change in unique if change)] if len(unique) > 1 or any(unique) else []


def _heads(checkpoint: Checkpoint) -> list[int]:
    """Head counts that divide the query rows and the key rows of every layer into even heads."""
    spec = checkpoint.spec
    rows = spec.n_heads * spec.head_dim
    kv_rows = {layer.n_kv_heads * spec.head_dim for layer in spec.layers}
    sizes = [
        d for d in range(_MIN_HEAD_DIM, _MAX_HEAD_DIM + 1, 2) if rows % d == 0 and all(k % d == 0 for k in kv_rows)
    ]
    return [rows // d for d in sizes if all((rows // d) % (k // d) == 0 for k in kv_rows)]


def _alone(checkpoint: Checkpoint) -> dict[str, list[Any]]:
    gated = any(layer.ffn_kind is FfnKind.GATED for layer in checkpoint.spec.layers)
    acts = ["silu", "gelu_erf", "relu"] if gated else ["gelu_erf", "gelu_tanh", "relu", "relu2", "silu"]
    thetas = [10000.0, 500000.0] if checkpoint.spec.pos_kind is PosKind.ROPE else []
    return {
        "act": acts,
        "norm": ["rms", "layer"],
        "positions": ["rope", "sinusoidal", "none"],
        "norm_eps": [1e-5, 1e-6, 1e-8],
        "rope_theta": thetas,
        "ternary": [False, True],
        "window": [0],
    }
