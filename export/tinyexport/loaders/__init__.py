"""Loaders: a path becomes a RawCheckpoint. Nothing is interpreted here; see `archs`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import CheckpointError
from . import beside, hub
from .card import read_tags
from .gguf import read_gguf
from .hf import index_shards, read_safetensors
from .llama2c import is_llama2c, read_llama2c
from .pt import read_pt
from .raw import RawCheckpoint

__all__ = ["RawCheckpoint", "load"]

_READERS: dict[str, Callable[[Path, RawCheckpoint], None]] = {
    "safetensors": read_safetensors,
    "pt": read_pt,
    "gguf": read_gguf,
    "llama2c": read_llama2c,
}


_SELF_DESCRIBING = ("gguf", "llama2c")  # a config.json beside these describes another file


def load(path: str, *, config: str | None = None, tokenizer: str | None = None) -> RawCheckpoint:
    """Read a checkpoint with its config and tokenizer.

    `path` is a weight file (.safetensors, .pt, .pth, .bin, .gguf), a Hugging Face directory, or a
    repo id. `config` and `tokenizer` override the files found beside it. CheckpointError,
    ConfigError or TokenizerError say what is wrong.
    """
    weights = _weight_files(path)
    raw = RawCheckpoint(_format(weights[0]), {}, folder=weights[0].parent, tags=read_tags(weights[0].parent))
    for file in weights:
        if file.stat().st_size == 0:
            raise CheckpointError(f"{file.name} is empty", "copy or download it again")
        try:
            _READERS[raw.format](file, raw)
        except OSError as error:
            raise CheckpointError(f"{file.name} can not be read ({error})", "check the file and its rights") from None
        raw.sources[file.name] = beside.sha256(file)
    if not raw.tensors:
        raise CheckpointError(f"{weights[0].name} holds no tensors", "name a file with the model's weights")
    if raw.format not in _SELF_DESCRIBING or config is not None:
        beside.find_config(weights[0], raw, config)
    if raw.gguf_tokenizer is None or tokenizer is not None:
        raw.gguf_tokenizer = None
        beside.find_tokenizer(weights[0], raw, tokenizer)
    return raw


def _weight_files(path: str) -> list[Path]:
    given = Path(path)
    if given.is_file():
        return index_shards(given) if given.name.endswith(".index.json") else [given]
    if not given.exists():
        if hub.is_repo_id(path):
            given = hub.fetch(path)
        else:
            raise CheckpointError(f"there is no checkpoint {path}", "give a weight file, a folder or a repo id")
    return beside.directory_weights(given)


def _format(path: Path) -> str:
    """The kind of a weight file, by its first bytes rather than its name where these tell."""
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == b"GGUF":
        return "gguf"
    if head[:4] == b"TLM\x1a":
        raise CheckpointError(f"{path.name} is a .tlm blob already", "give the checkpoint that it was made from")
    if head[:2] == b"PK" or (head[:1] == b"\x80" and path.suffix in (".pt", ".pth", ".bin")):
        return "pt"
    by_suffix = {".safetensors": "safetensors", ".gguf": "gguf", ".pt": "pt", ".pth": "pt"}
    if path.suffix in by_suffix:
        return by_suffix[path.suffix]
    if path.suffix == ".bin":
        return "llama2c" if is_llama2c(path) else "pt"
    raise CheckpointError(
        f"{path.name} is not a known kind of checkpoint", "give .safetensors, .pt, .pth, .bin, .gguf or a folder"
    )
