"""Tokenizers: read from any file, packed for the runtime, pruned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import TokenizerError
from .model import Tokenizer, check
from .prune import prune

__all__ = ["Tokenizer", "load", "prune"]

HINT = "name the tokenizer with --tokenizer: tokenizer.json, tokenizer.model, tok512.bin or vocab.json with merges.txt"


def load(files: Mapping[str, Path | str] | Path | str, gguf: Mapping[str, Any] | None = None) -> Tokenizer:
    """The tokenizer of a checkpoint.

    Args:
        files: a file, a folder, or files by kind: tokenizer_json, tokenizer_model, tokenizer_bin,
            vocab_json, merges_txt, tokenizer_config. The first kind of this list that is there is used.
        gguf: the vocabulary of a GGUF file (keys model, tokens, scores, token_type, merges...), used
            when `files` has none.

    Raises:
        TokenizerError: none found, a broken file, or one that the runtime can not reproduce exactly.
    """
    found = _by_kind(Path(files)) if isinstance(files, (str, Path)) else {k: Path(v) for k, v in files.items()}
    config = _config(found.get("tokenizer_config"))
    if "tokenizer_json" in found:
        from . import hf

        return check(hf.load(_text(found["tokenizer_json"]), config))
    if "tokenizer_model" in found:
        from . import spm

        return check(spm.load(_bytes(found["tokenizer_model"]), config))
    if "tokenizer_bin" in found:
        from . import llama2c

        return check(llama2c.load(_bytes(found["tokenizer_bin"])))
    if "vocab_json" in found:
        from . import hf

        merges = _text(found["merges_txt"]) if "merges_txt" in found else None
        return check(hf.load_vocab_merges(_text(found["vocab_json"]), merges))
    if gguf is not None:
        from . import gguf as gguf_vocab

        return check(gguf_vocab.load(gguf))
    raise TokenizerError("there is no tokenizer beside the model", HINT)


def _by_kind(path: Path) -> dict[str, Path]:
    if path.is_dir():
        names = {
            "tokenizer_json": "tokenizer.json", "tokenizer_model": "tokenizer.model", "vocab_json": "vocab.json",
            "merges_txt": "merges.txt", "tokenizer_config": "tokenizer_config.json",
        }  # fmt: skip
        found = {kind: path / name for kind, name in names.items() if (path / name).is_file()}
        bins = sorted(path.glob("tok*.bin"))
        return found | ({"tokenizer_bin": bins[0]} if bins else {})
    kinds = {".model": "tokenizer_model", ".bin": "tokenizer_bin", ".json": "tokenizer_json", ".xz": "tokenizer_json"}
    kind = kinds.get(path.suffix)
    if kind is None:
        raise TokenizerError(f"{path.name} is not a known kind of tokenizer file", HINT)
    found = {"vocab_json" if path.name.endswith("vocab.json") else kind: path}
    for other, name in (
        ("merges_txt", path.name.replace("vocab.json", "merges.txt")),
        ("tokenizer_config", "tokenizer_config.json"),
    ):
        if name != path.name and (path.parent / name).is_file():
            found[other] = path.parent / name
    return found


def _bytes(path: Path) -> bytes:
    import lzma

    try:
        return lzma.open(path).read() if path.suffix == ".xz" else path.read_bytes()
    except (OSError, EOFError, lzma.LZMAError) as err:
        raise TokenizerError(f"{path.name} can not be read ({err})", HINT) from None


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as err:
        raise TokenizerError(f"{path.name} is not UTF-8 ({err})", HINT) from None


def _config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as err:
        raise TokenizerError(f"{path.name} is not readable JSON ({err})", "repair or remove it") from None
    return value if isinstance(value, dict) else {}
