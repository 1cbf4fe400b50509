"""Measures the tokenizers: bytes of the section, and milliseconds for 10 KB of text, good and bad.

    python tests/bench/tokenizers_table.py

Needs ../shared and a C compiler; one thread, the best of five.
"""

from __future__ import annotations

import lzma
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
sys.path[:0] = [str(ROOT / "tests" / "py"), str(ROOT / "export")]
from tok_cases import unigram192
from tok_native import NativeTokenizer

from tinyexport import tok

SIZE = 10240
TEXTS = {"a": b"a", "spaces": b" ", "no UTF-8": b"\xff", "fullwidth": "Ａ".encode()}


def best(native: NativeTokenizer, data: bytes) -> float:
    """Milliseconds of one encode."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        native.encode(data, cap=2 * SIZE)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main() -> None:
    """Print the table."""
    prose = lzma.decompress((SHARED / "text" / "tinystories-valid.txt.xz").read_bytes())[:SIZE]
    texts = {"prose": prose} | {name: (piece * SIZE)[:SIZE] for name, piece in TEXTS.items()}
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            "TinyTalk": SHARED / "checkpoints" / "tinytalk-pruned",
            "stories260K": SHARED / "checkpoints" / "stories260k",
            "GPT-2": SHARED / "tokenizers" / "gpt2" / "tokenizer.json.xz",
            "unigram 192": unigram192(Path(folder)),
        }
        print("| tokenizer | section | " + " | ".join(f"{name}, ms" for name in texts) + " |")
        print("|---" * (2 + len(texts)) + "|")
        for name, path in paths.items():
            section = tok.load(path).pack()
            native = NativeTokenizer(section)
            print(
                f"| {name} | {len(section):,} B | "
                + " | ".join(f"{best(native, t):.1f}" for t in texts.values())
                + " |"
            )


if __name__ == "__main__":
    main()
