"""Name maps: a small TOML file that says which checkpoint tensor is which.

[names]
"tok_embed" = "piece_table.weight"
"layers.{i}.wq" = "stack.{i}.mix.query.weight"
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..spec import LAYER_TENSORS, MODEL_TENSORS
from .names import FUSED, bias_name

_LAYER_PARTS = frozenset((*LAYER_TENSORS, *FUSED, *(bias_name(part) for part in FUSED)))
_PREFIX = "layers.{i}."


def read_name_map(path: str) -> dict[str, str]:
    """Canonical part (layer parts without their prefix) -> pattern; ConfigError for typos."""
    try:
        table = _parse(Path(path).read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the name map {path} can not be read ({error.strerror})", "check the path after --names"
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"the name map {path} is not TOML ({error})", 'a line reads "wq" = "layers.{i}.query.weight"'
        ) from None
    names = table.get("names")
    if not isinstance(names, dict) or set(table) != {"names"}:
        raise ConfigError(f"the name map {path} must hold one table, [names]", "see the README for an example")
    return dict(_entry(key, value) for key, value in names.items())


def _parse(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _entry(key: str, value: Any) -> tuple[str, str]:
    part = key.removeprefix(_PREFIX)
    in_layer = part in _LAYER_PARTS
    if not in_layer and (part != key or part not in MODEL_TENSORS):
        raise ConfigError(f"the name map has the unknown key {key!r}", _meant(part, (*MODEL_TENSORS, *_LAYER_PARTS)))
    if not isinstance(value, str) or ("{i}" in value) != in_layer:
        need = "with {i} for the layer" if in_layer else "without {i}"
        raise ConfigError(f"the name map maps {key} to {value!r}", f"give a tensor name {need}")
    return part, value


def mapped_parts(names: Mapping[str, str], tensors: Mapping[str, Any]) -> dict[tuple[int | None, str], str]:
    """(layer or None, canonical part) -> checkpoint name; ConfigError when a pattern names no tensor."""
    out: dict[tuple[int | None, str], str] = {}
    for part, pattern in names.items():
        hits = _hits(pattern, tensors)
        if not hits:
            raise ConfigError(f"the name map names {pattern}, which is not in the checkpoint", _meant(pattern, tensors))
        for layer, name in hits:
            if name in out.values():
                raise ConfigError(f"the name map uses {name} twice", "each tensor has one place")
            out[layer, part] = name
    return out


def _hits(pattern: str, tensors: Mapping[str, Any]) -> list[tuple[int | None, str]]:
    if "{i}" not in pattern:
        return [(None, pattern)] if pattern in tensors else []
    before, after = pattern.split("{i}", 1)
    out: list[tuple[int | None, str]] = []
    for name in tensors:
        number = name[len(before) : len(name) - len(after)] if after else name[len(before) :]
        if name == pattern.replace("{i}", number) and number.isdigit():
            out.append((int(number), name))
    return out


def _meant(word: str, known: Iterable[str]) -> str:
    pool = list(known)
    close = difflib.get_close_matches(word.replace("{i}", "0"), pool, 3, 0.4)
    return f"did you mean {', '.join(close)}?" if close else "see what there is with: tinyexport inspect"
