"""Ours against other engines on the desk: decode, prefill, decode at context 256; one thread, the same models.

    python tests/bench/peers.py --prepare          installs llama.cpp into build/peers, builds the models; minutes
    python tests/bench/peers.py [MODEL...]         measures; --json, --rounds N, --llama2c PATH/run.c

needs the `test` extra. Ours: Q4_0, f32 KV cache, greedy, the whole head and the sampler timed. llama.cpp: Q4_0 (rows
that are no multiple of 32 stay F16), its time is llama_decode alone; flash attention, the type of its cache and its
repacking are tried first, and each figure takes the setting that was best for it. llama2.c, whose source the user has,
runs in float. transformers runs what llama.cpp has no architecture for. Rounds interleave the engines; medians are
printed, and the load of the machine. Where others work too, give it a CPU of its own:

    chrt -f 10 taskset -c 1 python tests/bench/peers.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from peer_models import ROOT, SHAPES, TINYTALK, Files, build

from tinyexport.commands import progress
from tinyexport.runtime import Model

HERE, WORK = Path(__file__).parent, ROOT / "build" / "peers"
PACKAGES = ("llama-cpp-python==0.3.36", "gguf==0.19.0")
BUILD = "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"
TRIES = 3


@dataclass(frozen=True)
class Metric:
    """Tokens of the prompt and of the decode; which of the two is the figure."""

    name: str
    prompt: int
    decode: int
    prefill: bool = False

    def speed(self, seconds: tuple[float, float]) -> float:
        """Tokens a second."""
        return self.prompt / seconds[0] if self.prefill else self.decode / seconds[1]


METRICS = (Metric("decode", 8, 128), Metric("prefill", 224, 1, prefill=True), Metric("decode at 256", 192, 64))
DECODE_GOALS = {"stories260K": 3.0, "A": 3.0, "B": 3.0, "C": 1.3, "D": 1.3, TINYTALK: 15.0}
PREFILL_GOAL = 1.5  # against llama.cpp


@dataclass(frozen=True)
class Row:
    """One figure. `peers`: tokens a second of each engine; `setting`: what was best for llama.cpp."""

    model: str
    seeded: bool
    metric: str
    ours: float
    peers: dict[str, float]
    setting: str
    ratio: float
    goal: float | None


class Engine(Protocol):
    """Something that can be timed."""

    name: str
    settings: ClassVar[list[Any]]

    def run(self, setting: Any, prompt: int, decode: int) -> tuple[float, float]:
        """Seconds of a prompt in an empty context, and of the steps after it."""


class Ours:
    """The runtime, timed inside the library."""

    name = "ours"
    settings: ClassVar[list[Any]] = [None]

    def __init__(self, files: Files) -> None:
        self.session = Model(files.blob.read_bytes()).session(kv="f32")

    def run(self, _setting: Any, prompt: int, decode: int) -> tuple[float, float]:
        return self.session.bench(prompt, decode)


class Process:
    """An engine in a process of its own: a line in, a line out."""

    def __init__(self, command: list[str]) -> None:
        env = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH="")
        pipe = subprocess.PIPE
        self.child = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)

    def ask(self, line: str) -> str:
        assert self.child.stdin and self.child.stdout
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline()
        if not answer:
            sys.exit(f"{self.child.args!r} ended with {self.child.wait()}")
        return answer


class LlamaCpp(Process):
    """llama.cpp; a setting is flash attention, the type of its KV cache, weights repacked."""

    name = "llama.cpp"
    settings: ClassVar[list[Any]] = list(itertools.product((False, True), ("f32", "f16"), (False, True)))

    def __init__(self, files: Files) -> None:
        super().__init__([str(WORK / "venv/bin/python"), str(HERE / "peer_llama.py"), str(files.gguf)])

    def run(self, setting: Any, prompt: int, decode: int) -> tuple[float, float]:
        first, rest = json.loads(self.ask(json.dumps({"setting": setting, "prompt": prompt, "decode": decode})))
        return first, rest


class Llama2c(Process):
    """llama2.c in float, compiled from the user's run.c."""

    name = "llama2.c"
    settings: ClassVar[list[Any]] = [None]

    def __init__(self, files: Files, run_c: Path) -> None:
        program = WORK / "llama2c"
        flags = ["-Ofast", "-march=native", "-w", f'-DRUN_C="{run_c.resolve()}"']
        subprocess.run(["cc", *flags, HERE / "peer_llama2c.c", "-lm", "-o", program], check=True)
        super().__init__([str(program), str(files.llama2c)])

    def run(self, _setting: Any, prompt: int, decode: int) -> tuple[float, float]:
        first, rest = map(float, self.ask(f"{prompt} {decode}").split())
        return first, rest


class Transformers:
    """PyTorch with transformers, float32; the last position's logits only, argmax."""

    name = "transformers"
    settings: ClassVar[list[Any]] = [None]

    def __init__(self, files: Files) -> None:
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        warnings.simplefilter("ignore", FutureWarning)
        torch.set_num_threads(1)
        self.torch = torch
        self.model = transformers.AutoModelForCausalLM.from_pretrained(files.checkpoint, dtype=torch.float32).eval()

    def run(self, _setting: Any, prompt: int, decode: int) -> tuple[float, float]:
        from time import perf_counter

        torch, vocab = self.torch, self.model.config.vocab_size
        ids = torch.tensor([[(i * 7919 + 11) % vocab for i in range(prompt)]])
        with torch.inference_mode():
            start = perf_counter()
            out = self.model(ids, use_cache=True, logits_to_keep=1)
            middle = perf_counter()
            for _ in range(decode):
                token = out.logits[:, -1:].argmax(-1)
                out = self.model(token, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
        return middle - start, perf_counter() - middle


def engines(files: Files, run_c: Path | None) -> list[Engine]:
    """Ours, then the peers that can run the model."""
    found: list[Engine] = [Ours(files)]
    if files.gguf is None:
        return [*found, Transformers(files)]
    found.append(LlamaCpp(files))
    if run_c is not None:
        found.append(Llama2c(files, run_c))
    return found


def best_setting(engine: Engine, metric: Metric) -> Any:
    """The setting that gives the engine its best figure; this warms it up, too."""

    def speed(setting: Any) -> float:
        return max(metric.speed(engine.run(setting, metric.prompt, metric.decode)) for _ in range(TRIES))

    return max(engine.settings, key=speed)


def measure(files: Files, rounds: int, run_c: Path | None) -> list[Row]:
    """The three figures of a model."""
    found, rows = engines(files, run_c), []
    for metric in METRICS:
        best = {engine.name: best_setting(engine, metric) for engine in found}
        speeds: dict[str, list[float]] = {engine.name: [] for engine in found}
        for _, engine in itertools.product(range(rounds), found):
            seconds = engine.run(best[engine.name], metric.prompt, metric.decode)
            speeds[engine.name].append(metric.speed(seconds))
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        ours = medians.pop("ours")
        if metric.prefill:
            medians.pop("llama2.c", None)  # it has none: token by token
        goal = DECODE_GOALS[files.name] if metric.name == "decode" else None
        if metric.prefill and "llama.cpp" in medians:
            goal = PREFILL_GOAL
        setting = describe(best["llama.cpp"]) if "llama.cpp" in best else ""
        ratio = ours / max(medians.values())
        rows.append(Row(files.name, files.seeded, metric.name, ours, medians, setting, ratio, goal))
    return rows


def describe(setting: tuple[bool, str, bool]) -> str:
    """A setting of llama.cpp in words."""
    flash, kv, repack = setting
    return f"{'flash' if flash else 'no flash'}, {kv}, {'repacked' if repack else 'as stored'}"


def prepare() -> None:
    """llama.cpp into a venv of its own, built for this CPU."""
    python = WORK / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", WORK / "venv"], check=True)
    install = [python, "-m", "pip", "install", "-q", "--no-binary", "llama-cpp-python", *PACKAGES]
    subprocess.run(install, check=True, env=dict(os.environ, CMAKE_ARGS=BUILD))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join((*SHAPES, TINYTALK))}; all")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--llama2c", type=Path, metavar="RUN_C", help="llama2.c's run.c")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = options.models or [*SHAPES, TINYTALK]
    if unknown := set(names) - {*SHAPES, TINYTALK}:
        parser.error(f"no model {', '.join(sorted(unknown))}")
    if shutil.which("cc") is None and options.llama2c:
        parser.error("llama2.c needs a C compiler")
    (WORK / "models").mkdir(parents=True, exist_ok=True)
    if options.prepare:
        prepare()
    models = [build(name, WORK / "models") for name in names]
    if options.prepare:
        return
    load = os.getloadavg()[0]
    rows = [row for files in progress(models, "peers") for row in measure(files, options.rounds, options.llama2c)]
    if options.json:
        print(json.dumps({"load": load, "rounds": options.rounds, "rows": [asdict(row) for row in rows]}))
        return
    print(f"load {load:.1f} before; medians of {options.rounds} rounds; tokens a second\n")
    print("| model | figure | ours | peers | ratio to the best | goal | llama.cpp's setting |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        peers = ", ".join(f"{name} {speed:,.0f}" for name, speed in row.peers.items())
        goal = "" if row.goal is None else f"{row.goal:g} {'reached' if row.ratio >= row.goal else 'NOT REACHED'}"
        name = row.model + (" (seeded)" if row.seeded else "")
        print(f"| {name} | {row.metric} | {row.ours:,.0f} | {peers} | {row.ratio:.2f} | {goal} | {row.setting} |")


if __name__ == "__main__":
    main()
