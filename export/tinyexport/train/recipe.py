"""A recipe: one TOML file that says everything about a training run.

Every table is a frozen dataclass below; its fields are the keys, their types are checked, and a key that no
field has is an error with the closest spelling. `[reduced]` holds the same tables again and overrides them for
a run of minutes on two cores.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..errors import TinyError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LEAST_BPE = 259
FAMILIES = ("llama", "gpt_neo", "bitlm", "rms_gpt")


class RecipeError(TinyError):
    """A recipe that can not be read, or that contradicts itself."""


class TrainError(TinyError):
    """A training run that can not start or go on."""


@dataclass(frozen=True)
class ModelPart:
    """`[model]`: sizes. Zero means the usual value: kv_heads = heads, ffn_dim = 4 dim."""

    dim: int
    layers: int
    heads: int
    context: int
    kv_heads: int = 0
    ffn_dim: int = 0
    ffn: str = "gated"  # rms_gpt only: gated (SiLU) or plain (GELU)
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    window: int = 256  # gpt_neo only: positions that every second layer looks back on
    init_std: float = 0.02


@dataclass(frozen=True)
class TokenizerPart:
    """`[tokenizer]`: either trained on the training text, or a file that exists."""

    kind: str = "bpe"  # bpe (byte level) or unigram (SentencePiece)
    vocab: int = 1024
    file: str = ""  # tokenizer.json or tokenizer.model, relative to the recipe
    bos: str = "<s>"  # empty: no BOS is prepended
    eos: str = "<|endoftext|>"


@dataclass(frozen=True)
class SourcePart:
    """`[[data.train]]`: one text (plain or .xz), relative to the recipe.

    `stories` are documents apart by lines that hold the separator; `chat` are dialogues apart by blank lines,
    in exchanges `User: ...` / `Bot: ...<|endoftext|>`, and only replies are learned; `text` is one stream.
    """

    path: str
    kind: str = "stories"
    weight: float = 1.0  # share of the windows, relative to the other sources
    aligned: float = -1.0  # share of windows that begin where a document does; -1: 1 for chat, 0.25 else
    separator: str = "<|endoftext|>"


@dataclass(frozen=True)
class DataPart:
    """`[data]`: what is learned, and what is only measured."""

    train: list[SourcePart]
    valid: str = ""  # one stream; its loss is reported and never learned
    valid_windows: int = 64  # windows measured while training; the end measures all
    hint: str = ""  # where a person gets the texts, shown when one is missing


@dataclass(frozen=True)
class OptimPart:
    """`[optim]`: AdamW, warm-up then cosine, clipping."""

    steps: int  # length of the schedule
    batch: int
    lr: float
    min_lr: float = 0.0
    weight_decay: float = 0.1
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    warmup: int = 0
    clip: float = 1.0  # largest gradient norm; 0 = none
    stop: int = 0  # step at which the run ends, before its schedule does; 0 = at the end
    seed: int = 1
    eval_every: int = 100
    save_every: int = 100


@dataclass(frozen=True)
class OutputPart:
    """`[output]`: the form of the checkpoint."""

    format: str = "safetensors"  # or pt: {"model": ..., "config": ...}
    dtype: str = "float32"  # or float16, bfloat16, and for bitlm ternary: four weights a byte, embedding float16
    buffers: bool = False  # add the causal mask and the copy of the tied head, as many checkpoints have them


@dataclass(frozen=True)
class Recipe:
    """A whole recipe. `folder` is where its relative paths begin."""

    name: str
    family: str
    model: ModelPart
    data: DataPart
    optim: OptimPart
    tokenizer: TokenizerPart = TokenizerPart()
    output: OutputPart = OutputPart()
    init: str = ""  # a finished run to fine-tune: its folder
    qat: str = ""  # train through this type's rounding: q4_0
    card: dict[str, Any] = field(default_factory=dict)  # becomes tinyexport.json: licence, attribution, chat...
    folder: Path = Path()

    def path(self, name: str) -> Path:
        """A path of the recipe, relative to its folder."""
        return (self.folder / Path(name).expanduser()).resolve()


def _parse(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`; RecipeError that names the key `where`."""
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _parse_table(kind, value, where)
    if origin in (Union, types.UnionType):
        return _parse(get_args(kind)[0], value, where)
    if origin is list:
        if not isinstance(value, list):
            raise RecipeError(f"{where} must be a list", f"it is {value!r}")
        return [_parse(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise RecipeError(f"{where} must be a table", f"it is {value!r}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RecipeError(f"{where} must be of type {kind.__name__}", f"it is {value!r}")
    return value


def _parse_table(kind: Any, table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise RecipeError(f"{where or 'the recipe'} must be a table", f"it is {table!r}")
    hints = get_type_hints(kind)
    known = {f.name: f for f in dataclasses.fields(kind) if f.name != "folder"}
    prefix = f"{where}." if where else ""
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"known keys: {', '.join(known)}"
            raise RecipeError(f"unknown key {prefix}{key} in the recipe", hint)
    for name, item in known.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise RecipeError(f"the recipe lacks {prefix}{name}", "see examples/tinybuddy/recipe.toml")
    return kind(**{key: _parse(hints[key], value, prefix + key) for key, value in table.items()})


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _one_of(value: str, allowed: tuple[str, ...], where: str) -> None:
    if value not in allowed:
        raise RecipeError(f"{where} is {value!r}", f"it must be one of: {', '.join(allowed)}")


def _check_model(model: ModelPart) -> None:
    for name in ("dim", "layers", "heads", "context"):
        if getattr(model, name) < 1:
            raise RecipeError(f"model.{name} must be positive", f"it is {getattr(model, name)}")
    if model.dim % model.heads or (model.kv_heads and model.heads % model.kv_heads):
        raise RecipeError(
            f"{model.heads} heads ({model.kv_heads or model.heads} kv) do not divide {model.dim} dimensions",
            "dim must be a multiple of heads, and heads of kv_heads",
        )


def _check_numbers(recipe: Recipe) -> None:
    optim = recipe.optim
    for name in ("steps", "batch", "lr", "eval_every", "save_every"):
        if not 0 < getattr(optim, name) < math.inf:
            raise RecipeError(f"optim.{name} must be positive", f"it is {getattr(optim, name)}")
    for name in ("min_lr", "weight_decay", "clip"):
        if not 0 <= getattr(optim, name) < math.inf:
            raise RecipeError(f"optim.{name} must not be negative", f"it is {getattr(optim, name)}")
    if len(optim.betas) != 2 or not all(0 <= b < 1 for b in optim.betas):
        raise RecipeError("optim.betas must be two numbers from 0 to below 1", f"they are {optim.betas}")
    if not 0 <= optim.stop <= optim.steps:
        raise RecipeError("optim.stop must lie between 0 and optim.steps", f"it is {optim.stop}")
    if not 0 <= optim.warmup <= optim.steps:
        raise RecipeError("optim.warmup must lie between 0 and optim.steps", f"it is {optim.warmup}")
    tokenizer = recipe.tokenizer
    if not tokenizer.file and tokenizer.kind == "bpe" and tokenizer.vocab < _LEAST_BPE:
        raise RecipeError(f"tokenizer.vocab is {tokenizer.vocab}", f"256 bytes and 3 specials need {_LEAST_BPE}")
    if not recipe.data.train or not all(0 < s.weight < math.inf for s in recipe.data.train):
        raise RecipeError("data.train needs at least one source, each with a positive weight", "see [[data.train]]")


def _check(recipe: Recipe) -> Recipe:
    _one_of(recipe.family, FAMILIES, "family")
    _one_of(recipe.model.ffn, ("gated", "plain"), "model.ffn")
    _one_of(recipe.tokenizer.kind, ("bpe", "unigram"), "tokenizer.kind")
    _one_of(recipe.output.format, ("safetensors", "pt"), "output.format")
    ternary = ("ternary",) if recipe.family == "bitlm" else ()
    _one_of(recipe.output.dtype, ("float32", "float16", "bfloat16", *ternary), "output.dtype")
    _one_of(recipe.qat, ("", "q4_0"), "qat")
    if recipe.qat and recipe.family == "bitlm":
        raise RecipeError("a bitlm model is trained through ternary rounding already", "leave qat out")
    for source in recipe.data.train:
        _one_of(source.kind, ("stories", "chat", "text"), "data.train.kind")
    _check_model(recipe.model)
    _check_numbers(recipe)
    return recipe


def load_recipe(path: Path, reduced: bool = False) -> Recipe:
    """Read and check a recipe; with `reduced` its [reduced] tables override the others.

    Raises:
        RecipeError: unreadable file, unknown key (with the closest known one), missing or wrong value.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise RecipeError(f"{path} can not be read: {err}", "a recipe is a TOML file") from err
    smaller = table.pop("reduced", None)
    plain = _parse_table(Recipe, table, "")
    if smaller is not None:
        merged = _parse_table(Recipe, _merge(table, smaller), "")  # checked always: a typo should not wait
        plain = merged if reduced else plain
    elif reduced:
        raise RecipeError(f"{path} has no [reduced] table", "train without --reduced")
    return _check(dataclasses.replace(plain, folder=path.resolve().parent))
