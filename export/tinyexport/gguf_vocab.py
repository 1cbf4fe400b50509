"""A tokenizer as a GGUF vocabulary, from a loaded one or from the TOKENIZER section of a blob."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .blob.schema import NO_TOKEN
from .blob.schema_tok import TOK, TOK_SPECIAL, TokFlag, TokKind, TokPrefix, TokSpecialFlag, TokSplit
from .errors import BlobError, TokenizerError
from .tok.model import MARK, Merge, Special, Tokenizer, byte_letters

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_HINT = "GGUF export holds byte-level BPE and SentencePiece BPE with byte fallback"
# llama.cpp's names of pre-tokenisers by the steps of ours
_PRE = {
    (TokSplit.GPT2,): "gpt-2",
    (TokSplit.DIGIT, TokSplit.GPT2): "smollm",
    (TokSplit.GPT4,): "llama-bpe",
    (TokSplit.GPT4_DIGIT,): "qwen2",
}


@dataclass(frozen=True)
class GGUFVocab:
    """A vocabulary as GGUF has it; token types are those of sentencepiece."""

    model: str  # "llama" (SentencePiece) or "gpt2" (byte-level BPE)
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)  # "llama"
    merges: list[str] = field(default_factory=list)  # "gpt2": "left right"
    pre: str = "gpt-2"  # "gpt2"
    bos: int | None = None
    eos: int | None = None
    unk: int | None = None
    add_bos: bool = False
    add_space_prefix: bool = False


def from_tokenizer(tokenizer: Tokenizer, add_bos: bool) -> GGUFVocab:
    """The vocabulary of a tokenizer; TokenizerError when llama.cpp has no such kind."""
    common: dict[str, Any] = {
        "bos": tokenizer.bos, "eos": tokenizer.eos, "unk": tokenizer.unk, "add_bos": add_bos,
        "add_space_prefix": tokenizer.prefix is not TokPrefix.NONE,
    }  # fmt: skip
    if tokenizer.kind is not TokKind.BPE:
        raise TokenizerError(f"a {tokenizer.kind.name} vocabulary can not be exported as GGUF", _HINT)
    if tokenizer.flags & TokFlag.BYTES:
        return _byte_level(tokenizer, common)
    if tokenizer.flags & TokFlag.ESCAPE and tokenizer.flags & TokFlag.BYTE_FALLBACK:
        return _sentencepiece(tokenizer, common)
    raise TokenizerError("a BPE vocabulary without bytes can not be exported as GGUF", _HINT)


def _byte_level(tokenizer: Tokenizer, common: dict[str, Any]) -> GGUFVocab:
    pre = _PRE.get(tuple(tokenizer.splits))
    if pre is None or tokenizer.prefix is not TokPrefix.NONE:
        raise TokenizerError("llama.cpp has no pre-tokeniser like that of this vocabulary", _HINT)
    letters = {byte: letter for letter, byte in byte_letters().items()}
    specials = {s.id: s for s in tokenizer.specials}

    def written(symbol: int) -> str:
        return "".join(letters[byte] for byte in tokenizer.text_of(symbol))

    tokens = [
        specials[i].text.decode("utf-8", "replace") if i in specials else written(i)
        for i in range(tokenizer.vocab_size)
    ]
    merges = [f"{written(m.left)} {written(m.right)}" for m in sorted(tokenizer.merges, key=lambda m: m.rank)]
    types = [_special_type(specials[i]) if i in specials else NORMAL for i in range(len(tokens))]
    return GGUFVocab("gpt2", tokens, types, merges=merges, pre=pre, **common)


def _sentencepiece(tokenizer: Tokenizer, common: dict[str, Any]) -> GGUFVocab:
    """Scores fall with the rank of the merge that makes a piece: llama.cpp merges the best score first."""
    size = tokenizer.vocab_size
    byte_of = {symbol: byte for byte, symbol in enumerate(tokenizer.alphabet or []) if symbol is not None}
    specials = {s.id: s for s in tokenizer.specials}
    tokens, types = [], []
    for i in range(size):
        if i in byte_of:
            tokens.append(f"<0x{byte_of[i]:02X}>")
            types.append(BYTE)
        elif i == tokenizer.unk:
            tokens.append("<unk>")
            types.append(UNKNOWN)
        elif i in specials:
            tokens.append(specials[i].text.decode("utf-8", "replace"))
            types.append(_special_type(specials[i]))
        else:
            tokens.append(tokenizer.pieces[i].decode("utf-8", "replace").replace(" ", MARK))
            types.append(NORMAL)
    scores = [0.0] * size
    order = {rank: place for place, rank in enumerate(sorted({m.rank for m in tokenizer.merges}))}
    for merge in sorted(tokenizer.merges, key=lambda m: -m.rank):
        if merge.result < size:
            scores[merge.result] = -1.0 - order[merge.rank]
    return GGUFVocab("llama", tokens, types, scores, **common)


def _special_type(special: Special) -> int:
    return CONTROL if special.flags & TokSpecialFlag.HIDDEN else USER_DEFINED


# ---- back from a blob ----------------------------------------------------------------------------------


def from_section(section: bytes, add_bos: bool) -> GGUFVocab:
    """The vocabulary in the TOKENIZER section of a blob; BlobError when the section is damaged."""
    try:
        tokenizer = _unpacked(section)
    except (ValueError, IndexError, KeyError, struct.error, RecursionError) as error:
        raise BlobError(f"the tokenizer of the blob is damaged ({error})", "export the checkpoint again") from None
    return from_tokenizer(tokenizer, add_bos)


class _Tables:
    """The tables of a section by the name of their offset field."""

    def __init__(self, section: bytes) -> None:
        self.data = section
        self.record = TOK.unpack(section)
        self.index = np.dtype("<u2" if self.record["index_bytes"] == 2 else "<u4")

    def get(self, name: str, count: int, dtype: Any = None) -> list[int]:
        values = np.frombuffer(self.data, dtype or self.index, count, self.record[name])
        return [int(v) for v in values]

    def id(self, name: str) -> int | None:
        value = int(self.record[name])
        return None if value == NO_TOKEN else value


def _unpacked(section: bytes) -> Tokenizer:
    tables = _Tables(section)
    record, flags = tables.record, TokFlag(tables.record["flags"])
    none = int(np.iinfo(tables.index).max)
    merges = _merges(tables)
    alphabet = tables.get("alphabet_at", 256) if record["alphabet_at"] else None
    specials = [
        TOK_SPECIAL.unpack(section, record["special_at"] + TOK_SPECIAL.size * i) for i in range(record["n_special"])
    ]
    named = {s["id"]: section[s["text_at"] : s["text_at"] + s["text_bytes"]] for s in specials}
    texts = _derived(merges, alphabet or [], named, record["n_symbols"]) if flags & TokFlag.DERIVED else _stored(tables)
    return Tokenizer(
        TokKind(record["kind"]),
        texts[: record["n_pieces"]],
        # Without flags it is an ordinary piece that a derived section stores one by one.
        [Special(s["id"], named[s["id"]], TokSpecialFlag(s["flags"])) for s in specials if s["flags"]],
        merges,
        texts[record["n_pieces"] :],
        alphabet=None if alphabet is None else [None if s == none else s for s in alphabet],
        flags=flags,
        prefix=TokPrefix(record["prefix"]),
        splits=tuple(TokSplit(s) for s in record["splits"][: record["n_splits"]]),
        bos=tables.id("bos"),
        eos=tables.id("eos"),
        unk=tables.id("unk"),
    )


def _merges(tables: _Tables) -> list[Merge]:
    count = tables.record["n_merges"]
    if count == 0:
        return []
    left_at = tables.get("left_at", tables.record["n_symbols"] + 1)
    lefts = np.repeat(np.arange(len(left_at) - 1), np.diff(left_at))
    pairs = tables.get("pairs_at", 2 * count)
    ranks = tables.get("rank_at", count) if tables.record["rank_at"] else pairs[1::2]
    rows = zip(lefts.tolist(), pairs[::2], pairs[1::2], ranks, strict=True)
    return sorted((Merge(*row) for row in rows), key=lambda m: m.rank)


def _derived(merges: list[Merge], alphabet: list[int], named: dict[int, bytes], n_symbols: int) -> list[bytes]:
    """Texts that follow from the alphabet and the merges; a merge only joins symbols before its result."""
    texts = [named.get(i, b"") for i in range(n_symbols)]
    for byte, symbol in enumerate(alphabet):
        if symbol < n_symbols:
            texts[symbol] = bytes([byte])
    for merge in sorted(merges, key=lambda m: m.result):
        texts[merge.result] = texts[merge.left] + texts[merge.right]
    return texts


def _stored(tables: _Tables) -> list[bytes]:
    record = tables.record
    width = "<u2" if record["text_bytes"] <= 0xFFFF else "<u4"
    ends = tables.get("ends_at", record["n_symbols"], width)
    text = tables.data[record["text_at"] : record["text_at"] + record["text_bytes"]]
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]
