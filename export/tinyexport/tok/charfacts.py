"""What a sentencepiece normaliser follows from.

sentencepiece ships normalisers as a trie of character sequences (nmt_nfkc: 225,276 of them, 240 KB). They
follow from far fewer facts: what one character becomes, which two characters compose, a few exceptions and
the arithmetic of Hangul. `factor` finds these facts and proves, sequence by sequence, that nothing is lost.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ..errors import TokenizerError

MAX_VALUE = 64  # bytes, TLM_TOK_MAP_VALUE
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


@lru_cache(maxsize=4)
def facts_of(charmap: bytes) -> Facts:
    """The facts behind a precompiled_charsmap; models share few of them, and each takes a second."""
    return factor(read_darts(charmap))


def factor(table: dict[str, str]) -> Facts:
    """The facts that give exactly `table`; TokenizerError when there are none."""
    facts = Facts({k: v for k, v in table.items() if len(k) == 1})
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
