"""How often a chat model holds a two-turn greeting: does its second reply fit the mood that it was told?

    python tests/bench/greetings.py smalltalk.tlm...

needs `pip install .` (or TINYCHAT_SIM and PYTHONPATH). Openings, answers and the words that count as fitting stand
below; sampling is the model's own, seeds 0 to 23.
"""

from __future__ import annotations

import re
import sys

from tinychat import Device

OPENINGS = (
    "hi",
    "hello",
    "hey",
    "hello there",
    "good morning",
    "hi there!",
    "Hey, how are you?",
    "hi, nice to meet you",
)
GOOD, BAD = r"glad|great|good|happy|wonderful|nice|awesome", r"sorry|oh no|here for you|hope you|feel better"
ANSWERS = (
    ("I'm good, thanks!", GOOD), ("I'm fine, and you?", GOOD), ("great, thank you", GOOD), ("I'm happy today", GOOD),
    ("I'm sad today", BAD), ("not so good", BAD), ("I'm tired", BAD), ("I feel bad", BAD),
)  # fmt: skip
GREETS = r"\b(hi|hello|hey|good morning|fine|good|great|nice|how are you|how's it going|what's up)\b"


def count(device: Device) -> tuple[int, int, int]:
    """First replies that greet, second replies that fit, and conversations."""
    first = second = 0
    pairs = [(o, ANSWERS[(i * 3 + k) % len(ANSWERS)]) for i, o in enumerate(OPENINGS) for k in range(3)]
    for seed, (opening, (answer, fits)) in enumerate(pairs):
        device.reset()
        first += bool(re.search(GREETS, device.chat(opening, seed=seed).wait().text, re.I))
        second += bool(re.search(fits, device.chat(answer, seed=seed).wait().text, re.I))
    return first, second, len(pairs)


def main(paths: list[str]) -> None:
    """Counts for each blob."""
    for path in paths:
        with Device.open(f"sim:{path}") as device:
            first, second, of = count(device)
        print(f"{path}: {first} of {of} greetings answered, {second} of {of} second replies fit the mood")


if __name__ == "__main__":
    main(sys.argv[1:])
