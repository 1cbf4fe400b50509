"""`tinychat flash` against the loader of a fake chip: every image at its place, the model as the firmware finds it."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_device import make_blob
from fake_rom import FakeRom

from tinychat import boards, errors, flash, model_store

pytest.importorskip("esptool", reason="esptool is an extra")
Run = Callable[..., "subprocess.CompletedProcess[str]"]
SECTOR = 4096
MODEL_AT, MODEL_BYTES = 0x310000, 0x400000
ARGS = ["--before", "no-reset", "--after", "no-reset", "--no-stub"]


def partition_table() -> bytes:
    rows = [
        ("nvs", 1, 2, 0x9000, 0x6000),
        ("factory", 0, 0, 0x10000, 0x300000),
        ("model", 0x40, 0, MODEL_AT, MODEL_BYTES),
    ]
    table = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", t, s, o, n, label.encode(), 0) for label, t, s, o, n in rows
    )
    table += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(table).digest()
    return table.ljust(0xC00, b"\xff")


def image(seed: int, size: int) -> bytes:
    """Looks like an ESP32-S3 image as far as its header goes."""
    head = bytes([0xE9, 0, 2, 0x4F]) + struct.pack("<IB3sHBHHIB", 0x40378000, 0xEE, b"\0\0\0", 9, 0, 0, 0xFFFF, 0, 0)
    return (head + make_blob(size, seed))[:size]


@pytest.fixture
def platformio(tmp_path: Path) -> Path:
    folder = tmp_path / ".pio" / "build" / "cardputer"
    folder.mkdir(parents=True)
    (folder / "bootloader.bin").write_bytes(image(1, 20_000))
    (folder / "partitions.bin").write_bytes(partition_table())
    (folder / "firmware.bin").write_bytes(image(2, 300_001))
    return folder


@pytest.fixture
def idf(tmp_path: Path, platformio: Path) -> Path:
    folder = tmp_path / "build"
    (folder / "bootloader").mkdir(parents=True)
    (folder / "bootloader" / "bootloader.bin").write_bytes((platformio / "bootloader.bin").read_bytes())
    (folder / "partition-table.bin").write_bytes(partition_table())
    (folder / "app.bin").write_bytes((platformio / "firmware.bin").read_bytes())
    args = {
        "flash_settings": {"flash_mode": "dio", "flash_size": "16MB", "flash_freq": "80m"},
        "flash_files": {"0x0": "bootloader/bootloader.bin", "0x10000": "app.bin", "0x8000": "partition-table.bin"},
        "extra_esptool_args": {"after": "hard_reset", "before": "default_reset", "stub": True, "chip": "esp32s3"},
    }
    (folder / "flasher_args.json").write_text(json.dumps(args))
    return folder


@pytest.fixture
def rom() -> Iterator[FakeRom]:
    chip = FakeRom()
    yield chip
    chip.close()


@pytest.mark.parametrize("kind", ["platformio", "idf"])
def test_everything_lands_in_its_place(
    tinychat: Run, rom: FakeRom, kind: str, blob: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    old = 0x12345678
    second = MODEL_AT + MODEL_BYTES // 2
    rom.flash[second : second + 4] = struct.pack("<I", old)  # an older model in the second slot
    result = tinychat(
        "flash", "--board", "cardputer", "--from", str(folder), "--model", str(blob), "--port", rom.url, *ARGS
    )
    assert result.returncode == 0, result.stderr
    app, boot = image(2, 300_001), image(1, 20_000)
    assert rom.flash[0x10000 : 0x10000 + len(app)] == app
    assert rom.flash[4 : len(boot) - 32] == boot[4:-32]  # esptool writes flash mode and size into its header
    assert rom.flash[0x8000 : 0x8000 + 0xC00] == partition_table()
    data = blob.read_bytes()
    assert rom.flash[MODEL_AT + SECTOR : MODEL_AT + SECTOR + len(data)] == data
    magic, sequence, size, sha = struct.unpack_from("<4sII32s", rom.flash, MODEL_AT)
    assert (magic, sequence, size, sha) == (b"TMS1", 1, len(data), hashlib.sha256(data).digest())
    assert struct.unpack_from("<I", rom.flash, MODEL_AT + 44)[0] == zlib.crc32(rom.flash[MODEL_AT : MODEL_AT + 44])
    assert rom.flash[second : second + SECTOR] == b"\xff" * SECTOR
    assert "cardputer is flashed" in result.stdout


def test_json_tells_what_was_written(tinychat: Run, rom: FakeRom, platformio: Path) -> None:
    result = tinychat("flash", "--board", "cardputer", "--from", str(platformio), "--port", rom.url, "--json", *ARGS)
    row = json.loads(result.stdout)
    assert row["event"] == "flashed"
    assert [(i["offset"], i["file"]) for i in row["images"]] == [
        (0, "bootloader.bin"),
        (0x8000, "partitions.bin"),
        (0x10000, "firmware.bin"),
    ]


def test_the_latest_build_is_found_from_below(platformio: Path, tmp_path: Path) -> None:
    below = tmp_path / "host" / "deep"
    below.mkdir(parents=True)
    assert flash.find_folder("cardputer", below) == platformio
    with pytest.raises(errors.FlashError, match="no build of the firmware for 'nothing'"):
        flash.find_folder("nothing", below)


def fails(result: subprocess.CompletedProcess[str], words: str) -> None:
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_what_can_be_wrong_with_a_build(tinychat: Run, platformio: Path, idf: Path, blob: Path, tmp_path: Path) -> None:
    def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
        return tinychat("flash", "--board", "cardputer", "--from", str(folder), "--port", "socket://127.0.0.1:1", *more)

    fails(run(tmp_path / "nowhere"), "There is no folder")
    fails(run(platformio), "socket://127.0.0.1:1")
    big = tmp_path / "big.tlm"
    big.write_bytes(make_blob(MODEL_BYTES))
    fails(run(platformio, "--model", str(big)), "The model has 4194304 bytes, its partition 4190208.")
    (platformio / "firmware.bin").write_bytes(b"\x7fELF" + bytes(100))
    fails(run(platformio), "not a firmware image")
    (platformio / "partitions.bin").write_bytes(bytes(3000))
    (platformio / "firmware.bin").write_bytes(image(2, 1000))
    fails(run(platformio), "partition table is empty or damaged")
    (platformio / "bootloader.bin").unlink()
    fails(run(platformio), "bootloader.bin is missing")
    (idf / "app.bin").unlink()
    fails(run(idf), "app.bin is missing")
    (idf / "flasher_args.json").write_text("{}")
    fails(run(idf), "not a list of images")


@pytest.mark.parametrize("table", ["partitions_8mb.csv", "partitions_16mb.csv"])
def test_the_firmwares_own_partition_tables(tmp_path: Path, table: str) -> None:
    boards_folder, out = Path(__file__).parents[2] / "firmware" / "boards", tmp_path / "partitions.bin"
    command = [sys.executable, boards_folder / "partitions.py", boards_folder / "esp32s3" / table, out]
    subprocess.run([str(c) for c in command], check=True, timeout=60)
    rows = model_store.parse_partitions(out.read_bytes())
    lines = [r.split(",") for r in (boards_folder / "esp32s3" / table).read_text().splitlines() if r and r[0] != "#"]
    assert [(r.label, r.offset, r.size) for r in rows] == [(c[0], int(c[3], 0), int(c[4], 0)) for c in lines]
    plan, blob = flash.Plan("esp32s3", {}, rows), tmp_path / "model.tlm"
    blob.write_bytes(make_blob(50_000))
    flash.add_model(plan, str(blob), tmp_path)
    home = next(r for r in rows if r.label == "model")
    assert sorted(plan.images) == [home.offset, home.offset + home.size // 2]


def test_no_model_partition(blob: Path, tmp_path: Path) -> None:
    plan = flash.Plan("esp32s3", {}, [model_store.Partition("factory", 0, 0, 0x10000, 0x100000)])
    with pytest.raises(errors.FlashError, match="labelled 'model'"):
        flash.add_model(plan, str(blob), tmp_path)


def test_flash_that_does_not_keep_what_is_written(tinychat: Run, platformio: Path) -> None:
    chip = FakeRom(worn_at=0x10400)
    result = tinychat("flash", "--board", "cardputer", "--from", str(platformio), "--port", chip.url, *ARGS)
    chip.close()
    fails(result, "Flashing failed")


def test_no_board_to_flash(tinychat: Run, platformio: Path) -> None:
    if any(p.known for p in boards.list_ports()):
        pytest.skip("a board is plugged in here")
    fails(tinychat("flash", "--board", "cardputer", "--from", str(platformio)), "No board was found")


@pytest.mark.parametrize("blob_bytes", [1000, MODEL_BYTES // 2 - SECTOR, MODEL_BYTES // 2, MODEL_BYTES - SECTOR])
def test_a_second_slot_is_cleared_only_where_there_can_be_one(blob_bytes: int) -> None:
    images = model_store.slot_images(b"x" * blob_bytes, MODEL_BYTES)
    spans = sorted((at, at + len(data)) for at, data in images.items())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans)), "the pieces overlap"
    assert (len(images) == 2) == (SECTOR + blob_bytes <= MODEL_BYTES // 2)
