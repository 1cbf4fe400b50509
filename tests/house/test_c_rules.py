"""Rules of the C library that no compiler checks: no state, no allocation, no libm, no model names, its directions."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cbuild
import pytest

SRC = cbuild.RUNTIME / "src"
INCLUDE = cbuild.RUNTIME / "include"
KERNELS = SRC / "kernels"
# What the core asks of a C library; compilers add the last ones for cpuid and position-independent code.
ALLOWED = {"memchr", "memcmp", "memcpy", "memmove", "memset", "strcmp", "strlen", "strncmp"}
COMPILER = {"__cpu_model", "__cpu_indicator_init", "__cpu_features2", "_GLOBAL_OFFSET_TABLE_", "bcmp"}
KERNEL_HEADERS = {"tlm_kernels.h", "tlm_math.h", "tlm_blob_gen.h", "tlm_config.h"}
STANDARD = {"float.h", "limits.h", "stdbool.h", "stddef.h", "stdint.h", "string.h"}
MODEL_NAMES = r"llama|gpt|bitnet|tinytalk|tinybuddy|tinystories|mistral|qwen|gemma|smollm|\bneox?\b|\bphi-?\d"
VENDOR = r"esp_|freertos/|driver/|soc/|hal/|rom/|nvs|sdkconfig|Arduino|M5"
SPLITS = {"TLM_TOK_SPLIT_GPT2", "TLM_TOK_SPLIT_GPT4", "TLM_TOK_SPLIT_GPT4_DIGIT"}  # names of regular expressions
MAX_FRAME = 1024
MAX_LINES = 400


def c_files() -> list[Path]:
    return sorted(p for p in cbuild.RUNTIME.rglob("*") if p.suffix in {".c", ".h", ".S"} and "build" not in p.parts)


def includes(path: Path) -> Iterator[str]:
    yield from re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def output(*command: object) -> list[str]:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("variant", ["gcc", "clang"])
def test_no_writable_data(variant: str) -> None:
    """Position-independent, as in a shared library: relocated constant tables count as writable."""
    lines = output("size", "-A", cbuild.library(variant))
    bad = [line for line in lines if re.match(r"\.(data|bss|tbss|tdata)\S*\s+[1-9]", line)]
    assert not bad


@pytest.mark.parametrize("variant", ["gcc", "clang"])
def test_no_allocator_no_libm_no_output(variant: str) -> None:
    lines = output("nm", "-u", cbuild.library(variant))
    names = {line.split()[-1] for line in lines if line.strip().startswith("U ")}
    foreign = {n for n in names if not n.startswith("tlm_")} - ALLOWED - COMPILER
    assert not foreign


@pytest.mark.parametrize("variant", ["gcc", "clang"])
def test_exported_names_have_the_prefix(variant: str) -> None:
    lines = output("nm", "-g", "--defined-only", cbuild.library(variant))
    names = {line.split()[-1] for line in lines if re.match(r"[0-9a-f]+ [A-Z] ", line)}
    assert names and all(name.startswith("tlm_") for name in names)


def test_no_model_name() -> None:
    found = []
    for path in c_files():
        if path.parent.name == "tools":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for name in SPLITS:
                line = line.replace(name, "")
            # The pre-tokeniser's functions are named after the expressions that they are.
            line = re.sub(r"\bgpt[24]\(", "", line) if path.name == "tlm_tok_split.c" else line
            if re.search(MODEL_NAMES, line, re.IGNORECASE):
                found.append(f"{path.relative_to(cbuild.RUNTIME)}:{number}: {line.strip()}")
    assert not found


def test_kernels_see_the_kernel_table_only() -> None:
    wrong = []
    for path in KERNELS.rglob("*.[chS]"):
        if path.name == "select.c":
            continue
        own = {p.name for p in path.parent.glob("*.h")} | {f"../{p.name}" for p in KERNELS.glob("*.h")}
        for name in includes(path):
            vendor = path.relative_to(KERNELS).parts[0].startswith("x86") and name == "immintrin.h"
            if not vendor and name not in KERNEL_HEADERS | STANDARD | own:
                wrong.append(f"{path.relative_to(SRC)} includes {name}")
    assert not wrong


def test_core_never_sees_a_backend() -> None:
    own = {p.name for p in [*SRC.glob("*.h"), *INCLUDE.glob("*.h")]}
    wrong = [
        f"{path.name} includes {name}"
        for path in [*SRC.glob("*.[ch]"), *INCLUDE.glob("*.h"), KERNELS / "select.c"]
        for name in includes(path)
        if name not in own | STANDARD
    ]
    assert not wrong


def test_the_app_sees_tlm_and_the_board_only() -> None:
    """All of firmware/app runs in the simulator and in emulators: no vendor header, nothing of the core's inside."""
    app = cbuild.ROOT / "firmware" / "app"
    known = {p.name for p in app.glob("*.h")} | {"tlm.h", "board.h"} | STANDARD
    wrong = [f"{p.name} includes {name}" for p in app.glob("*.[ch]") for name in includes(p) if name not in known]
    assert not wrong


def test_vendor_headers_stay_in_vendor_boards() -> None:
    wrong = []
    for path in [*(cbuild.ROOT / "firmware").rglob("*.[ch]"), *c_files()]:
        vendor_board = "boards" in path.parts and re.search(
            "esp32|cardputer", path.parts[path.parts.index("boards") + 1]
        )
        if not vendor_board:
            wrong += [f"{path.name} includes {name}" for name in includes(path) if re.match(VENDOR, name)]
    assert not wrong


def test_public_header_stands_alone() -> None:
    """tlm.h needs nothing of src/, and C++ can include it."""
    for path in INCLUDE.glob("*.h"):
        assert set(includes(path)) <= STANDARD | {p.name for p in INCLUDE.glob("*.h")}
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-x", "c++"]
    cbuild.run([compiler, *flags, INCLUDE / "tlm.h"])


def test_constants_are_those_of_the_page() -> None:
    page = (cbuild.RUNTIME / "NUMERICS.md").read_text().partition("## 8.")[2].partition("## 9.")[0]
    rows = re.findall(r"\| (\w+) \| (-?0x[\w.+-]+) (?=\|)", page)
    header = (SRC / "tlm_math.h").read_text()
    for name, value in rows:
        found = re.search(rf"#define TLM_{name} (\S+)f$", header, re.MULTILINE)
        assert found is not None, name
        assert float.fromhex(found.group(1)) == float.fromhex(value), name
    assert len(rows) == 29


def test_stack_frames_are_small(tmp_path: Path) -> None:
    """Core and reference kernels run in a small task of a microcontroller: no frame above 1 KB or of unknown size."""
    flags = [*cbuild.NUMERIC, "-O2", *cbuild.INCLUDES, "-fstack-usage"]
    compiler = cbuild.present("gcc")
    largest = (0, "")
    for path in [*SRC.glob("*.c"), *(KERNELS / "ref").glob("*.c")]:
        cbuild.run([compiler, *flags, "-c", path, "-o", tmp_path / "x.o"])
        for line in (tmp_path / "x.su").read_text().splitlines():
            where, size, kind = line.split("\t")
            assert kind != "dynamic", where
            largest = max(largest, (int(size), where.rpartition("/")[2]))
    print(f"largest frame: {largest[0]} bytes in {largest[1]}")
    assert largest[0] <= MAX_FRAME


def test_files_are_short() -> None:
    long = {p.name: len(p.read_text().splitlines()) for p in c_files()}
    assert not {name: n for name, n in long.items() if n > MAX_LINES and name != "tlm_blob_gen.h"}


def test_every_build_has_the_numeric_flags() -> None:
    """CMake, PlatformIO and the IDF component each say -ffp-contract=off (NUMERICS rule 1)."""
    for name in ("CMakeLists.txt", "library.json"):
        assert "-ffp-contract=off" in (cbuild.RUNTIME / name).read_text(), name
