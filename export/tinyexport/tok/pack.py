"""A `Tokenizer` as the bytes of the TOKENIZER section (`blob/schema_tok.py`)."""

from __future__ import annotations

import struct

import numpy as np

from ..blob.schema import NO_TOKEN
from ..blob.schema_tok import MAX_MERGE_DEPTH, MAX_SPLITS, TOK, TOK_SPECIAL, TokFlag, TokKind, TokSpecialFlag
from ..errors import TokenizerError
from . import charmap
from .model import Merge, Special, Tokenizer, check

MAX_ORPHANS = 64  # pieces without a merge that a derived section stores one by one


class _Section:
    """The record and the tables behind it."""

    def __init__(self, index_bytes: int) -> None:
        self.index = np.dtype(f"<u{index_bytes}")
        self.body = bytearray()
        self.fields: dict[str, int] = {}

    def at(self, align: int = 4) -> int:
        self.body += bytes(-len(self.body) % align)
        return TOK.size + len(self.body)

    def add(self, name: str, data: bytes, align: int = 4) -> None:
        self.fields[name] = self.at(align)
        self.body += data

    def add_index(self, name: str, values: list[int]) -> None:
        self.add(name, np.asarray(values, np.int64).astype(self.index).tobytes())


def makers(tokenizer: Tokenizer) -> dict[int, Merge]:
    """The first merge that makes each symbol."""
    out: dict[int, Merge] = {}
    for merge in tokenizer.merges:
        out.setdefault(merge.result, merge)
    return out


def derivable(tokenizer: Tokenizer) -> list[int] | None:
    """Ids to store one by one when all other pieces follow from merges; None when they do not."""
    if not tokenizer.flags & TokFlag.BYTES or tokenizer.flags & TokFlag.WORD_FIRST or tokenizer.alphabet is None:
        return None
    if tokenizer.symbols or any(m.left >= m.result or m.right >= m.result for m in tokenizer.merges):
        return None
    letters = {symbol: bytes([byte]) for byte, symbol in enumerate(tokenizer.alphabet) if symbol is not None}
    made = makers(tokenizer)
    text: dict[int, bytes] = {}
    depth: dict[int, int] = {}
    special = {s.id for s in tokenizer.specials}
    orphans = []
    for i, piece in enumerate(tokenizer.pieces):
        merge = made.get(i)
        if merge is not None:  # the runtime walks left parts down and keeps right ones for later
            text[i] = text.get(merge.left, b"") + text.get(merge.right, b"")
            depth[i] = max(depth.get(merge.left, 0) + 1, depth.get(merge.right, 0))
            if text[i] != piece or depth[i] > MAX_MERGE_DEPTH or i in letters:
                return None
        elif i in letters:
            text[i] = letters[i]
        elif piece and i not in special:
            orphans.append(i)
    return orphans if len(orphans) <= MAX_ORPHANS else None


def _rank_is_result(merges: list[Merge]) -> bool:
    """Whether results order the merges as their ranks do."""
    pairs = sorted({(m.rank, m.result) for m in merges})
    return all(a[0] < b[0] and a[1] < b[1] for a, b in zip(pairs, pairs[1:], strict=False))


def _add_merges(section: _Section, tokenizer: Tokenizer, n_symbols: int) -> list[Merge]:
    merges = sorted(tokenizer.merges, key=lambda m: (m.left, m.right))
    section.fields["n_merges"] = len(merges)
    if merges:
        counts = np.bincount([m.left for m in merges], minlength=n_symbols)
        section.add_index("left_at", [0, *np.cumsum(counts).tolist()])
        section.add_index("pairs_at", [value for m in merges for value in (m.right, m.result)])
        if not _rank_is_result(merges):
            section.add_index("rank_at", [m.rank for m in merges])
    return merges


def _add_derived(section: _Section, tokenizer: Tokenizer, merges: list[Merge]) -> None:
    alphabet = tokenizer.alphabet or []
    symbols = [NO_TOKEN if s is None else s for s in alphabet]
    section.add("letters_at", bytes(sorted(range(256), key=lambda byte: symbols[byte])))
    first = min((m.result for m in merges), default=0)
    last = max((m.result for m in merges), default=-1)
    chosen = {m.result: m for m in reversed(tokenizer.merges)}
    number = {(m.left, m.right): i for i, m in enumerate(merges)}
    made = [number[chosen[i].left, chosen[i].right] if i in chosen else len(merges) for i in range(first, last + 1)]
    section.fields |= {"first_made": first, "n_made": len(made)}
    section.add_index("made_at", made)


def _add_text(section: _Section, texts: list[bytes], findable: list[int]) -> None:
    text = b"".join(texts)
    ends = np.cumsum([len(t) for t in texts])
    section.add("text_at", text, 1)
    section.fields["text_bytes"] = len(text)
    section.add("ends_at", ends.astype("<u2" if len(text) <= 0xFFFF else "<u4").tobytes())
    order = sorted(findable, key=lambda s: texts[s])
    section.fields |= {"n_sorted": len(order), "max_piece": max((len(texts[s]) for s in order), default=0)}
    section.add_index("sorted_at", order)


def _add_specials(section: _Section, specials: list[Special]) -> None:
    specials = sorted(specials, key=lambda s: s.id)
    texts = b"".join(s.text for s in specials)
    at = section.at() + TOK_SPECIAL.size * len(specials)
    records = bytearray()
    for s in specials:
        records += TOK_SPECIAL.pack({"id": s.id, "text_at": at, "text_bytes": len(s.text), "flags": int(s.flags)})
        at += len(s.text)
    section.fields["n_special"] = len(specials)
    section.add("special_at", bytes(records) + texts)


def pack(tokenizer: Tokenizer) -> bytes:
    """The section; TokenizerError when the tokenizer does not fit the format."""
    check(tokenizer)
    orphans = derivable(tokenizer)
    flags = tokenizer.flags | (TokFlag.DERIVED if orphans is not None else TokFlag(0))
    n_symbols = tokenizer.vocab_size + len(tokenizer.symbols)
    largest = max(n_symbols, len(tokenizer.merges)) + 1  # all ones is "none"
    section = _Section(1 if largest < 0x100 else 2 if largest < 0x10000 else 4)
    specials = [s for s in tokenizer.specials if s.text]
    if orphans is not None:
        specials += [Special(i, tokenizer.pieces[i], TokSpecialFlag(0)) for i in orphans]
    if specials:
        _add_specials(section, specials)
    if tokenizer.alphabet is not None:
        none = int(np.iinfo(section.index).max)
        section.add_index("alphabet_at", [none if s is None else s for s in tokenizer.alphabet])
    if tokenizer.kind is TokKind.BPE:
        merges = _add_merges(section, tokenizer, n_symbols)
        if orphans is not None:
            _add_derived(section, tokenizer, merges)
    if orphans is None:
        _add_text(section, [*tokenizer.pieces, *tokenizer.symbols], tokenizer.findable)
    if tokenizer.kind is TokKind.UNIGRAM:
        width = "d" if flags & TokFlag.DOUBLE else "f"
        scores = [*tokenizer.scores, tokenizer.unk_score]
        section.add("scores_at", struct.pack(f"<{len(scores)}{width}", *scores))
    table = charmap.compile_map(tokenizer)
    if table:
        section.add("map_at", table)
        section.fields["map_bytes"] = len(table)
    if len(tokenizer.splits) > MAX_SPLITS:
        raise TokenizerError(
            f"the pre-tokeniser has {len(tokenizer.splits)} steps, the runtime holds {MAX_SPLITS}",
            "simplify the pre_tokenizer of tokenizer.json",
        )
    record = dict.fromkeys((f.name for f in TOK.fields), 0) | section.fields
    return TOK.pack(
        record
        | {
            "kind": int(tokenizer.kind),
            "index_bytes": section.index.itemsize,
            "prefix": int(tokenizer.prefix),
            "n_splits": len(tokenizer.splits),
            "splits": (*(int(s) for s in tokenizer.splits), *(0,) * (MAX_SPLITS - len(tokenizer.splits))),
            "flags": int(flags),
            "n_pieces": tokenizer.vocab_size,
            "n_symbols": n_symbols,
            "bos": NO_TOKEN if tokenizer.bos is None else tokenizer.bos,
            "eos": NO_TOKEN if tokenizer.eos is None else tokenizer.eos,
            "unk": NO_TOKEN if tokenizer.unk is None else tokenizer.unk,
        }
    ) + bytes(section.body)
