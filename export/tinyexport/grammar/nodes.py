"""Expressions over bytes: what both front ends build and the automaton is made of."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import GrammarError

MAX_REPEAT = 1000

#: Well-formed UTF-8 beyond ASCII, as sequences of byte ranges (Unicode, table 3-7).
BEYOND_ASCII: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0xC2, 0xDF), (0x80, 0xBF)),
    ((0xE0, 0xE0), (0xA0, 0xBF), (0x80, 0xBF)),
    ((0xE1, 0xEC), (0x80, 0xBF), (0x80, 0xBF)),
    ((0xED, 0xED), (0x80, 0x9F), (0x80, 0xBF)),
    ((0xEE, 0xEF), (0x80, 0xBF), (0x80, 0xBF)),
    ((0xF0, 0xF0), (0x90, 0xBF), (0x80, 0xBF), (0x80, 0xBF)),
    ((0xF1, 0xF3), (0x80, 0xBF), (0x80, 0xBF), (0x80, 0xBF)),
    ((0xF4, 0xF4), (0x80, 0x8F), (0x80, 0xBF), (0x80, 0xBF)),
)


@dataclass(frozen=True)
class Ranges:
    """One byte out of inclusive ranges."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Seq:
    """One after the other; none of them: the empty text."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Alt:
    """One of them; there is at least one."""

    choices: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """`least` to `most` times; `most` None: without end."""

    node: Node
    least: int
    most: int | None

    def __post_init__(self) -> None:
        """Refuses counts that make no sense or no small automaton."""
        if not 0 <= self.least <= MAX_REPEAT or (self.most is not None and not self.least <= self.most <= MAX_REPEAT):
            raise GrammarError(
                f"a repetition from {self.least} to {self.most} times is not possible",
                f"the first number is at most the second, and both at most {MAX_REPEAT}",
            )


Node = Ranges | Seq | Alt | Repeat


def literal(text: str) -> Node:
    """Exactly this text."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise GrammarError("a text holds half a surrogate pair", "write whole characters") from None
    return Seq(tuple(Ranges(((b, b),)) for b in data))


def any_of(texts: list[str]) -> Node:
    """One of these texts."""
    return Alt(tuple(literal(t) for t in texts))


def characters(ascii_codes: set[int], others: set[str], all_others: bool) -> Node:
    """One character: of the ASCII codes, of other characters, or any character beyond ASCII."""
    choices: list[Node] = []
    codes = sorted(ascii_codes)
    if codes:
        starts = [c for c in codes if c - 1 not in ascii_codes]
        ends = [c for c in codes if c + 1 not in ascii_codes]
        choices.append(Ranges(tuple(zip(starts, ends, strict=True))))
    if all_others:
        choices += [Seq(tuple(Ranges((r,)) for r in sequence)) for sequence in BEYOND_ASCII]
    else:
        choices += [literal(c) for c in sorted(others)]
    if not choices:
        raise GrammarError("a set of characters is empty", "put at least one character between [ and ]")
    return Alt(tuple(choices))


def optional(node: Node) -> Node:
    """Once or not at all."""
    return Repeat(node, 0, 1)
