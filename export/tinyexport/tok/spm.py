"""tokenizer.model of the sentencepiece library: BPE, unigram, word and character models.

The file is a protobuf message; the few fields that matter are read here, so that exporting needs no
sentencepiece installation.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..blob.schema_tok import TokFlag, TokKind, TokPrefix, TokSpecialFlag, TokSplit
from ..errors import TokenizerError
from .charfacts import facts_of
from .model import MARK, Merge, Special, Tokenizer, byte_piece, has_inner_space

HINT = "give the tokenizer.model as sentencepiece wrote it, or another tokenizer with --tokenizer"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_UNIGRAM, _BPE, _WORD, _CHAR = 1, 2, 3, 4
UNK_PENALTY = 10.0


class Piece(NamedTuple):
    """One entry of the vocabulary."""

    text: str
    score: float
    type: int


# ---- protobuf ----------------------------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number is cut off")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message: int, bytes, or raw 4 and 8 byte values."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value: Any
            value, at = _varint(data, at)
        else:
            if kind == 2:
                size, at = _varint(data, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise ValueError(f"a field of unknown kind {kind}")
            if at + size > len(data):
                raise ValueError("a field is cut off")
            value, at = data[at : at + size], at + size
        yield key >> 3, value


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for number, value in fields(data):
        if number == 1:
            text = value.decode("utf-8")
        elif number == 2:
            (score,) = struct.unpack("<f", value)
        elif number == 3:
            kind = value
    return Piece(text, score, kind)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


# ---- model -------------------------------------------------------------------------------------------


class _Specs(NamedTuple):
    pieces: list[Piece]
    trainer: dict[int, Any]
    normalizer: dict[int, Any]


def _read(data: bytes) -> _Specs:
    specs = _Specs([], {}, {})
    for number, value in fields(data):
        if number == 1:
            specs.pieces.append(_piece(value))
        elif number == 2:
            specs.trainer.update(fields(value))
        elif number == 3:
            specs.normalizer.update(fields(value))
    if not specs.pieces or not specs.trainer or not specs.normalizer:
        raise ValueError("its pieces or its settings are missing")
    return specs


def load(data: bytes, config: dict[str, Any] | None = None) -> Tokenizer:
    """A tokenizer from the bytes of tokenizer.model; TokenizerError when they are not one."""
    try:
        specs = _read(data)
        out = _build(specs)
    except (ValueError, TypeError, AttributeError, struct.error) as err:
        raise TokenizerError(f"tokenizer.model is damaged ({err})", HINT) from None
    given = (config or {}).get("add_bos_token")
    out.add_bos = given if isinstance(given, bool) else None
    out.reference = _reference(data)
    return out


def _reference(data: bytes) -> Callable[[str], list[int]]:
    loaded: list[Any] = []

    def encode(line: str) -> list[int]:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as err:
            raise TokenizerError("the sentencepiece package is not installed", "pip install sentencepiece") from err
        if not loaded:
            loaded.append(SentencePieceProcessor(model_proto=data))
        return list(loaded[0].encode(line))

    return encode


def _build(specs: _Specs) -> Tokenizer:
    trainer, normalizer = specs.trainer, specs.normalizer
    model_type = trainer.get(3, _UNIGRAM)
    if trainer.get(24) or not normalizer.get(5, 1):
        raise TokenizerError(
            "tokenizer.model puts its space mark behind words or has none, which the runtime does not do", HINT
        )
    ids = {name: _signed(trainer.get(number, default)) for name, number, default in
           (("unk", 40, 0), ("bos", 41, 1), ("eos", 42, 2))}  # fmt: skip
    surface = trainer.get(44, " ⁇ ".encode())
    out = from_pieces(specs.pieces, model_type, surface)
    for name in ("bos", "eos"):
        setattr(out, name, ids[name] if 0 <= ids[name] < len(specs.pieces) else None)
    if normalizer.get(3, 1):
        out.prefix = TokPrefix.ALWAYS
    if normalizer.get(4, 1):
        out.flags |= TokFlag.TRIM
    if normalizer.get(3, 1) or normalizer.get(4, 1):
        out.flags |= TokFlag.STRIP_FIRST
    if not out.flags & TokFlag.BYTE_FALLBACK:
        out.flags |= TokFlag.BAD_IS_FFFD
    if normalizer.get(2):
        out.charmap = facts_of(bytes(normalizer[2]))
    return out


def from_pieces(pieces: list[Piece], model_type: int, surface: bytes = b"") -> Tokenizer:
    """A tokenizer with sentencepiece's rules from pieces, scores and types."""
    kinds = {_UNIGRAM: TokKind.UNIGRAM, _BPE: TokKind.BPE, _WORD: TokKind.WORD, _CHAR: TokKind.WORD}
    if model_type not in kinds:
        raise TokenizerError(f"tokenizer.model is of the unknown type {model_type}", HINT)
    out = Tokenizer(kinds[model_type], [_piece_text(p, surface) for p in pieces])
    out.flags = TokFlag.ESCAPE | TokFlag.FUSE_UNK | TokFlag.FUSE_WORDS | TokFlag.PREFIX_ONCE | TokFlag.FFFD_PER_BYTE
    by_text: dict[str, int] = {}
    for i, piece in enumerate(pieces):
        _add_piece(out, i, piece, by_text)
    out.findable = sorted(by_text.values())
    if out.kind is TokKind.BPE:
        _add_merges(out, pieces, by_text)
    elif out.kind is TokKind.UNIGRAM:
        normal = [p.score for p in pieces if p.type == NORMAL]
        low, high = min(normal, default=0.0), max(normal, default=0.0)
        out.scores = [len(p.text.encode()) * high - 0.1 if p.type == USER_DEFINED else p.score for p in pieces]
        out.unk_score = _float32(low - UNK_PENALTY)
    if model_type == _CHAR:
        out.splits = (TokSplit.CHARACTER,)
    elif model_type == _WORD or not has_inner_space(out):
        out.splits = (TokSplit.SPACE,)
    return out


def _float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _piece_text(piece: Piece, surface: bytes) -> bytes:
    if piece.type == UNKNOWN:
        return surface
    byte = byte_piece(piece.text)
    if piece.type == BYTE and byte is not None:
        return bytes([byte])
    return piece.text.replace(MARK, " ").encode()


def _add_piece(out: Tokenizer, i: int, piece: Piece, by_text: dict[str, int]) -> None:
    """Sort one piece into what encoding finds, specials and byte pieces."""
    if piece.type in (NORMAL, USER_DEFINED):
        if not piece.text or piece.text in by_text:
            raise TokenizerError(f"piece {i} of the vocabulary is empty or stands there twice: {piece.text!r}", HINT)
        if " " not in piece.text:
            by_text[piece.text] = i
    if piece.type == USER_DEFINED:
        if MARK in piece.text or " " in piece.text:
            raise TokenizerError(
                f"the user-defined piece {piece.text!r} has a space, which the runtime does not do", HINT
            )
        out.specials.append(Special(i, piece.text.encode(), TokSpecialFlag.INSIDE))
        out.flags |= TokFlag.INSIDE
    elif piece.type == CONTROL and piece.text:
        out.specials.append(Special(i, piece.text.encode()))
    elif piece.type == UNKNOWN:
        out.unk = i
    elif piece.type == BYTE:
        byte = byte_piece(piece.text)
        if byte is None:
            raise TokenizerError(f"piece {i} is marked as a byte but written {piece.text!r}", HINT)
        out.alphabet = out.alphabet or [None] * 256
        out.alphabet[byte] = i
        out.flags |= TokFlag.BYTE_FALLBACK


def _add_merges(out: Tokenizer, pieces: list[Piece], by_text: dict[str, int]) -> None:
    """Every way to put a piece together from two symbols; the better score merges first."""
    if any(p.type == UNUSED for p in pieces):
        raise TokenizerError("tokenizer.model is BPE with unused pieces, which the runtime does not do", HINT)
    normal = {text: i for text, i in by_text.items() if pieces[i].type == NORMAL}
    symbols = dict(normal)
    for ch in sorted({ch for text in normal for ch in text} - set(normal)):
        symbols[ch] = len(pieces) + len(out.symbols)
        out.symbols.append(ch.replace(MARK, " ").encode())
    out.findable += range(len(pieces), len(pieces) + len(out.symbols))
    ranks = {score: rank for rank, score in enumerate(sorted({pieces[i].score for i in normal.values()}, reverse=True))}
    for text, i in normal.items():
        for cut in range(1, len(text)):
            left, right = symbols.get(text[:cut]), symbols.get(text[cut:])
            if left is not None and right is not None:
                out.merges.append(Merge(left, right, i, ranks[pieces[i].score]))
    out.merges.sort(key=lambda m: m.rank)
