"""What a TinyTalk token takes on the ESP32-S3, composed of counts only: `python tests/emu/pie_token.py`.

The C around the assembly runs as RISC-V code with a FPU under QEMU (pie_glue.c): Debian has no compiler for the
ESP32-S3, and this core is nearest to it. Its instructions are counted, those of the assembly's stand-in are not; a
division counts as `DIVISION`, since the S3 makes it of many. Each call of the assembly is counted by our interpreter,
on the .S file, for its arguments. No stalls, no cache.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cbuild
import numpy as np
from insn_count import HERE, OUT, ROOT, build, counts, program, symbols
from models import _tensors
from pie import Machine
from pie_host import make_case
from pie_run import program as kernel
from pie_run import run_floats, run_linear, run_mix, run_score

from tinyexport.blob.content import BlobContent
from tinyexport.blob.schema import Act, FfnKind, InputQuant, NormKind, PosKind
from tinyexport.blob.writer import build as build_blob
from tinyexport.kv import parse_kv
from tinyexport.quant import quantise
from tinyexport.spec import LayerSpec, ModelSpec

TARGET = build.TARGETS["rv32imafc"]
RUNTIME = ROOT / "runtime_c" / "src"
DIVISION = 38  # instructions of a float division: what an emulated ESP32-S3 core counted for GCC's
WINDOWS = ("prefill of 60", "decode at 40", "sampling")


class Token(NamedTuple):
    """Instructions of one window: the C, its divisions, and the assembly by function."""

    glue: int
    divisions: int
    assembly: dict[str, int]

    @property
    def total(self) -> int:
        """All of it."""
        return self.glue + (DIVISION - 1) * self.divisions + sum(self.assembly.values())


def model(keys: bool = False) -> bytes:
    """A model of TinyTalk's shape with random weights; `keys`: with what an export adds for the cache's keys."""
    layer = LayerSpec(n_kv_heads=16, ffn_dim=512, ffn_kind=FfnKind.PLAIN, window=0)
    spec = ModelSpec(
        dim=128,
        n_heads=16,
        head_dim=8,
        vocab=14_019,
        context=256,
        layers=(layer,) * 8,
        norm_kind=NormKind.LAYER,
        norm_eps=1e-5,
        pos_kind=PosKind.LEARNED,
        act=Act.GELU_TANH,
        attn_scale=1.0,
        rope_dims=0,
        rope_freqs=(),
        input_quant=InputQuant.PLAIN,
        tied=True,
    )
    tensors = _tensors(spec, 1, ("q4_0",))
    if keys:
        rng, dim = np.random.default_rng(2), spec.n_heads * spec.head_dim
        for i in range(len(spec.layers)):
            ends = np.float32([rng.normal(0, 1, dim), rng.uniform(0.5, 2, dim)])
            feedback = rng.normal(0, 0.2, (spec.head_dim, dim)).astype(np.float32)
            tensors[f"layers.{i}.k_range"] = quantise("f32", ends)
            tensors[f"layers.{i}.k_feedback"] = quantise("q4_0", feedback)
    return build_blob(BlobContent(spec=spec, tensors=tensors, info={"name": "TinyTalk's shape"}))


@cache
def call_count(name: str, a: int, b: int, c: int) -> int:
    """Instructions of one call; arguments as pie_stub.c lists them."""
    if name.startswith(("linear_", "four_", "batch_")):
        if a > 2:  # every tile after the first takes the same
            first, second = call_count(name, 1, b, c), call_count(name, 2, b, c)
            return first + (a - 1) * (second - first)
        return run_linear(name, make_case(name.split("_", 1)[1], 8 * a, b, c, a), slice(0, c))[1]
    kind = name.rpartition("_")[2]
    if name.startswith("score_"):
        k = np.zeros((a, b if kind == "i8" else (b + 1) // 2, 16), np.int8)
        return run_score(kind, k, np.zeros(b, np.int8), np.zeros(16 * a, np.float32), 1.0, 0)[1]
    if name.startswith("mix_"):
        v = np.zeros((2, a if kind == "i8" else (a + 1) // 2, 16), np.int8)
        return run_mix(kind, np.zeros(32, np.int8), v, np.float32(1), np.zeros(a, np.float32))[1]
    if name == "scales":
        return _scales(a)
    if name == "feed":
        return _feed(a)
    if name == "keys":
        ones = np.ones(4, np.float32)
        return run_floats("keys", "keys", np.ones(4 * a, np.float32), [a, 16, ones, ones])
    unit = {"sum8": 8, "centre": 8, "gain": 4, "range": 4, "exp_near": 4, "query": 4, "divide": 4, "quant": 16}.get(
        name, 1
    )
    x = np.random.default_rng(0).normal(0, 1, unit * a).astype(np.float32)
    if name in ("absmax", "codes"):
        return _half_of_quant(name, x, b)
    rest = {
        "range": [a, x[:1]],
        "exp_near": [a, x.max(keepdims=True)],
        "sum8": [a],
        "exp": [a, x.max(keepdims=True)],
        "quant": [x, x, x, a, 0],
        "query": [np.zeros(4 * a, np.int8), x[:1] * 0, a],
        "divide": [a, x[:1] * 0 + 3],
        "store_i8": [np.zeros(16 * a, np.int8), x[:1] * 0, a],
        "store_i4": [np.zeros(8 * a, np.int8), x[:1] * 0, a],
        "centre": [x, x, a],
        "gain": [x, x, x if b else 0, a],
        "mul": [x, x, a],
        "add": [x, a],
        "act_gelu_tanh": [x if b else 0, a],
        "act_silu": [x if b else 0, a],
    }[name]
    files = {
        "quant": ("quant", "query"),
        "norm": ("centre", "gain"),
        "store": ("store_i8", "store_i4"),
        "add": ("add",),
    }
    file = next(
        (file for file, names in files.items() if name in names), "act" if name.startswith("act") else "softmax"
    )
    return run_floats(file, name, x, rest)


def _half_of_quant(name: str, x: np.ndarray, step: int) -> int:
    machine = Machine()
    place, blocks = machine.memory.place, (len(x) + 31) // 32
    at, sums = place(x.tobytes(), "x", align=16), place(bytes(4 * blocks), "sums", align=4)
    codes = place(bytes(len(x)), "codes", align=16)
    args = [at, len(x), sums] if name == "absmax" else [at, codes, sums, step, sums, len(x)]
    machine.code(kernel("tlm_k_s3_quant")).call(f"tlm_k_s3_{name}", args)
    return machine.count


def _scales(pages: int) -> int:
    machine = Machine()
    place = machine.memory.place
    at = [place(bytes(32), "page", align=16) for _ in range(pages)]
    args = [place(np.uint32(at).tobytes(), "pages", align=4), 0, place(bytes(64 * pages), "out", align=16), pages]
    machine.code(kernel("tlm_k_s3_softmax")).call("tlm_k_s3_scales", args)
    return machine.count


def _feed(dims: int) -> int:
    fours = 2 * dims * (dims - 1) + 4
    x = np.zeros(4 * dims, np.float32)
    rest = [np.zeros(32 * dims, np.int8), np.zeros(fours, np.float32), np.zeros(4 * dims + 4, np.float32), x[:1], dims]
    return run_floats("feed", "feed", x, rest)


def _uncounted(folder: Path) -> list[Path]:
    """The assembly's stand-in and copies of what it calls, in a section of their own."""
    kept = ("act_gelu_tanh", "act_silu", "add", "linear_q4_0", "linear_q8_0", "linear_t2", "quant_block")
    renamed = [f"-Dtlm_k_ref_{name}=uncounted_{name}" for name in kept]
    sources = [HERE / "pie_glue_stub.c", *(RUNTIME / "kernels/ref" / f"tlm_k_ref_{name}.c" for name in kept)]
    includes = [f"-I{ROOT / 'runtime_c/include'}", f"-I{RUNTIME}"]
    flags = [*build.CFLAGS, *build._flags(TARGET), *includes, "-fno-function-sections", *renamed]
    objects = []
    for source in sources:
        out = folder / f"uncounted-{source.stem}.o"
        build._run([f"{TARGET.prefix}gcc", *flags, "-c", source, "-o", out])
        build._run([f"{TARGET.prefix}objcopy", "--rename-section", ".text=stub_text", out])
        objects.append(out)
    return objects


def _build(folder: Path, blob: int, cache: str) -> Path:
    folders = (RUNTIME, RUNTIME / "kernels", RUNTIME / "kernels/ref", RUNTIME / "kernels/esp32s3")
    kind = parse_kv(cache)
    sources = [path for at in folders for path in sorted(at.glob("*.c"))]
    defines = (
        f"-DBLOB_BYTES={blob}u",
        f"-DKV_TYPE=TLM_KV_{kind.type.upper()}",
        f"-DKV_GROUPS={kind.groups}u",
        "-DTLM_TARGET_ESP32S3",
        "--oslib=semihost",
    )
    return program(TARGET, "token", [HERE / "pie_glue.c", *sources, *_uncounted(folder)], *defines)


def measure(cache: str = "i8", keys: bool = False) -> dict[str, Token]:
    """Each window with a cache of that kind; `keys` as in `model`."""
    folder = OUT / f"token-{TARGET.name}"
    folder.mkdir(parents=True, exist_ok=True)
    blob = model(keys)
    with cbuild.locked(folder):
        (folder / "model.tlm").write_bytes(blob)
        elf = _build(folder, len(blob), cache)
        at = symbols(TARGET, elf)
        loader = f"loader,file={folder / 'model.tlm'},addr=0x83000000,force-raw=on"
        line = folder / "calls.txt"
        found = counts(
            TARGET,
            elf,
            2 * len(WINDOWS) + 1,
            *("-semihosting-config", "enable=on,target=native", "-device", loader),
            skip=(at["__start_stub_text"], at["__stop_stub_text"]),
            serial=f"file:{line}",
        )
        lists = line.read_text().split("\n\n")
    tokens = {}
    for name, count, calls in zip(WINDOWS, found[::2], lists, strict=False):
        assembly: dict[str, int] = {}
        for words in map(str.split, calls.split("\n")):
            if words:
                a, b, c, times = map(int, words[1:])
                assembly[words[0]] = assembly.get(words[0], 0) + times * call_count(words[0], a, b, c)
        tokens[name] = Token(*count, assembly)
    return tokens


def main() -> None:
    """Prints every window."""
    for kind, keys in (("i8", False), ("i4", False), ("i4/4", False), ("i8", True), ("i4", True)):
        for name, token in measure(kind, keys).items():
            print(f"{name}, {kind} cache{', keys of rules 12 and 15' * keys}: {token.total / 1e6:.3f} M")
            print(f"  C {token.glue / 1e6:.3f} M, {token.divisions} divisions")
            for function, count in sorted(token.assembly.items(), key=lambda item: -item[1]):
                print(f"  {function:16} {count / 1e6:8.3f} M")


if __name__ == "__main__":
    main()
