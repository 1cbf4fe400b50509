"""The TOKENIZER section of the blob format (see `schema.py` for the rules).

One `tok` record, then the tables of its kind. Offsets count from the start of the section; a table
that is absent has offset 0. "index" is an unsigned number of `index_bytes` bytes.
"""

from __future__ import annotations

import enum

from .schema import Field, Record

MAX_SPLITS = 4  # pre-tokeniser steps, each cutting what the one before left
MAX_MERGE_DEPTH = 64  # of a piece that follows from merges; deeper ones are stored as text


class TokKind(enum.IntEnum):
    """How a word becomes ids."""

    BPE = 0  # merges, lowest rank first, then leftmost
    UNIGRAM = 1  # the segmentation with the largest sum of scores (Viterbi)
    WORD = 2  # a word is a piece or unknown


class TokPrefix(enum.IntEnum):
    """The space put before a text (`TokFlag.PREFIX_ONCE`: before the first segment only)."""

    NONE = 0
    ALWAYS = 1
    IF_MISSING = 2  # unless the text starts with a space


class TokSplit(enum.IntEnum):
    """One step of the pre-tokeniser. Every step keeps all of the text, except the three that say "drops"."""

    GPT2 = 0  # 's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+
    GPT4 = 1  # the split of cl100k and llama 3, digits in groups of three
    GPT4_DIGIT = 2  # the same with single digits (qwen 2)
    SPACE = 3  # before every U+0020 (U+2581 under ESCAPE)
    DIGITS = 4  # runs of digits apart
    DIGIT = 5  # every digit apart
    PUNCTUATION = 6  # every punctuation character apart
    WORD = 7  # \\w+|[^\\w\\s]+, drops white space
    WHITESPACE = 8  # at white space, drops it
    DROP_SPACE = 9  # at U+0020, drops it
    CHARACTER = 10  # every character apart


class TokFlag(enum.IntFlag):
    """Settings of the section."""

    DERIVED = 1  # pieces follow from merges and the alphabet; there is no text table
    ESCAPE = 2  # U+2581 stands for a space: both are one byte 0x20 inside the section
    BYTE_FALLBACK = 4  # a character without a piece becomes its bytes by the alphabet
    FUSE_UNK = 8  # a run of unknown pieces is one
    FUSE_WORDS = 16  # FUSE_UNK also across words
    PREFIX_ONCE = 32
    TRIM = 64  # white space at both ends goes, runs of spaces become one
    STRIP_FIRST = 128  # decoding drops one leading space of the text
    JOIN_WORDS = 256  # decoding puts a space between pieces
    WORD_FIRST = 512  # a word that is a piece is not cut (ignore_merges)
    DOUBLE = 1024  # scores and their sums are f64, else f32 (BPE has none)
    BAD_IS_FFFD = 2048  # an invalid byte is read as U+FFFD (no way to keep it)
    FFFD_PER_BYTE = 4096  # decoding replaces each byte of a broken character, not the whole of it
    BYTES = 8192  # BPE starts from bytes, else from characters
    INSIDE = 16384  # some special pieces are `TokSpecialFlag.INSIDE`


class TokSpecialFlag(enum.IntFlag):
    """What a special piece does."""

    MATCH = 1  # its text in the input becomes its id under TLM_ENCODE_SPECIAL
    ALWAYS = 2  # its text in the input always becomes its id
    HIDDEN = 4  # decoding a text gives nothing for it
    LSTRIP = 8  # white space before a match belongs to it
    RSTRIP = 16  # white space after a match belongs to it
    INSIDE = 32  # matched in the normalised text, never normalised or merged (user defined)


TOK = Record(
    "tok",
    "First record of the TOKENIZER section.",
    (
        Field("kind", "u8", "`TokKind`"),
        Field("index_bytes", "u8", "1, 2 or 4"),
        Field("prefix", "u8", "`TokPrefix`"),
        Field("n_splits", "u8", "steps of the pre-tokeniser; 0 = a segment is one word"),
        Field("splits", "u8", "`TokSplit`, unused ones zero", MAX_SPLITS),
        Field("flags", "u32", "`TokFlag`"),
        Field("n_pieces", "u32", "ids 0..n_pieces-1"),
        Field("n_symbols", "u32", "pieces and, for BPE, characters that only merges know"),
        Field("bos", "u32", "id or NO_TOKEN"),
        Field("eos", "u32", "id or NO_TOKEN"),
        Field("unk", "u32", "id or NO_TOKEN: what has no piece is dropped"),
        Field("n_special", "u32", "number of special records"),
        Field("special_at", "u32", "`tok_special` records, ids ascending"),
        Field("text_at", "u32", "text of all symbols, one after the other; absent when DERIVED"),
        Field("text_bytes", "u32", "length of the text"),
        Field("ends_at", "u32", "u16 or u32 (when text_bytes > 65535) [n_symbols]: where each text ends"),
        Field("n_sorted", "u32", "symbols found by their text"),
        Field("sorted_at", "u32", "index [n_sorted]: symbols in order of their bytes"),
        Field("max_piece", "u32", "bytes of the longest of them"),
        Field("alphabet_at", "u32", "index [256]: symbol of each byte, all ones = none; or absent"),
        Field("n_merges", "u32", "merges, ordered by left, then right symbol"),
        Field("left_at", "u32", "index [n_symbols + 1]: first merge of each left symbol"),
        Field("pairs_at", "u32", "index [n_merges][2]: right symbol and result"),
        Field("rank_at", "u32", "index [n_merges]: rank; absent when the result orders the merges"),
        Field("first_made", "u32", "DERIVED: first symbol that a merge makes"),
        Field("n_made", "u32", "DERIVED: length of the next table"),
        Field("made_at", "u32", "DERIVED: index [n_made]: the merge that makes it, n_merges = none"),
        Field("letters_at", "u32", "DERIVED: u8 [256]: bytes in the order of their symbols"),
        Field("scores_at", "u32", "UNIGRAM: f32 or f64 [n_pieces + 1]; the last one is that of unknown characters"),
        Field("map_at", "u32", "character map of the normaliser"),
        Field("map_bytes", "u32", "its length"),
        Field("reserved", "u32", "zero"),
    ),
)

TOK_SPECIAL = Record(
    "tok_special",
    "A piece with a text of its own that merges and scores do not touch.",
    (
        Field("id", "u32", "below n_pieces"),
        Field("text_at", "u32", "UTF-8, not terminated"),
        Field("text_bytes", "u16", "1..MAX_SPECIAL_TEXT"),
        Field("flags", "u16", "`TokSpecialFlag`"),
    ),
)

MAX_SPECIAL_TEXT = 512  # TLM_MAX_PIECE

RECORDS: tuple[Record, ...] = (TOK, TOK_SPECIAL)
ENUMS: tuple[type[enum.IntEnum] | type[enum.IntFlag], ...] = (TokKind, TokPrefix, TokSplit, TokFlag, TokSpecialFlag)
CONSTANTS: dict[str, int] = {
    "MAX_SPLITS": MAX_SPLITS,
    "MAX_MERGE_DEPTH": MAX_MERGE_DEPTH,
    "MAX_SPECIAL_TEXT": MAX_SPECIAL_TEXT,
}
