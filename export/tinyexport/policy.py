"""Which tensor gets which type: presets, groups (`ATTN=q8_0`) and patterns (`--keep-f32`)."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .errors import ConfigError

MATRIX_TYPES = ("f32", "f16", "q8_0", "q4_0", "t2", "t1")
TERNARY_TYPES = ("t2", "t1")
GROUPS = {
    "ATTN": ("wq", "wk", "wv", "wo"),
    "FFN": ("w_gate", "w_up", "w_down"),
    "EMBED": ("tok_embed",),
    "HEAD": ("head",),
}
_GROUP_OF = {part: group for group, parts in GROUPS.items() for part in parts}


@dataclass(frozen=True)
class TypePolicy:
    """Types by group. Anything that is not a matrix of `GROUPS` stays f32."""

    preset: str
    groups: Mapping[str, str]
    keep_f32: tuple[str, ...] = field(default=())

    def type_of(self, name: str) -> str:
        """The quant type of the canonical tensor `name`."""
        part = name.rsplit(".", 1)[-1]
        group = _GROUP_OF.get(part)
        if group is None or any(fnmatch.fnmatchcase(name, p) for p in self.keep_f32):
            return "f32"
        return self.groups[group]

    def check_names(self, names: Collection[str]) -> None:
        """ConfigError when a pattern of `keep_f32` names no tensor: a slip would quantise what was to be kept."""
        for pattern in self.keep_f32:
            if not fnmatch.filter(names, pattern):
                hint = "`tinyexport inspect CHECKPOINT` lists them, such as layers.0.wq"
                raise ConfigError(f"--keep-f32 {pattern!r} is no tensor's name", hint)


def make_policy(preset: str, embed: str | None, types: str | None, keep_f32: tuple[str, ...]) -> TypePolicy:
    """Build a policy; `types` is e.g. "ATTN=q8_0,FFN=q4_0". ConfigError on an unknown group or type."""
    table = "f16" if preset in TERNARY_TYPES else preset
    groups = {"ATTN": preset, "FFN": preset, "EMBED": table, "HEAD": table}
    if embed is not None:
        groups["EMBED"] = groups["HEAD"] = _checked_type(embed)
    for item in filter(None, (types or "").split(",")):
        group, eq, kind = item.partition("=")
        group = group.strip().upper()
        if not eq or group not in GROUPS:
            raise ConfigError(f"{item!r} is not GROUP=type", f"groups: {', '.join(GROUPS)}")
        groups[group] = _checked_type(kind.strip())
    for group in ("EMBED", "HEAD"):
        if groups[group] in TERNARY_TYPES:
            raise ConfigError(f"{group} can not be ternary", "choose f16, q8_0 or q4_0 with --embed")
    return TypePolicy(preset, groups, keep_f32)


def _checked_type(kind: str) -> str:
    if kind not in MATRIX_TYPES:
        raise ConfigError(f"unknown type {kind!r}", f"types: {', '.join(MATRIX_TYPES)}")
    return kind
