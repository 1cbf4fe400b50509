"""The directions of imports in Python: parts do not know each other, heavy packages stay inside functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPORT, HOST = ROOT / "export" / "tinyexport", ROOT / "host" / "tinychat"

# Packages that `pip install .` does not bring, or that take seconds to import.
HEAVY = {"torch", "transformers", "gguf", "sentencepiece", "huggingface_hub", "matplotlib", "esptool", "datasets"}
# Modules of PyTorch models are imported inside functions themselves, so that they may begin with torch.
TORCH_MODULES = {"reference/bitlm.py", "reference/layers.py", "reference/rms_gpt.py"}

# What each part may import of the package. Whoever is not named here is the front (cli, pipeline, plan, measure...): it
# may import every part, and no part may import it.
ALLOWED = {
    "errors": set(),
    "files": set(),
    "kv": {"errors"},
    "spec": {"blob.schema"},
    "quant": {"blob.schema", "errors"},
    "generated": set(),
    "tok": {"blob.schema", "blob.schema_tok", "errors", "generated", "native"},
    "loaders": {"errors"},
    "archs": {"blob.schema", "errors", "loaders", "spec"},
    "blob": {"errors", "files", "generated", "quant", "spec"},
    "reference": {"blob.content", "blob.schema", "errors", "kv", "quant", "spec"},
    "native": {"errors"},
    "printable": set(),
    "generation": {"runtime"},  # for type checkers alone
    "runtime": {"blob.reader", "blob.schema", "blob.writer", "errors", "generation", "kv", "native", "spec"},
}


def sources(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def imported_parts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, part) of every relative import that leaves the file's own part, blob by module."""
    rel = path.relative_to(EXPORT)
    own = rel.parts[0] if len(rel.parts) > 1 else rel.stem
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = [*rel.parts[:-1]][: len(rel.parts) - node.level] + (node.module.split(".") if node.module else [])
        for alias in node.names:
            target = [*base, alias.name]
            if target[0] != own:
                yield node.lineno, ".".join(target[:2]) if target[0] == "blob" else target[0]


def top_level_packages(path: Path) -> Iterator[tuple[int, str]]:
    """(line, package) of imports that run when the module is imported."""
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.lineno, node.module.split(".")[0]
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                continue
            pending.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_parts_import_only_what_they_may(part: str) -> None:
    files = sources(EXPORT / part) if (EXPORT / part).is_dir() else [EXPORT / f"{part}.py"]
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {target}"
        for path in files
        for line, target in imported_parts(path)
        if target not in ALLOWED[part]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_oracle_never_touches_the_c_library() -> None:
    for path in sorted((EXPORT / "reference").glob("oracle*.py")):
        assert not {p for _, p in imported_parts(path)} & {"runtime", "native"}
        assert "ctypes" not in path.read_text()


@pytest.mark.parametrize("package", [EXPORT, HOST], ids=lambda p: p.name)
def test_heavy_packages_are_imported_inside_functions(package: Path) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(package)
        if path.relative_to(package).as_posix() not in TORCH_MODULES
        for line, name in top_level_packages(path)
        if name in HEAVY
    ]
    assert not wrong, "\n".join(wrong)


def test_tinychat_imports_nothing_of_torch_at_all() -> None:
    for path in sources(HOST):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"torch", "transformers", "gguf", "sentencepiece"}, path


@pytest.mark.parametrize(
    "modules",
    ["tinyexport.cli, tinyexport.pipeline, tinyexport.runtime", "tinyexport.reference.oracle", "tinychat.cli"],
)
def test_programs_start_without_heavy_packages(modules: str) -> None:
    """What the tree really loads, whatever the sources look like."""
    code = f"import sys, {modules}; print(sorted(set(sys.modules) & {HEAVY!r}))"
    paths = [str(ROOT / "export"), str(ROOT / "host")]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_programs_clean_text_alike() -> None:
    """Each has its own copy, since tinychat starts without tinyexport."""
    assert (HOST / "printable.py").read_text() == (EXPORT / "printable.py").read_text()
