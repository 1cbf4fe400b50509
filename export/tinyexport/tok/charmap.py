"""The normaliser's character map as bytes, cut to what a vocabulary can reach.

Format (numbers are LEB128 varints where not said otherwise), read by runtime_c/src/tlm_tok_map.c:

    u32 flags (1 = Hangul), n_runs, run_bytes, n_marks, pair_bytes
    index: for every 32nd run u32 end of the run before it, u32 offset
    runs:  gap from the end of the run before; head; head bit 0 = 0: count = head >> 1, zigzag(target - first),
           rising with the characters; bit 0 = 1: all become the same, count = (head >> 4) + 1, length in
           bits 1-3 (7: 7 + a further number), bytes
    pairs: by second character << 2 | rule: gap, bytes that follow, what all become or 0; entries: gap of the
           first character (after `runs`), then what they become where it is not the same for all.
           rule 0: a character of the text and the next; rule 1: what rule 0 or 1 made, and the next;
           rule 2: not for this first character (as it stands), although rule 0 says so; rule 3: nor rule 1
           in a sequence that starts with it and became what the entry says
"""

from __future__ import annotations

import struct
from collections import defaultdict

from ..blob.schema_tok import TokFlag
from ..errors import TokenizerError
from .charfacts import MAX_VALUE, Facts
from .model import MARK, Tokenizer

INDEX_STEP = 32
HANGUL = 1


# ---- what a vocabulary can reach ---------------------------------------------------------------------


def alphabet_of(tokenizer: Tokenizer) -> set[str]:
    """Characters of the pieces that encoding can find, with the mark and the space as one."""
    texts = [tokenizer.text_of(s).decode("utf-8", "ignore") for s in tokenizer.findable]
    texts += [s.text.decode("utf-8", "ignore") for s in tokenizer.specials]
    return {ch for text in texts for ch in text} | {" ", MARK}


def reach(facts: Facts, alphabet: set[str]) -> Facts:
    """The part that matters when characters outside `alphabet` are all unknown and runs of them are one.

    An unknown character may stand for another unknown one, and a sequence of them for a shorter one.
    """
    needed = set(alphabet)
    everything = [*facts.pairs.items(), *facts.again.items()]
    before = -1
    while before != len(needed):  # parts of what composes to something needed are needed
        before = len(needed)
        for (first, second), value in everything:
            if value in needed:
                needed |= {first, second}
        if facts.hangul and any("가" <= ch <= "힣" for ch in needed):
            needed |= {chr(c) for c in (*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
            needed |= {chr(c) for c in range(0xAC00, 0xD7A4, 28)}
    kept = {pair: value for pair, value in facts.pairs.items() if {*pair, value} & needed}
    kept_again = {pair: value for pair, value in facts.again.items() if {*pair, value} & needed}
    useful = needed | {ch for pair in (*kept, *kept_again) for ch in pair}
    unknown = next(chr(c) for c in range(1, 0x110000) if chr(c) not in useful and chr(c) not in facts.single.values())
    single = {}
    for ch, value in facts.single.items():
        if ch in useful or value == "" or any(v in useful for v in value):
            single[ch] = value if len(value) == 1 else "".join(v if v in useful else unknown for v in value)
    pairs = {pair: value if value in useful else unknown for pair, value in kept.items()}
    again = {pair: value if value in useful else unknown for pair, value in kept_again.items()}
    hangul = facts.hangul and "\u1100" in needed
    never = {entry for entry in facts.never if (entry[2], entry[1]) in pairs}
    never_again = {entry for entry in facts.never_again if (entry[2], entry[1]) in again}
    return Facts(_with_runs(single, facts.single), pairs, hangul, again, never, never_again)


def _with_runs(single: dict[str, str], everything: dict[str, str]) -> dict[str, str]:
    """Also what lies between two kept characters of one run: it costs nothing and joins them."""
    out = dict(single)
    gap: list[str] = []
    last = None  # (code, shift) of the last kept character of the run
    for code in sorted(ord(ch) for ch in everything if len(everything[ch]) == 1):
        ch, shift = chr(code), ord(everything[chr(code)]) - code
        if last is None or last[1] != shift or code != last[0] + len(gap) + 1:
            gap, last = [], None
        if ch in single:
            out.update({g: everything[g] for g in gap})
            gap, last = [], (code, shift)
        elif last is not None:
            gap.append(ch)
    return out


# ---- packing -----------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _runs(single: dict[str, str]) -> list[tuple[int, int, str, bool]]:
    """First character, count, what it becomes, and whether all become the same."""
    out: list[tuple[int, int, str, bool]] = []
    for code in sorted(map(ord, single)):
        value = single[chr(code)]
        first, count, start, same = out[-1] if out else (-1, 0, "", False)
        if first + count == code:
            if len(value) == len(start) == 1 and (not same or count == 1) and ord(value) == ord(start) + count:
                out[-1] = (first, count + 1, start, False)
                continue
            if value == start and (same or count == 1):
                out[-1] = (first, count + 1, start, True)
                continue
        out.append((code, 1, value, len(value) != 1))
    return out


def pack_facts(facts: Facts) -> bytes:
    """The bytes of the section's map; b"" when there is nothing to do."""
    if not facts.single and not facts.pairs and not facts.again and not facts.hangul:
        return b""
    index, body, end = bytearray(), bytearray(), 0
    runs = _runs(facts.single)
    for i, (first, count, value, same) in enumerate(runs):
        if i % INDEX_STEP == 0:
            index += struct.pack("<II", end, len(body))
        text = value.encode()
        if len(text) > MAX_VALUE:
            raise TokenizerError(
                f"the normaliser turns one character into {len(text)} bytes", "train it with another normalisation rule"
            )
        body += _varint(first - end)
        if same:
            body += _varint((count - 1) << 4 | min(len(text), 7) << 1 | 1)
            body += (_varint(len(text) - 7) if len(text) >= 7 else b"") + text
        else:
            shift = ord(value) - first
            body += _varint(count << 1) + _varint(shift << 1 if shift >= 0 else (-shift << 1) - 1)
        end = first + count
    by_mark: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for rule, pairs_of in enumerate((facts.pairs, facts.again)):
        for (first_ch, second_ch), joined in pairs_of.items():
            by_mark[ord(second_ch) << 2 | rule].append((ord(first_ch), ord(joined)))
    for rule, never in ((2, facts.never), (3, facts.never_again)):
        for start, second_ch, became in never:
            by_mark[ord(second_ch) << 2 | rule].append((ord(start), ord(became)))
    pairs, last_mark = bytearray(), 0
    for mark in sorted(by_mark):
        results = {result for _, result in by_mark[mark]}
        common = results.pop() if len(results) == 1 else 0
        entries, last = bytearray(_varint(common)), 0
        for code, result in sorted(by_mark[mark]):
            entries += _varint(code - last) + (b"" if common else _varint(result))
            last = code
        pairs += _varint(mark - last_mark) + _varint(len(entries)) + entries
        last_mark = mark
    head = struct.pack("<IIIII", HANGUL * facts.hangul, len(runs), len(body), len(by_mark), len(pairs))
    return head + bytes(index) + bytes(body) + bytes(pairs)


def compile_map(tokenizer: Tokenizer) -> bytes:
    """The character map of a tokenizer, cut to what its vocabulary can reach where that is exact."""
    facts = tokenizer.charmap
    one_unknown = TokFlag.FUSE_UNK | TokFlag.FUSE_WORDS
    if (
        tokenizer.unk is not None
        and tokenizer.flags & one_unknown == one_unknown
        and not tokenizer.flags & TokFlag.BYTE_FALLBACK
    ):
        facts = reach(facts, alphabet_of(tokenizer))
    return pack_facts(facts)
