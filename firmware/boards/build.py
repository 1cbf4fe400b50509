"""Builds the firmware for the emulated boards and runs it in QEMU, with nothing but Debian packages.

    python firmware/boards/build.py                     # what there is, and what is missing here
    python firmware/boards/build.py rv32imac m7         # build: build/boards/<target>/firmware.elf
    python firmware/boards/build.py run xtensa --model model.tlm --port 5555
                                                        # then: tinychat --port socket://127.0.0.1:5555

Each target is the complete firmware/app on the reference kernels.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

BOARDS = Path(__file__).resolve().parent
ROOT = BOARDS.parents[1]
OUT = ROOT / "build" / "boards"
CFLAGS = (
    "-std=c99 -O2 -g -ffp-contract=off -fno-fast-math -ffunction-sections -fdata-sections -fno-common "
    "-Wall -Wextra -Wconversion -Wdouble-promotion -Werror"
).split()
INCLUDES = [f"-I{ROOT / p}" for p in ("runtime_c/include", "runtime_c/src", "firmware/app", "firmware/boards")]
INCLUDES.append(f"-I{BOARDS / 'qemu'}")
STACK = 16384
LIBGCC = (
    "_divsi3 _udivsi3 _umodsi3 _umulsidi3 _addsubsf3 _mulsf3 _fixunssfsi _floatsisf _floatunsisf _addsubdf3 _muldf3 "
    "_divdf3 _fixdfsi _fixunsdfsi _floatsidf _floatunsidf _truncdfsf2 _extendsfdf2"
).split()


class BuildError(Exception):
    """A tool failed; the text is what it said."""


@dataclass(frozen=True)
class Target:
    """One emulated processor.

    Attributes:
        name: what users call it.
        folder: its board folder; prefix: of its compiler; qemu: the emulator.
        flags: for compiler and linker; link: for the linker alone; sources: beside the board's own.
        machine: arguments of the emulator but the firmware, its line and its flash.
        flash: bytes of the flash image; sector: of an erase; flash_args: how the emulator gets it.
        packages: Debian packages it needs.
    """

    name: str
    folder: str
    prefix: str
    qemu: str
    flags: Sequence[str]
    machine: Sequence[str]
    flash: int
    sector: int
    flash_args: str
    packages: Sequence[str]
    link: Sequence[str] = ()
    sources: Sequence[str] = ()
    region: int = 16 << 20
    extra: Sequence[str] = field(default=())


def _riscv(name: str, march: str, mabi: str, cpu: str) -> Target:
    return Target(
        name=name,
        folder="qemu_riscv",
        prefix="riscv64-unknown-elf-",
        qemu="qemu-system-riscv32",
        flags=[f"-march={march}", f"-mabi={mabi}", "-mcmodel=medany", "-specs=picolibc.specs"],
        link=_regions("0x80000000", "0x400000", "0x80400000", "0x200000"),
        sources=["qemu/nor_cfi.c"],
        machine=["-M", "virt", "-cpu", cpu, "-m", "64M", "-bios", "none"],
        flash=32 << 20,
        sector=256 << 10,
        flash_args="-drive if=pflash,unit=1,format=raw,file={flash}",
        packages=["gcc-riscv64-unknown-elf", "picolibc-riscv64-unknown-elf", "qemu-system-misc"],
    )


def _cortexm(name: str, machine: str, flash_at: str, *flags: str) -> Target:
    return Target(
        name=name,
        folder="qemu_cortexm",
        prefix="arm-none-eabi-",
        qemu="qemu-system-arm",
        flags=["-mthumb", *flags, f"-DFLASH_BASE={flash_at}u", "-specs=picolibc.specs"],
        link=_regions("0", "0x400000", "0x20000000", "0x200000"),
        sources=["qemu/nor_ram.c"],
        machine=["-M", machine],
        flash=12 << 20,
        sector=4096,
        flash_args=f"-device loader,file={{flash}},addr={flash_at},force-raw=on",
        packages=["gcc-arm-none-eabi", "picolibc-arm-none-eabi", "qemu-system-arm"],
        region=12 << 20,
    )


def _regions(flash: str, flash_size: str, ram: str, ram_size: str) -> list[str]:
    names = {"flash": flash, "flash_size": flash_size, "ram": ram, "ram_size": ram_size, "stack_size": hex(STACK)}
    return [f"-Wl,--defsym=__{name}={value}" for name, value in names.items()]


TARGETS = {
    t.name: t
    for t in (
        Target(
            name="xtensa",
            folder="qemu_xtensa",
            prefix="xtensa-lx106-elf-",
            qemu="qemu-system-xtensa",
            flags=["-mlongcalls", "-specs={picolibc}"],
            link=["-nostartfiles", "-T", str(BOARDS / "qemu_xtensa" / "link.ld")],
            sources=["qemu/nor_cfi.c"],
            extra=["-DNOR_WORD=uint16_t"],
            machine=["-M", "kc705-nommu", "-cpu", "lx106", "-m", "16M"],
            flash=128 << 20,
            sector=128 << 10,
            flash_args="-drive if=pflash,format=raw,file={flash}",
            packages=["gcc-xtensa-lx106", "picolibc-xtensa-lx106-elf", "gcc-12-source", "qemu-system-misc"],
        ),
        _riscv("rv32imac", "rv32imac", "ilp32", "rv32,f=off,d=off"),
        _riscv("rv32imafc", "rv32imafc", "ilp32f", "rv32,d=off"),
        _cortexm("m3", "mps2-an385", "0x21000000", "-mcpu=cortex-m3"),
        _cortexm("m7", "mps2-an500", "0x60000000", "-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
    )
}


def missing(target: Target) -> str:
    """Why a target can not be built or run here; "" when it can."""
    lacks = [p for p in target.packages if not _installed(p)]
    return f"{target.name}: install {' '.join(lacks)} (Debian packages)" if lacks else ""


@lru_cache
def _installed(package: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    asked = subprocess.run(["dpkg-query", "-W", "-f=${Status}", package], capture_output=True, text=True, check=False)
    return asked.stdout.endswith("installed")


# ---- building ---------------------------------------------------------------------------------------


def _run(command: Sequence[str | Path]) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


@lru_cache
def _package_file(package: str, ending: str) -> str:
    return next(line for line in _run(["dpkg", "-L", package]).splitlines() if line.endswith(ending))


def _flags(target: Target) -> list[str]:
    names = {
        "picolibc": _package_file("picolibc-xtensa-lx106-elf", "/picolibc.specs") if target.name == "xtensa" else ""
    }
    return [f.format(**names) for f in target.flags]


def sources(target: Target) -> dict[str, list[Path]]:
    """C sources by part of the firmware."""
    return {
        "runtime": sorted([*(ROOT / "runtime_c/src").glob("*.c"), *(ROOT / "runtime_c/src/kernels").glob("*.c")])
        + sorted((ROOT / "runtime_c/src/kernels/ref").glob("*.c")),
        "app": sorted((ROOT / "firmware/app").glob("*.c")),
        "board": [
            BOARDS / "qemu/main.c",
            *(BOARDS / s for s in target.sources),
            *sorted((BOARDS / target.folder).glob("*.[cS]")),
        ],
    }


def _newest_header() -> float:
    folders = [ROOT / "runtime_c", ROOT / "firmware"]
    return max(p.stat().st_mtime for folder in folders for p in folder.rglob("*.h"))


def build(target: Target) -> Path:
    """The firmware of a target, built when it is not fresh. Raises BuildError."""
    folder = OUT / target.name
    folder.mkdir(parents=True, exist_ok=True)
    headers = max(_newest_header(), Path(__file__).stat().st_mtime)
    gcc, flags = f"{target.prefix}gcc", _flags(target)

    def compile_one(item: tuple[str, Path]) -> Path:
        part, source = item
        out = folder / f"{part}-{source.stem}.o"
        if not out.exists() or out.stat().st_mtime < max(headers, source.stat().st_mtime):
            _run([gcc, *CFLAGS, *flags, *target.extra, f"-DSTACK_BYTES={STACK}u", *INCLUDES, "-c", source, "-o", out])
        return out

    with ThreadPoolExecutor(2) as pool:
        items = [(part, source) for part, files in sources(target).items() for source in files]
        objects = list(pool.map(compile_one, items))
    elf = folder / "firmware.elf"
    if not elf.exists() or elf.stat().st_mtime < max(o.stat().st_mtime for o in objects):
        libraries = [_libgcc_of_rom(folder)] if target.name == "xtensa" else []
        group = ["-Wl,--gc-sections", "-Wl,--start-group", *libraries, "-lc", "-lgcc", "-Wl,--end-group"]
        map_file = f"-Wl,-Map={folder / 'firmware.map'}"
        _run([gcc, *CFLAGS, *flags, *target.link, *objects, *group, map_file, "-o", elf])
    return elf


def _libgcc_of_rom(folder: Path) -> Path:
    """What Debian's lx106 libgcc leaves out because the ESP8266 has it in ROM, built from GCC's own source."""
    archive = folder / "libgccrom.a"
    if archive.exists():
        return archive
    with tarfile.open(_package_file("gcc-12-source", "dfsg.tar.xz")) as tar:
        for member in tar:
            head, _, name = member.name.partition("/libgcc/config/xtensa/")
            if head and name and member.isfile():
                (folder / name).write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
    plugin = Path(_run(["xtensa-lx106-elf-gcc", "-print-libgcc-file-name"]).strip()).parent / "plugin/include"
    objects = [folder / f"libgcc{name}.o" for name in LIBGCC]
    for name, out in zip(LIBGCC, objects, strict=True):
        gcc = ["xtensa-lx106-elf-gcc", "-c", f"-DL{name}", f"-I{plugin}", f"-I{folder}", "-xassembler-with-cpp"]
        _run([*gcc, folder / "lib1funcs.S", "-o", out])
    _run(["xtensa-lx106-elf-ar", "rcs", archive, *objects])
    return archive


def sizes(target: Target) -> dict[str, dict[str, int]]:
    """Bytes that each part of the linked firmware takes, from the linker's map: code (with constants) and RAM."""
    parts = {part: {"code": 0, "ram": 0} for part in ("runtime", "app", "board", "libraries")}
    kind = ""
    lines = iter(
        (OUT / target.name / "firmware.map").read_text().partition("Linker script and memory map")[2].splitlines()
    )
    for line in lines:
        words = line.split()
        if line[:2] == " ." and len(words) == 1:  # a long name: the numbers stand on the next line
            words += next(lines, "").split()
        if line[:1] != " " or len(words) < 4 or not words[1].startswith("0x") or not words[2].startswith("0x"):
            continue
        name, size, file = words[0], int(words[2], 16), Path(words[3])
        if name.startswith((".text", ".literal", ".rodata", ".srodata", ".vectors", ".init", ".fini")):
            kind = "code"
        elif name.startswith((".data", ".sdata", ".bss", ".sbss", ".tdata", ".tbss", "COMMON")):
            kind = "ram"
        else:
            continue
        part = file.name.partition("-")[0] if file.parent == OUT / target.name else ""
        parts[part if part in parts else "libraries"][kind] += size
    return parts


# ---- running ----------------------------------------------------------------------------------------


def flash_image(target: Target, path: Path, model: bytes | None = None) -> None:
    """An erased flash with `model` active in its first slot; the part that the firmware does not use is a hole."""
    with path.open("wb") as file:
        file.write(b"\xff" * target.region)
        file.truncate(target.flash)
        if model is not None:
            head = struct.pack("<4sII32s", b"TMS1", 1, len(model), hashlib.sha256(model).digest())
            file.seek(0)
            file.write(head + struct.pack("<I", zlib.crc32(head)))
            file.seek(target.sector)
            file.write(model)


def command(target: Target, elf: Path, flash: Path, port: int) -> list[str]:
    """The emulator's command line; its serial line is TCP port `port` of this machine, which it waits on."""
    line = f"tcp:127.0.0.1:{port},server=on,nodelay=on"
    quiet = ["-display", "none", "-monitor", "none", "-serial", line, "-semihosting-config", "enable=on,target=native"]
    loader = f"loader,file={elf},cpu-num=0"
    return [target.qemu, *target.machine, *quiet, *target.flash_args.format(flash=flash).split(), "-device", loader]


def main(argv: Sequence[str]) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description="Firmware for the emulated boards.")
    parser.add_argument("targets", nargs="*", help="of " + ", ".join(TARGETS) + "; or: run TARGET; or: sizes")
    parser.add_argument("--model", type=Path, help="a .tlm file for its first slot")
    parser.add_argument("--port", type=int, default=5555, help="TCP port of the serial line (5555)")
    options = parser.parse_args(argv)
    running = options.targets[:1] == ["run"]
    names = [n for n in options.targets if n not in ("run", "sizes")]
    if unknown := [n for n in names if n not in TARGETS]:
        parser.error(f"no such target: {unknown[0]}")
    if not names:
        for target in TARGETS.values():
            print(missing(target) or f"{target.name}: {target.folder}, ready to build")
        return 0
    try:
        for name in names:
            if reason := missing(TARGETS[name]):
                print(reason, file=sys.stderr)
                return 1
            print(build(TARGETS[name]))
            if "sizes" in options.targets:
                print(json.dumps(sizes(TARGETS[name]), indent=2))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    if running:
        target = TARGETS[names[0]]
        flash = OUT / target.name / "flash.img"
        if options.model is not None or not flash.exists():
            flash_image(target, flash, options.model.read_bytes() if options.model is not None else None)
        print(f"tinychat --port socket://127.0.0.1:{options.port}", flush=True)
        return subprocess.call(command(target, OUT / target.name / "firmware.elf", flash, options.port))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
