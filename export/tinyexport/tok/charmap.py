"""The normaliser's character map: read from a sentencepiece model, cut to what a vocabulary can reach, packed.

sentencepiece ships normalisers as a trie of character sequences (nmt_nfkc: 225,276 of them, 240 KB). They
follow from far fewer facts: what one character becomes, which two characters compose, and the arithmetic
of Hangul. `factor` finds these facts and proves, sequence by sequence, that nothing is lost.

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
from dataclasses import dataclass, field

import numpy as np

from ..blob.schema_tok import TokFlag
from ..errors import TokenizerError
from .model import MARK, Tokenizer

MAX_VALUE = 64  # bytes, TLM_TOK_MAP_VALUE
INDEX_STEP = 32
HANGUL = 1
_HINT = "train the tokenizer with nmt_nfkc, nfkc, their _cf forms or identity"


# ---- reading the trie --------------------------------------------------------------------------------


def read_darts(data: bytes) -> dict[str, str]:
    """Every sequence of a precompiled_charsmap and what it becomes; ValueError when it is damaged."""
    if len(data) < 4:
        raise ValueError("the character map is cut off")
    (size,) = struct.unpack_from("<I", data)
    if size % 4 or 4 + size > len(data) or size == 0:
        raise ValueError("the character map is cut off")
    units = np.frombuffer(data, "<u4", size // 4, 4).astype(np.int64)
    texts = data[4 + size :]
    index = np.arange(len(units))
    base = (index ^ ((units >> 10) << ((units & 0x200) >> 6))).tolist()
    leaf = ((units >> 8) & 1).tolist()
    children: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for unit, label in enumerate((units & 0x800000FF).tolist()):
        if 0 < label < 256:
            children[unit ^ label].append((unit, label))
    out: dict[str, str] = {}
    todo: list[tuple[int, bytes]] = [(0, b"")]
    while todo:
        node, key = todo.pop()
        if len(key) > MAX_VALUE or len(out) > 1 << 20:
            raise ValueError("the character map does not end")
        if leaf[node] and key:
            at = int(units[base[node]]) & 0x7FFFFFFF if base[node] < len(units) else len(texts)
            out[key.decode("utf-8")] = texts[at : texts.index(b"\0", at)].decode("utf-8")
        todo += [(child, key + bytes([label])) for child, label in children.get(base[node], ())]
    return out


# ---- the facts behind it -----------------------------------------------------------------------------


@dataclass
class Facts:
    """What a map follows from."""

    single: dict[str, str] = field(default_factory=dict)
    pairs: dict[tuple[str, str], str] = field(default_factory=dict)  # the first after `single`, the second as it stands
    hangul: bool = False
    again: dict[tuple[str, str], str] = field(default_factory=dict)  # the same for what a pair became
    never: set[tuple[str, str, str]] = field(default_factory=set)  # exceptions: start, second, what it became
    never_again: set[tuple[str, str, str]] = field(default_factory=set)  # the same for `again`

    def apply(self, text: str) -> tuple[str, int]:
        """What the start of `text` becomes, and how many characters that takes."""
        value = self.single.get(text[0], text[0])
        taken = 1
        while taken < len(text) and len(value) == 1:
            joined = (self.again if taken > 1 else self.pairs).get((value, text[taken]))
            second = self.single.get(text[taken], text[taken])
            if joined is None and self.hangul and len(second) == 1:
                joined = compose_hangul(value, second, taken > 1)
            never = self.never_again if taken > 1 else self.never
            if joined is None or (text[0], text[taken], value) in never:
                break
            value, taken = joined, taken + 1
        return value, taken


def compose_hangul(first: str, second: str, again: bool) -> str | None:
    """The syllable of a leading consonant and a vowel; `again`: of such a syllable and a trailing consonant."""
    a, b = ord(first), ord(second)
    if not again and 0x1100 <= a < 0x1113 and 0x1161 <= b < 0x1176:
        return chr(0xAC00 + ((a - 0x1100) * 21 + b - 0x1161) * 28)
    if again and 0xAC00 <= a < 0xD7A4 and (a - 0xAC00) % 28 == 0 and 0x11A8 <= b < 0x11C3:
        return chr(a + b - 0x11A7)
    return None


def factor(table: dict[str, str]) -> Facts:
    """The facts that give exactly `table`; TokenizerError when there are none."""
    facts = Facts({k: v for k, v in table.items() if len(k) == 1})
    syllables = 0
    for key in sorted((k for k in table if len(k) > 1), key=len):
        again = len(key) > 2
        first = table.get(key[:-1], "") if again else facts.single.get(key[0], key[0])
        if len(first) != 1 or len(table[key]) != 1:
            raise TokenizerError(f"the normaliser maps {key!r} in a way that the runtime does not do", _HINT)
        (facts.again if again else facts.pairs)[first, key[-1]] = table[key]
    _take_hangul(facts)
    _prove(facts, table)
    return facts


def _take_hangul(facts: Facts) -> None:
    """Leave Hangul to arithmetic when all of its 11,172 syllables compose."""
    made = []
    for pairs, again in ((facts.pairs, False), (facts.again, True)):
        by_rule = {p for p in pairs if _syllable(facts, *p, again) == pairs[p]}
        made.append((pairs, by_rule, {pairs[p] for p in by_rule}))
    facts.hangul = sum(len(values) for _, _, values in made) == 11172
    if facts.hangul:
        for pairs, by_rule, _ in made:
            for pair in by_rule:
                del pairs[pair]


def _syllable(facts: Facts, first: str, second: str, again: bool) -> str | None:
    second = facts.single.get(second, second)
    return compose_hangul(first, second, again) if len(second) == 1 else None


def _prove(facts: Facts, table: dict[str, str]) -> None:
    """That the facts give every sequence of the table, and with the exceptions noted here no other."""
    for pairs, again in ((facts.pairs, False), (facts.again, True)):
        seconds = defaultdict(set)
        for first, second in pairs:
            seconds[first].add(second)
        starts = [(key, value) for key, value in table.items() if len(value) == 1 and (len(key) > 1) == again]
        starts += [] if again else [(first, first) for first in seconds if first not in facts.single]
        for key, value in starts:
            for ch in seconds.get(value, ()):
                if key + ch not in table:
                    (facts.never_again if again else facts.never).add((key[0], ch, value))
    for key, value in table.items():
        if facts.apply(key) != (value, len(key)):
            raise TokenizerError(f"the normaliser maps {key!r} in a way that the runtime does not do", _HINT)


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
            raise TokenizerError(f"the normaliser turns one character into {len(text)} bytes", _HINT)
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
    if not tokenizer.charmap:
        return b""
    facts = factor(tokenizer.charmap)
    one_unknown = TokFlag.FUSE_UNK | TokFlag.FUSE_WORDS
    if (
        tokenizer.unk is not None
        and tokenizer.flags & one_unknown == one_unknown
        and not tokenizer.flags & TokFlag.BYTE_FALLBACK
    ):
        facts = reach(facts, alphabet_of(tokenizer))
    return pack_facts(facts)
