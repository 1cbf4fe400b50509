"""Tags of a model card: the front matter of a README.md, as model hubs write it."""

from __future__ import annotations

from pathlib import Path

_MOST = 1 << 16


def read_tags(folder: Path) -> list[str]:
    """Tags in lower case from README.md; empty when there is none."""
    path = folder / "README.md"
    if not path.is_file():
        return []
    with path.open("rb") as file:
        lines = file.read(_MOST).decode("utf-8", "replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return []
    tags: list[str] = []
    inside = False
    for line in lines[1:]:
        if line.strip() == "---":
            return tags
        if inside and line.lstrip().startswith("- "):
            tags.append(_word(line.lstrip()[2:]))
            continue
        inside = line.startswith("tags:")
        if inside and "[" in line:
            tags += [_word(tag) for tag in line.partition("[")[2].rstrip("] ").split(",")]
    return []


def _word(text: str) -> str:
    return text.strip().strip("'\"").lower()
