"""What is generated from schema.py and boards.toml is fresh, and a stale file would be noticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def check(root: Path, module: str = "tinyexport.blob.cgen") -> subprocess.CompletedProcess[str]:
    """`--check` of the tree at `root` (not of an installed package)."""
    env = {**os.environ, "PYTHONPATH": str(root / "export")}
    command = [sys.executable, "-m", module, "--check"]
    return subprocess.run(command, cwd=root / "export", env=env, capture_output=True, text=True, check=False)


def test_header_and_page_follow_the_schema() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_header_is_noticed(tmp_path: Path) -> None:
    python = ("export/tinyexport/__init__.py", "export/tinyexport/generated.py")
    for part in (*python, "runtime_c/BLOB.md", "runtime_c/include/tlm_blob_gen.h"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    shutil.copytree(ROOT / "export/tinyexport/blob", tmp_path / "export/tinyexport/blob")
    assert check(tmp_path).returncode == 0
    schema = tmp_path / "export/tinyexport/blob/schema.py"
    schema.write_text(schema.read_text().replace("MAX_LAYERS = 256", "MAX_LAYERS = 257"))
    done = check(tmp_path)
    assert done.returncode == 1
    assert "tlm_blob_gen.h" in done.stderr


def test_the_simulators_boards_follow_the_table(tmp_path: Path) -> None:
    done = check(ROOT, "tinyexport.boards")
    assert done.returncode == 0, done.stdout + done.stderr
    package, header = "export/tinyexport", "firmware/boards/sim_posix/twins_gen.h"
    parts = [f"{package}/{name}" for name in ("__init__.py", "boards.py", "boards.toml", "errors.py")]
    for part in (*parts, header):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    assert check(tmp_path, "tinyexport.boards").returncode == 0
    table = tmp_path / package / "boards.toml"
    table.write_text(table.read_text().replace("max_text = 512", "max_text = 513", 1))
    done = check(tmp_path, "tinyexport.boards")
    assert done.returncode == 1 and "twins_gen.h" in done.stderr
