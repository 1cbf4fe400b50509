"""Files that are written from a table in Python: the C headers and the tables of pages."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def c_name(name: str) -> str:
    """CamelCase or snake_case -> CAPITALS."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def renewed(page: Path, by: str, tables: str) -> str:
    """The text of a page with what stands between its marks replaced; `by` is the file that the marks name."""
    begin, end = f"<!-- generated: {by} -->", "<!-- end -->"
    head, _, rest = page.read_text("utf-8").partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{tables}\n{end}{tail}"


def write_or_check(texts: Mapping[Path, str], argv: Sequence[str], module: str) -> int:
    """Writes the files; with `--check` names the stale ones instead. Returns the exit code."""
    if "--check" not in argv:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return 0
    stale = [p.name for p, text in texts.items() if not p.is_file() or p.read_text("utf-8") != text]
    if stale:
        print(f"stale: {', '.join(stale)}; run python -m {module}", file=sys.stderr)
    return 1 if stale else 0
