"""The smallest deterministic byte automaton of an expression: Thompson, subsets, Moore.

Every state of the result can still reach an accepted text, so "there is an edge" is the same as "this byte may stand
here".
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import GrammarError
from .nodes import Alt, Node, Ranges, Repeat, Seq

MAX_NFA = 50_000
MAX_DFA = 5_000


@dataclass(frozen=True)
class Automaton:
    """States are numbers, 0 is the start.

    Attributes:
        edges: for each state (low, high, target) in rising order, ranges of bytes that do not overlap.
        accepts: for each state whether the text may end there.
    """

    edges: tuple[tuple[tuple[int, int, int], ...], ...]
    accepts: tuple[bool, ...]

    def matches(self, data: bytes) -> bool:
        """Whether the whole of `data` is accepted."""
        state = 0
        for byte in data:
            target = next((t for low, high, t in self.edges[state] if low <= byte <= high), None)
            if target is None:
                return False
            state = target
        return self.accepts[state]


class _Nfa:
    """Thompson's construction: byte edges and empty edges."""

    def __init__(self) -> None:
        self.bytes: list[list[tuple[int, int, int]]] = []
        self.empty: list[list[int]] = []

    def state(self) -> int:
        if len(self.bytes) >= MAX_NFA:
            raise GrammarError("the grammar is too large", "use smaller repetition counts or fewer alternatives")
        self.bytes.append([])
        self.empty.append([])
        return len(self.bytes) - 1

    def add(self, node: Node, start: int) -> int:
        """Adds `node` behind `start`; returns the state after it."""
        if isinstance(node, Ranges):
            end = self.state()
            self.bytes[start] += [(low, high, end) for low, high in node.ranges]
            return end
        if isinstance(node, Seq):
            for part in node.parts:
                start = self.add(part, start)
            return start
        if isinstance(node, Alt):
            end = self.state()
            for choice in node.choices:
                begin = self.state()
                self.empty[start].append(begin)
                self.empty[self.add(choice, begin)].append(end)
            return end
        return self._repeat(node, start)

    def _repeat(self, node: Repeat, start: int) -> int:
        for _ in range(node.least):
            start = self.add(node.node, start)
        end = self.state()
        self.empty[start].append(end)
        if node.most is None:
            begin = self.state()
            self.empty[start].append(begin)
            self.empty[self.add(node.node, begin)] += [begin, end]
            return end
        for _ in range(node.most - node.least):
            begin = self.state()
            self.empty[start].append(begin)
            start = self.add(node.node, begin)
            self.empty[start].append(end)
        return end

    def closure(self, states: set[int]) -> frozenset[int]:
        found, pending = set(states), list(states)
        while pending:
            for target in self.empty[pending.pop()]:
                if target not in found:
                    found.add(target)
                    pending.append(target)
        return frozenset(found)


Moves = list[list[tuple[int, int, int]]]


def compile_node(node: Node) -> Automaton:
    """The smallest automaton of `node`. Raises `GrammarError` when it is too large."""
    nfa = _Nfa()
    start = nfa.state()
    end = nfa.add(node, start)
    moves, accepts = _subsets(nfa, start, end)
    return _minimal(moves, accepts)


def _subsets(nfa: _Nfa, start: int, end: int) -> tuple[Moves, list[bool]]:
    """Deterministic moves by sets of states. Every state of Thompson's automaton leads to its end, so all are alive."""
    first = nfa.closure({start})
    number, sets = {first: 0}, [first]
    moves: Moves = []
    while len(moves) < len(sets):
        found = [edge for s in sets[len(moves)] for edge in nfa.bytes[s]]
        row: list[tuple[int, int, int]] = []
        for low, high in _pieces(found):
            target = nfa.closure({t for a, b, t in found if a <= low and high <= b})
            if target not in number:
                if len(sets) >= MAX_DFA:
                    raise GrammarError("the grammar is too large", "use smaller repetition counts")
                number[target] = len(sets)
                sets.append(target)
            row.append((low, high, number[target]))
        moves.append(row)
    return moves, [end in s for s in sets]


def _pieces(edges: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """The ranges that all of `edges` cut the covered bytes into."""
    cuts = sorted({low for low, _, _ in edges} | {high + 1 for _, high, _ in edges})
    pairs = zip(cuts, cuts[1:], strict=False)
    return [(a, b - 1) for a, b in pairs if any(low <= a and b - 1 <= high for low, high, _ in edges)]


def _joined(row: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Neighbouring ranges with one target as one."""
    out: list[tuple[int, int, int]] = []
    for low, high, target in row:
        if out and out[-1][1] + 1 == low and out[-1][2] == target:
            out[-1] = (out[-1][0], high, target)
        else:
            out.append((low, high, target))
    return tuple(out)


def _longest(moves: Moves) -> list[int]:
    """For each state how many bytes may follow at most; -1 where there is no end to it."""
    after: list[set[int]] = [{t for _, _, t in row} for row in moves]
    before: list[list[int]] = [[] for _ in moves]
    for state, targets in enumerate(after):
        for target in targets:
            before[target].append(state)
    open_ = [len(targets) for targets in after]
    longest = [-1] * len(moves)
    ready = [state for state, count in enumerate(open_) if count == 0]
    for state in ready:
        longest[state] = 1 + max((longest[t] for t in after[state]), default=-1)
        for earlier in before[state]:
            open_[earlier] -= 1
            if open_[earlier] == 0:
                ready.append(earlier)
    return longest


def _minimal(moves: Moves, accepts: list[bool]) -> Automaton:
    """Moore: states are told apart until nothing more tells them apart.

    States that differ in `_longest` do: to begin with that spares long texts a round for each of their bytes.
    """
    block = [2 * n + a for n, a in zip(_longest(moves), accepts, strict=True)]
    count = len(set(block))
    while True:
        signs = [(block[s], _joined([(a, b, block[t]) for a, b, t in row])) for s, row in enumerate(moves)]
        names: dict[object, int] = {}
        block = [names.setdefault(sign, len(names)) for sign in signs]
        if len(names) == count:
            break
        count = len(names)
    edges: dict[int, tuple[tuple[int, int, int], ...]] = {}
    final = [False] * count
    for s, row in enumerate(moves):
        edges[block[s]] = _joined([(a, b, block[t]) for a, b, t in row])
        final[block[s]] = accepts[s]
    return Automaton(tuple(edges[b] for b in range(count)), tuple(final))
