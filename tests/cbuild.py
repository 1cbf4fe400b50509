"""Builds the C library and programs that test it: several compilers, with and without sanitizers.

No CMake here: a test needs nothing but a compiler. Objects are kept in build/c/<variant> and made again when a source
or any header is newer. Safe with several test processes.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / "runtime_c"
BUILD = ROOT / "build" / "c"
NUMERIC = ["-std=c99", "-ffp-contract=off", "-fno-fast-math"]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Werror"]
SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "gcc": ("gcc", ["-O2", "-fPIC"]),
    "clang": ("clang", ["-O2", "-fPIC"]),
    "gcc-asan": ("gcc", SANITIZE),
    "clang-asan": ("clang", SANITIZE),
}
X86 = {
    "x86_avx2": ["-DTLM_HAVE_AVX2=1", "-mavx2", "-mf16c"],
    "x86_avx512vnni": [
        "-DTLM_HAVE_AVX512VNNI=1",
        "-mavx512f",
        "-mavx512bw",
        "-mavx512vl",
        "-mavx512dq",
        "-mavx512vnni",
    ],
}
INCLUDES = [f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}"]


def present(variant: str) -> str:
    """The compiler of a variant; the test is skipped where it is not installed."""
    compiler = VARIANTS[variant][0]
    path = shutil.which(compiler)
    if path is None:
        pytest.skip(f"{compiler} is not installed")
    return path


def backends() -> dict[str, list[str]]:
    """Backend folders that this machine's compiler can build, with their flags."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return {}
    return {name: flags for name, flags in X86.items() if any((RUNTIME / "src/kernels" / name).glob("*.c"))}


def sources() -> list[tuple[Path, list[str]]]:
    """Every source of the library with the flags that only it gets."""
    src = RUNTIME / "src"
    define = [flags[0] for flags in backends().values()]
    plain = [*src.glob("*.c"), *(src / "kernels").glob("*.c"), *(src / "kernels/ref").glob("*.c")]
    out = [(path, define if path.name == "select.c" else []) for path in plain]
    for name, flags in backends().items():
        out += [(path, flags[1:]) for path in (src / "kernels" / name).glob("*.c")]
    return sorted(out)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str | Path], timeout: float = 300) -> str:
    """Standard output of a command; a failure shows what it printed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def library(variant: str) -> Path:
    """The static library, built when it is not fresh."""
    compiler = present(variant)
    folder = BUILD / variant
    with locked(folder):
        newest_header = max(h.stat().st_mtime for h in RUNTIME.rglob("*.h"))

        def build(item: tuple[Path, list[str]]) -> tuple[Path, bool]:
            path, extra = item
            out = folder / ("-".join(path.relative_to(RUNTIME / "src").parts) + ".o")
            if out.exists() and out.stat().st_mtime > max(newest_header, path.stat().st_mtime):
                return out, False
            flags = [*NUMERIC, *WARNINGS, *VARIANTS[variant][1], *INCLUDES, *extra]
            run([compiler, *flags, "-c", path, "-o", out])
            return out, True

        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            objects = list(pool.map(build, sources()))
        archive = folder / "libtlm.a"
        if not archive.exists() or any(new for _, new in objects):
            archive.unlink(missing_ok=True)
            run(["ar", "rcs", archive, *(path for path, _ in objects)])
    return archive


def program(variant: str, *parts: Path, flags: Sequence[str] = (), name: str = "") -> Path:
    """A program from test sources and the library; named after its first source unless `name` is given."""
    compiler = present(variant)
    archive = library(variant)
    out = BUILD / variant / (name or parts[0].stem)
    with locked(BUILD / variant):
        inputs = [archive, *parts, *(h for p in parts for h in p.parent.glob("*.h"))]
        if not out.exists() or out.stat().st_mtime < max(p.stat().st_mtime for p in inputs):
            options = [*NUMERIC, *WARNINGS, *VARIANTS[variant][1], "-D_POSIX_C_SOURCE=200809L", *INCLUDES, *flags]
            run([compiler, *options, *parts, archive, "-lm", "-o", out])
    return out
