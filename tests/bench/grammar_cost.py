"""What a grammar costs a token, on the simulator: the mask is asked about every id that could become a candidate.

    python tests/bench/grammar_cost.py MODEL.tlm...

needs `pip install .` (or TINYCHAT_SIM and PYTHONPATH). Prints one line a model: microseconds a token without a grammar,
and what one adds where much is allowed (the sampler's candidates fill up early) and where little is (every id is asked
about).
"""

from __future__ import annotations

import statistics
import sys

from tinychat import Device
from tinyexport.grammar import compile_grammar

TOKENS, RUNS = 64, 5
WIDE, NARROW = 'r = [^"]*', 'r = "ab"*'


def microseconds(device: Device, grammar: bytes) -> float:
    """Median time of a token in writing."""
    found = []
    for seed in range(RUNS):
        reply = device.generate("Once", grammar=grammar, seed=seed, max_tokens=TOKENS, ignore_stop=True).wait()
        assert reply.stats is not None and reply.stats.tokens == TOKENS
        found.append(reply.stats.decode_s / (TOKENS - 1) * 1e6)
    return statistics.median(found)


def main(paths: list[str]) -> None:
    """Measures each blob."""
    for path in paths:
        with Device.open(f"sim:{path}") as device:
            info = device.info()
            free = microseconds(device, b"")
            wide, narrow = (microseconds(device, compile_grammar(g)) for g in (WIDE, NARROW))
        print(
            f"{info.model}: {info.vocab} ids, {free:.0f} us a token; much allowed {wide - free:+.0f} us, "
            f"little allowed {narrow - free:+.0f} us ({(narrow - free) / info.vocab * 1e3:.0f} ns an id)"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
