"""The ESP32-S3 boards without ESP-IDF: that they compile, that tables and projects say what they should.

The declarations in vendor_stubs are this project's own words for the part of the vendors' interfaces that the boards
use; whether the vendors agree is checked against their headers before a board file is committed (firmware/README.md).
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOARDS = ROOT / "firmware" / "boards"
STUBS = Path(__file__).parent / "vendor_stubs"
SHARED_FILES = sorted((BOARDS / "esp32s3").glob("*.c"))
INCLUDES = [
    f"-I{p}"
    for p in (
        STUBS,
        ROOT / "runtime_c/include",
        ROOT / "runtime_c/src",
        ROOT / "firmware/app",
        BOARDS,
        BOARDS / "esp32s3",
    )
]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wconversion"]

sys.path.insert(0, str(BOARDS))
import partitions


def compiler(name: str) -> str:
    """Path of a compiler; the test is skipped where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def syntax(tool: str, source: Path, *flags: str) -> None:
    language = ["-std=gnu++17"] if source.suffix == ".cpp" else ["-std=gnu17"]
    command = [compiler(tool), "-fsyntax-only", *language, *WARNINGS, *INCLUDES, *flags, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", ["usb", "uart"])
@pytest.mark.parametrize("source", [*SHARED_FILES, BOARDS / "esp32s3_devkit/main/main.c"], ids=lambda p: p.name)
def test_the_chip_and_the_devkit_compile(source: Path, line: str) -> None:
    syntax("gcc", source, *(["-DSTUB_UART"] if line == "uart" else []))


@pytest.mark.parametrize("name", ["main.c", "card.c", "screen.cpp", "keyboard.cpp"])
def test_the_cardputer_compiles(name: str) -> None:
    folder = BOARDS / "cardputer/main"
    syntax("g++" if name.endswith("cpp") else "gcc", folder / name, f"-I{folder}")


def test_pieces_take_whole_blocks(tmp_path: Path) -> None:
    source = [str(BOARDS / "esp32s3/s3_memory.c"), str(Path(__file__).parent / "s3_heap.c")]
    flags = ["-std=gnu17", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *WARNINGS, *INCLUDES]
    subprocess.run([compiler("gcc"), *flags, *source, "-o", str(tmp_path / "heap")], check=True)
    done = subprocess.run([tmp_path / "heap"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_stub_is_used() -> None:
    used = "\n".join(p.read_text() for p in [*BOARDS.rglob("*.c"), *BOARDS.rglob("*.cpp"), *STUBS.rglob("*.h")])
    for stub in STUBS.rglob("*.h"):
        assert re.search(rf'#include [<"]{re.escape(str(stub.relative_to(STUBS)))}[>"]', used), stub


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_the_two_cores_meet_every_round(tmp_path: Path, sanitizer: str) -> None:
    source = [str(BOARDS / "esp32s3/s3_parallel.c"), str(Path(__file__).parent / "s3_pair.c")]
    flags = ["-std=gnu17", "-O2", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-pthread", *INCLUDES]
    subprocess.run([compiler("gcc"), *flags, *source, "-o", str(tmp_path / "pair")], check=True)
    done = subprocess.run([tmp_path / "pair", "20000"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- partition tables -------------------------------------------------------------------------------

TABLES = {"partitions_8mb.csv": 8 << 20, "partitions_16mb.csv": 16 << 20}


def rows(name: str) -> dict[str, partitions.Row]:
    return {r.label: r for r in partitions.read_csv((BOARDS / "esp32s3" / name).read_text())}


@pytest.mark.parametrize("name", TABLES)
def test_tables_fit_and_slots_share_no_mmu_page(name: str) -> None:
    table = rows(name)
    partitions.check(list(table.values()), TABLES[name])
    assert table["model"].offset % 65536 == 0
    assert table["model"].size % (2 * 65536) == 0
    assert table["settings"].size >= 2 * 4096
    assert table["model"].offset + table["model"].size == TABLES[name], "flash that nobody uses"


@pytest.mark.parametrize("name", TABLES)
def test_tinychat_reads_the_table_that_is_flashed(name: str) -> None:
    from tinychat.model_store import parse_partitions

    packed = partitions.pack(list(rows(name).values()))
    assert len(packed) == 0xC00
    read = {p.label: p for p in parse_partitions(packed)}
    for label, row in rows(name).items():
        assert (read[label].type, read[label].subtype, read[label].offset, read[label].size) == (
            row.type,
            row.subtype,
            row.offset,
            row.size,
        )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (("0x200000, 0x600000", "0x200000, 0x700000"), "flash"),
        (("0x200000, 0x600000", "0x1f0000, 0x600000"), "begins inside"),
        (("0x10000,  0x1f0000", "0x11000,  0x1e0000"), "aligned"),
        (("settings,  data", "model,     data"), "same label"),
        (("factory,   app", "factory,   ape"), "line"),
    ],
)
def test_a_wrong_table_is_refused(change: tuple[str, str], word: str) -> None:
    text = (BOARDS / "esp32s3/partitions_8mb.csv").read_text()
    assert change[0] in text
    with pytest.raises(ValueError, match=word):
        partitions.check(partitions.read_csv(text.replace(*change)), 8 << 20)


def test_the_plan_counts_on_the_same_partitions() -> None:
    from tinyexport.boards import find_board

    for name, table in (
        ("cardputer", "partitions_8mb.csv"),
        ("esp32-s3-devkitc-1-n8", "partitions_8mb.csv"),
        ("esp32-s3-devkitc-1-n8r8", "partitions_8mb.csv"),
        ("esp32-s3-devkitc-1-n16r8", "partitions_16mb.csv"),
    ):
        board = find_board(name)
        assert board.model_partition == rows(table)["model"].size
        assert board.flash == TABLES[table]


def defined(path: str, pattern: str) -> int:
    found = re.search(pattern, (BOARDS / path).read_text())
    assert found, f"{path} has no {pattern}"
    return int(found[1])


@pytest.mark.parametrize(("folder", "board"), [("cardputer", "cardputer"), ("esp32s3_devkit", "esp32-s3-devkitc-1-n8")])
def test_the_plan_counts_on_the_same_memory(folder: str, board: str) -> None:
    """boards.toml against the sources: stacks, rings of the line, reserve, the smallest piece, the prompt."""
    from tinyexport import boards

    settings = (BOARDS / folder / "sdkconfig.defaults").read_text()

    def setting(name: str, default: int) -> int:
        found = re.search(rf"^CONFIG_{name}=(\d+)$", settings, re.M)
        return int(found[1]) if found else default

    app = setting("TLM_APP_STACK", defined("esp32s3/Kconfig", r"Stack of the app[^$]*?default (\d+)"))
    main = setting("ESP_MAIN_TASK_STACK_SIZE", 3584)  # ESP-IDF's default
    worker = defined("esp32s3/s3_parallel.c", r"WORKER_STACK (\d+)u")
    rings = defined("esp32s3/s3_line.c", r"RX_BYTES (\d+)u") + defined("esp32s3/s3_line.c", r"TX_BYTES (\d+)u")
    planned = boards.find_board(board)
    assert planned.stack == app + worker + rings - main
    assert planned.reserve == defined("esp32s3/s3.h", r"S3_RESERVE (\d+)u")
    assert defined("esp32s3/s3_memory.c", r"LEAST_PIECE (\d+)u") == boards.LEAST_PIECE
    assert planned.max_text == defined("esp32s3/Kconfig", r"Longest prompt[^$]*?default (\d+)\n")
    assert planned.head_rows == defined("esp32s3/s3_board.c", r"head_rows = (\d+);")


@pytest.mark.parametrize(
    "calls",
    [
        "tlm_k_s3_q4_0 linear with_many rows tiles",
        "run_all search_span add_stage tlm_k_s3_q4_0 linear with_few rows tiles",
    ],
    ids=["batch", "certified-head"],
)
def test_the_workers_stack_holds_its_deepest_calls(calls: str, tmp_path: Path) -> None:
    """Frames by another 32-bit compiler: those of the ESP32-S3's are within 32 bytes."""
    kernels = ROOT / "runtime_c/src/kernels/esp32s3"
    sources = [ROOT / "runtime_c/src/tlm_head.c", kernels / "tlm_k_s3_linear.c"]
    machine = ["--specs=picolibc.specs", "-march=rv32imafc", "-mabi=ilp32f"]
    flags = ["-O2", "-std=c99", "-ffp-contract=off", "-fstack-usage", "-c"]
    command = [compiler("riscv64-unknown-elf-gcc"), *machine, *flags, *INCLUDES, *map(str, sources)]
    subprocess.run(command, check=True, cwd=tmp_path)
    lines = [line.split("\t") for file in tmp_path.glob("*.su") for line in file.read_text().splitlines()]
    frames = {where.rsplit(":", 1)[1]: int(size) for where, size, _ in lines}
    tops = [int(n) for file in kernels.glob("*.S") for n in re.findall(r"FRAME, (\d+) \+ ", file.read_text())]
    assembly = max(tops) + defined("../../runtime_c/src/kernels/esp32s3/tlm_k_s3_asm.h", r"FRAME_TOP, (\d+)")
    saved = 1024  # the registers that an interrupt saves, the task's first frames
    used = sum(frames[name] for name in calls.split()) + assembly + saved
    assert used <= defined("esp32s3/s3_parallel.c", r"WORKER_STACK (\d+)u")


# ---- a merged image ---------------------------------------------------------------------------------


def test_a_merged_image_holds_every_part_where_the_table_says(tmp_path: Path) -> None:
    pytest.importorskip("esptool")
    from tinychat.model_store import slot_images

    table = rows("partitions_8mb.csv")
    blob = bytes(range(256)) * 40
    parts = {0x8000: partitions.pack(list(table.values()))}
    parts |= {table["model"].offset + at: data for at, data in slot_images(blob, table["model"].size).items()}
    command = [sys.executable, "-m", "esptool", "--chip", "esp32s3", "merge-bin", "-o", str(tmp_path / "all.bin")]
    for at, data in sorted(parts.items()):
        (tmp_path / f"{at:x}.bin").write_bytes(data)
        command += [hex(at), str(tmp_path / f"{at:x}.bin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    image = (tmp_path / "all.bin").read_bytes()
    for at, data in parts.items():
        assert image[at : at + len(data)] == data
    start = table["model"].offset + 4096
    assert image[start : start + len(blob)] == blob


# ---- projects ---------------------------------------------------------------------------------------


def pio(*arguments: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("platformio")
    command = [sys.executable, "-m", "platformio", "project", "config", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)


def test_platformio_takes_the_project() -> None:
    done = pio("--json-output")
    assert done.returncode == 0, done.stderr
    environments = {name: dict(options) for name, options in json.loads(done.stdout) if name.startswith("env:")}
    assert set(environments) == {
        "env:esp32s3_devkit",
        "env:esp32s3_devkit_n8r8",
        "env:esp32s3_devkit_n16r8",
        "env:cardputer",
    }
    for options in environments.values():
        assert options["framework"] == ["espidf"]
        assert re.fullmatch(r"espressif32 @ \d+\.\d+\.\d+", options["platform"])
        assert (BOARDS / options["custom_board"] / "main/CMakeLists.txt").is_file()
        named = re.findall(r"firmware/[\w./]+", options["board_build.cmake_extra_args"])
        for path in [*named, options["board_build.partitions"]]:
            assert (ROOT / path).is_file(), path


def test_platformio_finds_no_fault() -> None:
    done = pio("--lint", "--json-output")
    report = ast.literal_eval(done.stdout.strip())  # PlatformIO 6.2 calls this JSON
    assert report == {"errors": [], "warnings": []}


def test_configurations_name_tables_that_exist() -> None:
    """ESP-IDF looks from the board's folder, PlatformIO from the repository's root."""
    for path in [*BOARDS.glob("*/sdkconfig.*")]:
        for name in re.findall(r'^CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="(.*)"', path.read_text(), re.MULTILINE):
            base = ROOT if ".pio_" in path.name else path.parent
            assert (base / name).is_file(), f"{path}: {name}"


@pytest.mark.parametrize("board", ["esp32s3_devkit", "cardputer"])
def test_defaults_ask_for_the_fast_flash(board: str) -> None:
    text = (BOARDS / board / "sdkconfig.defaults").read_text()
    for symbol in ("ESPTOOLPY_FLASHMODE_QIO", "ESPTOOLPY_FLASHFREQ_80M", "ESP32S3_DATA_CACHE_LINE_64B"):
        assert f"CONFIG_{symbol}=y" in text
