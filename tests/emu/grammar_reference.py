"""What a grammar accepts, by Brzozowski's derivatives: no automaton, nothing of the compiler but its expressions."""

from __future__ import annotations

from functools import cache

from tinyexport.grammar.nodes import Alt, Node, Ranges, Repeat, Seq

EMPTY = Seq(())


@cache
def may_end(node: Node) -> bool:
    """Whether the empty text is accepted."""
    if isinstance(node, Ranges):
        return False
    if isinstance(node, Seq):
        return all(may_end(p) for p in node.parts)
    if isinstance(node, Alt):
        return any(may_end(c) for c in node.choices)
    return node.least == 0 or may_end(node.node)


def _seq(first: Node | None, rest: tuple[Node, ...]) -> Node | None:
    if first is None:
        return None
    head = first.parts if isinstance(first, Seq) else (first,)
    parts = head + rest
    return parts[0] if len(parts) == 1 else Seq(parts)


@cache
def after(node: Node, byte: int) -> Node | None:
    """What may follow `byte`; None when it may not stand here."""
    if isinstance(node, Ranges):
        return EMPTY if any(low <= byte <= high for low, high in node.ranges) else None
    found: list[Node | None] = []
    if isinstance(node, Alt):
        found = [after(c, byte) for c in node.choices]
    elif isinstance(node, Repeat):
        if node.most != 0:
            less = Repeat(node.node, max(node.least - 1, 0), None if node.most is None else node.most - 1)
            found = [_seq(after(node.node, byte), (less,))]
    else:
        for i, part in enumerate(node.parts):
            found.append(_seq(after(part, byte), node.parts[i + 1 :]))
            if not may_end(part):
                break
    alive = list(dict.fromkeys(n for n in found if n is not None))
    return None if not alive else alive[0] if len(alive) == 1 else Alt(tuple(alive))


def walk(node: Node | None, data: bytes) -> Node | None:
    """`after` for several bytes."""
    for byte in data:
        if node is None:
            return None
        node = after(node, byte)
    return node


def accepts(node: Node, data: bytes) -> bool:
    """Whether the whole of `data` is accepted."""
    end = walk(node, data)
    return end is not None and may_end(end)
