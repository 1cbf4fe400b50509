"""Config keys under their many names, and where each fact of a model came from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..blob.schema import Act
from ..errors import ConfigError
from ..spec import Fact

_KEYS: dict[str, tuple[str, ...]] = {
    "dim": ("hidden_size", "d_model", "dim", "n_embd", "n_embed", "embed_dim", "emb_dim", "embedding_dim", "model_dim"),
    "layers": ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "depth", "n_blocks", "num_blocks"),
    "heads": ("num_attention_heads", "num_heads", "n_heads", "n_head", "heads", "nhead", "attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_kv_head", "kv_heads"),
    "head_dim": ("head_dim", "d_head", "head_size"),
    "ffn": (
        "intermediate_size", "ffn_dim", "d_ff", "dim_ff", "ff_dim", "mlp_dim", "n_inner", "ffn_hidden_dim",
        "ffn_hidden", "hidden_dim", "ffn_size", "mlp_hidden",
    ),
    "context": (
        "max_position_embeddings", "max_seq_len", "max_seq_length", "block_size", "context_length", "context_len",
        "context", "n_positions", "n_ctx", "seq_len", "max_len", "context_size", "sequence_length", "ctx_len",
    ),
    "vocab": ("vocab_size", "n_vocab", "vocabulary_size", "vocab"),
    "eps": ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_eps", "rms_eps", "eps", "rms_norm_epsilon"),
    "theta": ("rope_theta", "rope_base", "rotary_base", "theta", "rope_freq_base"),
    "act": ("hidden_act", "activation_function", "hidden_activation", "activation", "act", "act_fn", "ffn_act"),
    "tied": ("tie_word_embeddings", "tie_weights", "tied", "weight_tying", "tie_embeddings", "tied_embeddings"),
    "norm": ("norm_type", "norm", "normalization", "norm_kind"),
    "window": ("sliding_window", "window_size", "attention_window"),
}  # fmt: skip
_SECTIONS = ("model", "model_config", "model_args", "config", "architecture", "params", "text_config", "hparams")

_HUGE = 1e30  # no fact of a model is as large

ACTS = {
    **dict.fromkeys(("silu", "swish", "swiglu"), Act.SILU),
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_tanh", "gelu_accurate"), Act.GELU_TANH),
    **dict.fromkeys(("gelu", "gelu_erf", "gelu_python", "geglu"), Act.GELU_ERF),
    **dict.fromkeys(("relu", "reglu"), Act.RELU),
    **dict.fromkeys(("relu2", "relu_squared", "squared_relu"), Act.RELU2),
}


@dataclass(frozen=True)
class ArchOptions:
    """What the user says about a model; None where nothing was said."""

    arch: str | None = None
    names: str | None = None  # path of a TOML name map
    heads: int | None = None
    kv_heads: int | None = None
    rope: str | None = None  # "half" or "interleaved"
    rope_theta: float | None = None
    norm: str | None = None  # "rms" or "layer"
    norm_eps: float | None = None
    act: str | None = None
    context: int | None = None
    positions: str | None = None  # "rope", "none" or "sinusoidal", where there is no position table
    window: int | None = None  # of every layer; 0 = global
    bos: bool | None = None
    ternary: bool | None = None  # True: trained with BitLinear layers from latent weights


def positive(name: str, value: Any) -> float:
    """A positive number of the config; ConfigError when it is anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < _HUGE:
        raise ConfigError(f"{name} = {value!r} is not a positive number", "correct the config")
    return float(value)


class Settings:
    """Config and options of one model, and a record of what was asked of them."""

    def __init__(self, config: Mapping[str, Any], options: ArchOptions) -> None:
        self.options = options
        self.config = dict(config)
        for name in _SECTIONS:
            if isinstance(config.get(name), Mapping):
                self.config = {**config[name], **self.config}
        self.model_type = str(self.config.get("model_type") or "")
        self.facts: dict[str, Fact] = {}

    def get(self, key: str) -> Any:
        """The config value under any of its names, None when absent."""
        return next((self.config[k] for k in _KEYS[key] if self.config.get(k) is not None), None)

    def name_of(self, key: str) -> str:
        """The config key that `get` took the value from."""
        return next((k for k in _KEYS[key] if self.config.get(k) is not None), key)

    def integer(self, key: str) -> int | None:
        """A positive integer from the config, None when absent; ConfigError when it is anything else."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < _HUGE or value % 1:
            raise ConfigError(f"{self.name_of(key)} = {value!r} is not a positive integer", "correct the config")
        return int(value)

    def number(self, key: str) -> float | None:
        """A positive number from the config, None when absent; ConfigError when it is anything else."""
        value = self.get(key)
        return None if value is None else positive(self.name_of(key), value)

    def section(self, key: str) -> dict[str, Any]:
        """An object of the config, empty when absent; ConfigError when it is anything else."""
        value = self.config.get(key)
        if value is not None and not isinstance(value, dict):
            raise ConfigError(f"{key} = {value!r} is not an object", "correct the config")
        return value or {}

    def fact(self, name: str, given: Any, read: Any, assumed: Any, note: str = "") -> Any:
        """Decide a fact: given beats read beats assumed; the origin is recorded."""
        for origin, value in (("given", given), ("read", read)):
            if value is not None:
                self.facts[name] = Fact(value, origin)
                return value
        self.facts[name] = Fact(assumed, "assumed", note)
        return assumed

    def act(self, assumed: Act, note: str) -> Act:
        """The activation function; ConfigError for one that is not supported."""
        name = self.options.act if self.options.act is not None else self.get("act")
        if name is not None and str(name).lower() not in ACTS:
            close = difflib.get_close_matches(str(name), ACTS, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(f"the activation {name!r} is not supported", f"{hint}known: {', '.join(sorted(ACTS))}")
        given = self.options.act and ACTS[self.options.act.lower()].name.lower()
        read = None if self.get("act") is None else ACTS[str(self.get("act")).lower()].name.lower()
        return Act[self.fact("act", given, read, assumed.name.lower(), note).upper()]
