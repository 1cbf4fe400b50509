"""A tokenizer as data: what the loaders read and the packer writes.

Texts are bytes as they stand in running text. Under `TokFlag.ESCAPE` the mark U+2581 of the source
is a plain space in them. A piece without a text (a gap in the ids) is b"".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..blob.schema_tok import TokFlag, TokKind, TokPrefix, TokSpecialFlag, TokSplit
from ..errors import TokenizerError
from .charfacts import Facts

MARK = "▁"  # stands for a space in sentencepiece vocabularies
NO_FLAGS = TokFlag(0)
MAX_PIECE = 512  # bytes, TLM_MAX_PIECE


class Merge(NamedTuple):
    """Two symbols that become one; the lowest rank goes first, equal ranks from left to right."""

    left: int
    right: int
    result: int
    rank: int


@dataclass(frozen=True)
class Special:
    """A piece that merges and scores do not touch."""

    id: int
    text: bytes
    flags: TokSpecialFlag = TokSpecialFlag.MATCH | TokSpecialFlag.HIDDEN


@dataclass
class Tokenizer:
    """One tokenizer, whatever file it came from.

    `symbols` are characters that only merges know: symbol `vocab_size + i` is `symbols[i]`.
    `findable` are the symbols that encoding looks up by text (characters of BPE, pieces of a unigram).
    """

    kind: TokKind
    pieces: list[bytes]
    specials: list[Special] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)
    symbols: list[bytes] = field(default_factory=list)
    findable: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    unk_score: float = 0.0
    alphabet: list[int | None] | None = None  # symbol of each byte
    flags: TokFlag = NO_FLAGS
    prefix: TokPrefix = TokPrefix.NONE
    splits: tuple[TokSplit, ...] = ()
    charmap: Facts = field(default_factory=Facts)
    bos: int | None = None
    eos: int | None = None
    unk: int | None = None
    add_bos: bool | None = None
    reference: Callable[[str], list[int]] | None = None  # the library that made it, no specials added

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self.pieces)

    @property
    def special(self) -> dict[str, int]:
        """Text of the special pieces and their ids."""
        return {s.text.decode("utf-8", "replace"): s.id for s in self.specials}

    def text_of(self, symbol: int) -> bytes:
        """Bytes of a symbol (a special piece: its own text)."""
        for special in self.specials:
            if special.id == symbol:
                return special.text
        return self.pieces[symbol] if symbol < len(self.pieces) else self.symbols[symbol - len(self.pieces)]

    def piece_text(self, symbol: int) -> str:
        """The same for people: bytes that are not UTF-8 are replaced."""
        return self.text_of(symbol).decode("utf-8", "replace")

    def reference_encode(self, text: str) -> list[int]:
        """Ids by the library that this tokenizer belongs to, special pieces of the text included.

        TokenizerError when there is no such library (llama2.c, GGUF, a pruned vocabulary).
        """
        if self.reference is None:
            raise TokenizerError("this tokenizer has no reference library", "use the C runtime to encode")
        return self.reference(text)

    def pack(self) -> bytes:
        """The TOKENIZER section of the blob."""
        from .pack import pack

        return pack(self)


def byte_letters() -> dict[str, int]:
    """The printable character that byte-level vocabularies write for each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


def byte_piece(name: str) -> int | None:
    """The byte that a piece such as `<0x0A>` stands for."""
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        try:
            return int(name[3:5], 16)
        except ValueError:
            return None
    return None


def has_inner_space(tokenizer: Tokenizer) -> bool:
    """Whether a findable text or a merge has a space behind its first byte: words then depend on each other."""
    texts = [tokenizer.text_of(s) for s in tokenizer.findable] + [tokenizer.text_of(m.result) for m in tokenizer.merges]
    return any(b" " in text[1:] for text in texts)


def check(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer itself, or TokenizerError for what no section can hold."""
    hint = "repair the tokenizer file, or give another one with --tokenizer"
    if not 0 < tokenizer.vocab_size <= 1 << 20:
        raise TokenizerError(f"the tokenizer has {tokenizer.vocab_size} pieces", hint)
    longest = max(len(text) for text in [*tokenizer.pieces, *(s.text for s in tokenizer.specials)])
    if longest > MAX_PIECE:
        raise TokenizerError(f"a piece is {longest} bytes long, the runtime holds {MAX_PIECE}", hint)
    if not all(map(math.isfinite, [*tokenizer.scores, tokenizer.unk_score])):
        raise TokenizerError("a piece has no finite score", hint)
    for name in ("bos", "eos", "unk"):
        value = getattr(tokenizer, name)
        if value is not None and not 0 <= value < tokenizer.vocab_size:
            raise TokenizerError(f"{name} is id {value} of {tokenizer.vocab_size} pieces", hint)
    return tokenizer
