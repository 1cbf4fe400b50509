"""Which config and tokenizer belong to a model file: matched by common prefix, ambiguity is an error."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ConfigError, TokenizerError
from .raw import RawCheckpoint, sha256

MODEL_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".gguf")
_NOT_MODEL_CONFIG = ("tokenizer", "generation", "adapter", "preprocessor", "special_tokens")
_TOKENIZER_DIRS = ("tokenizers", "tokenizer")  # beside the weights, or beside the folder that holds them
_WEIGHT_DIRS = ("models", "weights", "checkpoints")
_TOKENIZER_BIN = re.compile(r"^(.*[_.-])?tok[a-z]*[0-9]*\.bin$", re.IGNORECASE)
_TAIL_WORDS = re.compile(
    r"[_.-]*(config|model_config|tokenizer_config|tokenizer|tok[0-9]*|spm|sp|vocab|merges|params|args)$", re.I
)


def is_tokenizer_bin(path: Path) -> bool:
    """Whether a .bin is a llama2.c tokenizer by its name (tokenizer.bin, tok512.bin)."""
    return bool(_TOKENIZER_BIN.match(path.name))


def model_files(folder: Path) -> list[Path]:
    """The files of a folder that may hold weights, sorted by name."""
    return sorted(
        p
        for p in folder.iterdir()
        if p.suffix in MODEL_SUFFIXES
        and p.is_file()
        and not is_tokenizer_bin(p)
        and not p.stem.startswith("training_args")
    )


def _prefix(path: Path) -> str:
    """`x_10m_` of x_10m_config.json; empty for config.json and tokenizer.json."""
    stem, before = path.stem.lower(), ""
    while stem != before:
        before, stem = stem, _TAIL_WORDS.sub("", stem)
    return stem.strip("_.-")


def _words(stem: str) -> list[str]:
    return [word for word in re.split(r"[_\s-]+", stem.lower()) if word]


def match(model: Path, candidates: list[Path], what: str, option: str) -> Path | None:
    """The candidate whose prefix is the longest one that starts the model's name; None when no one fits.

    A file without a prefix (config.json) fits every model. A file with another prefix fits only
    where there is a single model. ConfigError when several fit equally well.
    """
    words = _words(model.stem)
    fitting: dict[int, list[Path]] = {}
    for candidate in candidates:
        prefix = _words(_prefix(candidate))
        if prefix == words[: len(prefix)]:
            fitting.setdefault(len(prefix), []).append(candidate)
    if fitting:
        best = fitting[max(fitting)]
    elif len(model_files(model.parent)) <= 1:
        best = candidates
    else:
        best = []
    if len(best) > 1:
        names = ", ".join(p.name for p in best)
        raise ConfigError(f"{model.name} could belong to several {what} files: {names}", f"choose one with {option}")
    return best[0] if best else None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; ConfigError when it is anything else."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path.name} is not readable JSON ({error})", "repair it, or name another file") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path.name} is not a JSON object", "name the model's config.json with --config")
    return value


def _is_tokenizer_json(path: Path) -> bool:
    return path.suffix == ".json" and "tokenizer" in path.stem.lower() and "config" not in path.stem.lower()


def _is_config_json(path: Path) -> bool:
    stem = path.stem.lower()
    return path.suffix == ".json" and "config" in stem and not any(word in stem for word in _NOT_MODEL_CONFIG)


def find_config(model: Path, raw: RawCheckpoint, override: str | None) -> None:
    """Read the config (given, or beside the model) into `raw`."""
    if override is not None:
        path: Path | None = Path(override)
        if not Path(override).is_file():
            raise ConfigError(f"there is no config file {override}", "check the path after --config")
    else:
        folders = [model.parent, *([model.parent.parent] if model.parent.name in _WEIGHT_DIRS else [])]
        found = ([p for p in sorted(folder.iterdir()) if _is_config_json(p)] for folder in folders)
        candidates: list[Path] = next((paths for paths in found if paths), [])
        path = match(model, candidates, "config", "--config")
        if path is None:
            raw.left_out += [f"{p.name}: belongs to another model by its name; --config takes it" for p in candidates]
    if path is not None:
        raw.config.update(_pick_model(read_json(path), model))
        raw.sources[path.name] = sha256(path)
    generation = model.parent / "generation_config.json"
    if generation.is_file():
        raw.generation_config = read_json(generation)


def _pick_model(config: dict[str, Any], model: Path) -> dict[str, Any]:
    """One config file may describe several sizes: {"10m": {...}, "5m": {...}}; take the one in the model's name."""
    stem = re.sub(r"[^a-z0-9]", "", model.stem.lower())
    for level in (config, *(v for v in config.values() if isinstance(v, dict))):
        named = {k: v for k, v in level.items() if isinstance(v, dict)}
        hits = [k for k in named if (key := re.sub(r"[^a-z0-9]", "", k.lower())) and key in stem]
        if len(named) > 1 and hits:
            best = max(hits, key=len)
            return {**{k: v for k, v in config.items() if not isinstance(v, dict)}, **named[best]}
    return config


def find_tokenizer(model: Path, raw: RawCheckpoint, override: str | None) -> None:
    """Note the tokenizer files (given, or beside the model) in `raw.tokenizer_files`."""
    folders = [model.parent, *(base / name for base in (model.parent, model.parent.parent) for name in _TOKENIZER_DIRS)]
    if override is not None:
        given = Path(override)
        if given.is_file():
            raw.tokenizer_files = {_kind(given): given}
            merges = given.with_name(given.name.replace("vocab.json", "merges.txt"))
            if merges != given and merges.is_file():
                raw.tokenizer_files["merges_txt"] = merges
            return _add_tokenizer_config(given.parent, raw)
        if not given.is_dir():
            raise TokenizerError(f"there is no tokenizer {override}", "check the path after --tokenizer")
        folders = [given]
    foreign: list[Path] = []
    for folder in folders:
        if folder.is_dir() and not raw.tokenizer_files:
            foreign += _tokenizers_in(folder, model, raw)
            _add_tokenizer_config(folder, raw)
    if foreign and not raw.tokenizer_files:
        names = ", ".join(p.name for p in foreign)
        raise ConfigError(f"no tokenizer matches the name of {model.name}: {names}", "choose one with --tokenizer")


def _tokenizers_in(folder: Path, model: Path, raw: RawCheckpoint) -> list[Path]:
    """Note what belongs to the model; returns the candidates that belong to others."""
    files = sorted(p for p in folder.iterdir() if p.is_file())
    foreign: list[Path] = []
    for kind, fits in (
        ("tokenizer_json", _is_tokenizer_json),
        ("tokenizer_model", lambda p: p.suffix == ".model"),
        ("tokenizer_bin", is_tokenizer_bin),
        ("vocab_json", lambda p: p.name.endswith("vocab.json")),
        ("merges_txt", lambda p: p.name.endswith("merges.txt")),
    ):
        candidates = [p for p in files if fits(p)]
        found = match(model, candidates, "tokenizer", "--tokenizer")
        if found is not None:
            raw.tokenizer_files[kind] = found
        foreign += candidates if found is None else []
    return foreign


def _add_tokenizer_config(folder: Path, raw: RawCheckpoint) -> None:
    config = folder / "tokenizer_config.json"
    if raw.tokenizer_files and config.is_file():
        raw.tokenizer_files["tokenizer_config"] = config
    raw.sources.update({path.name: sha256(path) for path in raw.tokenizer_files.values()})


def _kind(path: Path) -> str:
    if path.suffix in (".json", ".xz"):
        return "vocab_json" if path.name.endswith("vocab.json") else "tokenizer_json"
    if path.suffix == ".model":
        return "tokenizer_model"
    if path.suffix == ".bin":
        return "tokenizer_bin"
    raise TokenizerError(f"{path.name} is not a known kind of tokenizer file", "give tokenizer.json, .model or .bin")


def directory_weights(folder: Path) -> list[Path]:
    """The weight files of a Hugging Face directory (shards in order); CheckpointError when undecided."""
    from .hf import index_shards

    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            return index_shards(folder / f"{name}.index.json")
    places = [folder, *(folder / name for name in _WEIGHT_DIRS if (folder / name).is_dir())]
    found = next((files for files in map(model_files, places) if files), [])
    if len(found) == 1:
        return found
    if found:
        names = ", ".join(p.name for p in found)
        raise CheckpointError(
            f"{folder} holds several models: {names}", f"name one of these files in {found[0].parent}"
        )
    raise CheckpointError(f"{folder} holds no weights", "give a folder with model.safetensors, or a weight file")
