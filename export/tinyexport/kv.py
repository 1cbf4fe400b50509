"""Kinds of KV cache: a type, and for i8 and i4 how many scales a position has: `i4/2`, two for K and two for V."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from .errors import ConfigError

KV_TYPES = ("f32", "f16", "i8", "i4")
_SCALED = ("i8", "i4")
_SYNTAX = re.compile(rf"({'|'.join(KV_TYPES)})|({'|'.join(_SCALED)})/([1-9][0-9]{{0,3}})")


class KvKind(NamedTuple):
    """The kv heads of a position fall into `groups` equal groups, each with its own scale."""

    type: str
    groups: int = 1

    def __str__(self) -> str:
        """As people write it."""
        return self.type if self.groups == 1 else f"{self.type}/{self.groups}"


def parse_kv(text: str) -> KvKind:
    """The kind of cache that `text` names; ConfigError when it names none."""
    found = _SYNTAX.fullmatch(text)
    if found is None:
        hint = f"use one of {', '.join(KV_TYPES)}; {' and '.join(_SCALED)} take a number of scales, such as i4/2"
        raise ConfigError(f"unknown KV cache {text!r}", hint)
    plain, scaled, groups = found.groups()
    return KvKind(plain or scaled, int(groups or 1))


def kv_kinds(kv_type: str, kv_heads: Iterable[int], most_groups: int | None = None) -> list[str]:
    """The kinds of this type that suit layers with so many kv heads, the coarsest first."""
    most = math.gcd(*kv_heads) if kv_type in _SCALED else 1
    return [str(KvKind(kv_type, n)) for n in range(1, (most_groups or most) + 1) if most % n == 0]


def check_kv(kind: KvKind, kv_heads: Iterable[int]) -> None:
    """ConfigError unless every layer's kv heads can be cut into the kind's groups."""
    heads = tuple(kv_heads)
    uneven = next((i for i, n in enumerate(heads) if n % kind.groups), None)
    if uneven is not None:
        raise ConfigError(
            f"KV {kind}: the {heads[uneven]} kv heads of layer {uneven} do not fall into {kind.groups} equal groups",
            f"use one of {', '.join(kv_kinds(kind.type, heads))}",
        )
