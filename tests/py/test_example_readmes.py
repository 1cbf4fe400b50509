"""What the examples' pages show is what their commands print.

Lines that begin with `$ ` are run, and what stands under them is compared. Texts are wrapped on a page, so white space
is one space. The same seed gives the same text everywhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(p for p in (ROOT / "examples").glob("*/README.md") if "    $ " in p.read_text("utf-8"))
SHELL = '{0}() {{ "{1}" -c "import sys; from {0}.cli import main; sys.argv[0] = \'{0}\'; sys.exit(main())" "$@"; }}\n'


def shown(page: Path) -> list[tuple[str, str]]:
    """Commands of a page, and the text under each, up to the next command or the end of its block."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"(?:^    .*\n)+", page.read_text("utf-8"), re.M):
        for line in block.splitlines():
            if line.startswith("    $ "):
                found.append((line[6:], ""))
            elif found and "    $ " in block:
                found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.parent.name)
def test_a_page_shows_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    here = "".join(SHELL.format(name, sys.executable) for name in ("tinyexport", "tinychat"))
    here += f'python() {{ "{sys.executable}" "$@"; }}\n'
    for command, expected in shown(page):
        shell = ["bash", "-c", here + command]
        done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, (command, done.stderr)
        assert not expected or words(done.stdout) == words(expected), command


def test_the_pages_show_something() -> None:
    compared = {p.parent.name: [c for c, text in shown(p) if text] for p in PAGES}
    assert set(compared) == {"smalltalk", "tiny-tiny-stories", "tinybuddy"} and all(compared.values())
    assert any("I'm" in c and "tinychat" in c for c in compared["smalltalk"]), "a greeting of two turns"
