"""Texts and tokenizers that the tokenizer tests share."""

from __future__ import annotations

import lzma
import random
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data" / "tok"
SHARED = Path(__file__).resolve().parents[3] / "shared"

# A few lines of everything, for where ../shared is missing.
LINES = [
    "", " ", "  ", "Hello, world!", "  two  spaces  ", "I'll don't 'S 'ſ we've", "a\tb\r\nc\n\n d", "½ ⅷ",
    "naïve café e\u0301 A\u030a", "日本語テキスト ﾃﾞｰﾀ", "한국어 \u1112\u1161\u11ab", "🙂👨\u200d👩 🇩🇪",
    "\u2581lower\u2581 block", "12345 678", "x" * 70,
    "ﬁne Ａｂｃ ㎏ ⑴ ﷺ", "\x00\x01\x7f\x85\u2028\ufeff\ufffd", "<s> </s> <|endoftext|> <unk>",
    "Once upon a time, there was a little girl.",
]  # fmt: skip
RANGES = [
    (0x20, 0x7F), (0x20, 0x7F), (0x61, 0x7B), (0x300, 0x370), (0x80, 0x250), (0x370, 0x530), (0x1100, 0x1200),
    (0xAC00, 0xD7A4), (0x1E00, 0x2000), (0x2000, 0x2C00), (0x3000, 0x3400), (0xFB00, 0xFFF0), (0x1D400, 0x1D800),
    (0x1F100, 0x1F700), (0, 0xD800), (0xE000, 0x110000),
]  # fmt: skip


def random_texts(n: int, seed: int = 1) -> list[str]:
    """Strings of up to 30 code points from all over Unicode, with words and spaces between."""
    rng = random.Random(seed)
    words = ["the", " little", " a", "'s", "  ", " dog", "ing", "\n", "'LL", "123", ". "]
    out = []
    for _ in range(n):
        parts = []
        for _ in range(rng.randint(1, 30)):
            parts.append(rng.choice(words) if rng.random() < 0.3 else chr(rng.randrange(*rng.choice(RANGES))))
        out.append("".join(parts))
    return out


def random_bytes(n: int, seed: int = 2) -> list[bytes]:
    """Byte strings, some random, some valid text with holes."""
    rng = random.Random(seed)
    out = [rng.randbytes(rng.randint(0, 40)) for _ in range(n // 2)]
    for text in random_texts(n - len(out), seed):
        data = bytearray(text.encode())
        for _ in range(rng.randint(1, 3)):
            if data:
                del data[rng.randrange(len(data))]
        out.append(bytes(data))
    return out


def fuzz_lines() -> list[str]:
    """The 300 fuzz lines, or the few above."""
    path = SHARED / "text" / "tokenizer-fuzz.txt"
    return path.read_bytes().decode().split("\n") if path.is_file() else LINES


def broken_lines() -> list[bytes]:
    """Lines that are not UTF-8."""
    path = SHARED / "text" / "tokenizer-fuzz-bytes.bin"
    return path.read_bytes().split(b"\n") if path.is_file() else [b"\x80", b"a\xff b", b"\xe2\x96", b"\xf0\x9f\x98 x"]


@cache
def prose(name: str) -> list[str]:
    """Lines of a text in ../shared/text, or the few above many times."""
    path = SHARED / "text" / name
    return lzma.open(path, "rt", encoding="utf-8").read().split("\n") if path.is_file() else LINES * 20


def unigram192(folder: Path) -> Path:
    """The nmt_nfkc fixture, unpacked into `folder`."""
    path = folder / "unigram192.model"
    path.write_bytes(lzma.decompress((DATA / "unigram192.model.xz").read_bytes()))
    return path
