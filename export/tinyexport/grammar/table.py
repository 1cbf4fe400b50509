"""The bytes of an automaton as firmware/app/grammar.c walks them.

Byte 0 is the version, 1. States follow, the start first; a state is named by its offset. Its first byte, `head`:

- bit 7: the text may end here
- bit 6: a chain: one byte follows, which leads to the state that comes next in the table
- else bits 0-5: number of edges; each is low u8, high u8, target u16 (little-endian), in rising order
"""

from __future__ import annotations

import struct

from ..errors import GrammarError
from .automaton import Automaton

VERSION = 1
ACCEPT, CHAIN, MAX_EDGES = 0x80, 0x40, 0x3F
MAX_BYTES = 1800  # what a request holds besides a short text


def pack(automaton: Automaton) -> bytes:
    """The table. Raises `GrammarError` when it is larger than a request may carry."""
    order = _order(automaton)
    follows = {state: order[i + 1] if i + 1 < len(order) else -1 for i, state in enumerate(order)}
    chained = {s for s in order if _is_chain(automaton.edges[s]) and automaton.edges[s][0][2] == follows[s]}
    at, offset = 1, {}
    for state in order:
        offset[state] = at
        at += 2 if state in chained else 1 + 4 * len(automaton.edges[state])
    if at > MAX_BYTES:
        raise GrammarError(
            f"the grammar takes {at} bytes, a request holds {MAX_BYTES}", "use fewer alternatives or shorter slots"
        )
    out = bytearray([VERSION])
    for state in order:
        edges, head = automaton.edges[state], ACCEPT if automaton.accepts[state] else 0
        if state in chained:
            out += bytes([head | CHAIN, edges[0][0]])
            continue
        if len(edges) > MAX_EDGES:
            raise GrammarError("too many different bytes may stand in one place", "use ranges such as [a-z]")
        out.append(head | len(edges))
        for low, high, target in edges:
            out += struct.pack("<BBH", low, high, offset[target])
    return bytes(out)


def _is_chain(edges: tuple[tuple[int, int, int], ...]) -> bool:
    return len(edges) == 1 and edges[0][0] == edges[0][1]


def _order(automaton: Automaton) -> list[int]:
    """All states from the start on, chains laid out one after the other."""
    order: list[int] = []
    seen: set[int] = set()
    pending = [0]
    while pending:
        state = pending.pop()
        while state not in seen:
            seen.add(state)
            order.append(state)
            edges = automaton.edges[state]
            if not _is_chain(edges):
                pending += [t for _, _, t in reversed(edges)]
                break
            state = edges[0][2]
    return order
