"""Grammars that replies must follow, compiled into a small byte automaton that travels in the request.

`text.py` reads a grammar file and `schema.py` a JSON schema, both into the expressions of `nodes.py`; `automaton.py`
makes the smallest deterministic automaton of one, and `table.py` the bytes that firmware/app/grammar.c walks.
"""

from __future__ import annotations

from .automaton import Automaton, compile_node
from .schema import parse_schema
from .table import pack
from .text import parse_grammar

__all__ = ["Automaton", "compile_grammar", "compile_schema"]


def compile_grammar(text: str) -> bytes:
    """The table of a grammar file. Raises `GrammarError`."""
    return pack(compile_node(parse_grammar(text)))


def compile_schema(text: str) -> bytes:
    """The table of a JSON schema. Raises `GrammarError`."""
    return pack(compile_node(parse_schema(text)))
