"""Flashes a board in one go: bootloader, partition table, firmware and a model, with esptool as a library.

The folder of a firmware build or release is one of
- an ESP-IDF build (or a release): `flasher_args.json` names images, offsets, chip and flash settings;
- a PlatformIO build: `bootloader.bin`, `partitions.bin`, `firmware.bin`.
The model goes where the partition table says: into the partition labelled `model`, as `model_store` forms it.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import boards
from .errors import ChatError, FlashError
from .model_store import Partition, parse_partitions, slot_images
from .upload import read_blob

TABLE_AT = 0x8000
#: Chip id in an image's header -> esptool's name, and where its bootloader starts.
CHIPS = {
    0: ("esp32", 0x1000),
    2: ("esp32s2", 0x1000),
    5: ("esp32c3", 0x0),
    9: ("esp32s3", 0x0),
    12: ("esp32c2", 0x0),
    13: ("esp32c6", 0x0),
    16: ("esp32h2", 0x0),
    18: ("esp32p4", 0x2000),
}
IMAGE_MAGIC = 0xE9
BUILD_HINT = "build it first: pio run -e {board}; or name the folder of a build or release: --from FOLDER"
BOOT_HINT = "hold the board's BOOT (G0) button while plugging it in, then try again; or a lower --baud"


@dataclass
class Plan:
    """What is written where: offset in flash -> file."""

    chip: str
    images: dict[int, Path]
    partitions: list[Partition]
    settings: list[str] = field(default_factory=list)


def find_folder(board: str, start: Path | None = None) -> Path:
    """The folder of `board`'s latest build, here or in a folder above. Raises `FlashError` when there is none."""
    here = (start or Path.cwd()).resolve()
    for root in (here, *here.parents):
        for place in (f".pio/build/{board}", f"firmware/boards/{board}/build", f"build/{board}", f"release/{board}"):
            folder = root / place
            if (folder / "flasher_args.json").is_file() or (folder / "firmware.bin").is_file():
                return folder
    raise FlashError(f"There is no build of the firmware for '{board}' here.", BUILD_HINT.format(board=board))


def make_plan(folder: Path, board: str) -> Plan:
    """Reads a build or release folder. Raises `FlashError` for what is missing or damaged."""
    if not folder.is_dir():
        raise FlashError(f"There is no folder {folder}.", BUILD_HINT.format(board=board))
    if (folder / "flasher_args.json").is_file():
        return _idf_plan(folder)
    return _platformio_plan(folder, board)


def _idf_plan(folder: Path) -> Plan:
    path = folder / "flasher_args.json"
    try:
        args = json.loads(path.read_text())
        images = {int(offset, 0): folder / name for offset, name in args["flash_files"].items()}
        chip = args["extra_esptool_args"]["chip"]
        settings = [w for k, v in args.get("flash_settings", {}).items() for w in (f"--{k.replace('_', '-')}", str(v))]
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise FlashError(f"{path} is not a list of images ({err}).", "build the firmware again") from err
    for image in images.values():
        _need(image)
    table = images.get(TABLE_AT)
    return Plan(chip, images, parse_partitions(table.read_bytes()) if table else [], settings)


def _platformio_plan(folder: Path, board: str) -> Plan:
    boot, table, app = (folder / name for name in ("bootloader.bin", "partitions.bin", "firmware.bin"))
    for image in (boot, table, app):
        _need(image, BUILD_HINT.format(board=board))
    head = app.read_bytes()[:16]
    if len(head) < 16 or head[0] != IMAGE_MAGIC or int.from_bytes(head[12:14], "little") not in CHIPS:
        raise FlashError(f"{app} is not a firmware image.", "build the firmware again")
    chip, boot_at = CHIPS[int.from_bytes(head[12:14], "little")]
    partitions = parse_partitions(table.read_bytes())
    apps = [p for p in partitions if p.is_app]
    if not apps:
        raise FlashError(f"{table} has no partition for the firmware.", "build the firmware again")
    return Plan(chip, {boot_at: boot, TABLE_AT: table, min(p.offset for p in apps): app}, partitions)


def _need(path: Path, hint: str = "build the firmware again") -> None:
    if not path.is_file() or path.stat().st_size == 0:
        raise FlashError(f"{path} is missing.", hint)


def add_model(plan: Plan, blob_path: str, scratch: Path) -> None:
    """Adds the pieces of the model partition to `plan`; their files are written into `scratch`."""
    blob = read_blob(blob_path)
    home = next((p for p in plan.partitions if p.label == "model"), None)
    if home is None:
        raise FlashError("The partition table has no partition labelled 'model'.", "use a firmware build with one")
    for offset, data in slot_images(blob, home.size).items():
        path = scratch / f"model_{offset:x}.bin"
        path.write_bytes(data)
        plan.images[home.offset + offset] = path


def flash(
    board: str,
    model: str | None = None,
    folder: str | None = None,
    port: str = "auto",
    baud: int = 921600,
    before: str = "default-reset",
    after: str = "hard-reset",
    no_stub: bool = False,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Flashes a board.

    Args:
        board: folder name under firmware/boards, such as cardputer.
        model: .tlm file for the model partition, or None to leave that as it is.
        folder: of the build or release; None looks for the latest build.
        port: serial port, or auto.
        baud: speed while flashing.
        before, after: esptool's reset modes.
        no_stub: True uses the loader in the chip's ROM.
        quiet: True sends esptool's words to standard error.

    Returns:
        What was written: {"offset", "file", "bytes"} for each image.
    """
    plan = make_plan(Path(folder) if folder else find_folder(board), board)
    with tempfile.TemporaryDirectory(prefix="tinychat") as scratch:
        if model is not None:
            add_model(plan, model, Path(scratch))
        port = boards.find_board().device if port == "auto" else port
        command = ["--chip", plan.chip, "--port", port, "--baud", str(baud), "--before", before, "--after", after]
        command += ["--no-stub"] if no_stub else []
        command += ["write-flash", *plan.settings]
        for offset, path in sorted(plan.images.items()):
            command += [hex(offset), str(path)]
        with contextlib.redirect_stdout(sys.stderr) if quiet else contextlib.nullcontext():
            _esptool(command)
        return [{"offset": o, "file": p.name, "bytes": p.stat().st_size} for o, p in sorted(plan.images.items())]


def _esptool(command: list[str]) -> None:
    """Runs esptool in this process; its failures become `ChatError`s."""
    try:
        import esptool
    except ImportError:
        raise FlashError("esptool is not installed.", "pip install esptool") from None
    from .transport_serial import open_error

    try:
        esptool.main(command)
    except esptool.FatalError as err:
        raise _explain(str(err), command) from err
    except OSError as err:  # pyserial's SerialException is one
        raise open_error(command[3], err) from err
    except SystemExit as err:
        raise FlashError("esptool did not take these images.", "see its message above") from err


def _explain(reason: str, command: list[str]) -> ChatError:
    from .transport_serial import open_error

    first = reason.strip().splitlines()[0].rstrip(".") if reason.strip() else "no reason given"
    if "could not open" in first.lower() or "port is busy" in first.lower():
        return open_error(command[3], OSError(reason))
    return FlashError(f"Flashing failed: {first}.", BOOT_HINT)
