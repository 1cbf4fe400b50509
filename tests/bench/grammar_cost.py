"""What a grammar costs a token: the mask is asked about every id that could become a candidate.

    python tests/bench/grammar_cost.py MODEL.tlm...               # microseconds, on the simulator
    python tests/bench/grammar_cost.py --emulated MODEL.tlm...    # thousands of instructions, on an emulated RISC-V

needs `pip install .` (or TINYCHAT_SIM and PYTHONPATH), for `--emulated` also what `make emulators` needs. Prints
one line a model: a token without a grammar, and what one adds where much is allowed (the sampler's candidates fill up
early) and where little is (every id is asked about).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinychat import Device
from tinyexport.grammar import compile_grammar

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "firmware" / "boards"))
import build

TARGET = "rv32imafc"
GRAMMARS = {
    "any text": 'r = [^"]*',
    "letters": "r = [a-zA-Z]*",
    "digits": "r = [0-9]*",
    "one text": 'r = "ab"*',
    "words": 'r = (" turn " | " the " | "lamp" | "on" | "off")*',
    "a letter, a space": 'r = ([a-z] " ")*',
}


def per_token(device: Device, grammar: bytes, tokens: int, runs: int) -> float:
    """Microseconds of a token in writing: the least of some runs."""
    found = []
    for seed in range(runs):
        reply = device.generate("Once", grammar=grammar, seed=seed, max_tokens=tokens, ignore_stop=True).wait()
        assert reply.stats is not None and reply.stats.tokens == tokens
        found.append(reply.stats.decode_s / (tokens - 1) * 1e6)
    return min(found)


@contextmanager
def emulator(path: str) -> Iterator[Device]:
    """A board whose clock counts instructions: a nanosecond each."""
    target = build.TARGETS[TARGET]
    elf = build.build(target)
    with tempfile.TemporaryDirectory() as folder:
        flash = Path(folder) / "flash.img"
        build.flash_image(target, flash, Path(path).read_bytes())
        command = [*build.command(target, elf, flash, 5599), "-icount", "shift=0"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            assert process.stderr is not None and b"waiting" in process.stderr.readline()
            with Device.open("socket://127.0.0.1:5599") as device:
                yield device
        finally:
            process.kill()
            process.communicate()


def main(arguments: list[str]) -> None:
    """Measures each blob."""
    emulated = "--emulated" in arguments
    unit, tokens, runs = ("thousand instructions", 9, 1) if emulated else ("us", 64, 9)
    for path in (a for a in arguments if a != "--emulated"):
        with emulator(path) if emulated else Device.open(f"sim:{path}") as device:
            info = device.info()
            free = per_token(device, b"", tokens, runs)
            more = {name: per_token(device, compile_grammar(g), tokens, runs) - free for name, g in GRAMMARS.items()}
        costs = ", ".join(f"{name} {cost:+.0f}" for name, cost in more.items())
        print(f"{info.model}, {info.vocab} ids, {unit} a token: no grammar {free:.0f}; {costs}")


if __name__ == "__main__":
    main(sys.argv[1:])
