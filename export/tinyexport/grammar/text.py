r"""Grammar files.

    # What a lamp understands. The first rule is the reply.
    reply  = "turn " ("on" | "off") " the " device ("," " " device)*
    device = "lamp" | "heater" | "fan" [1-9]

Rules are `name = expression`; a line that begins with a space continues the one before. In an expression: "text" (with
\n \t \r \\ \" \xHH as in Python), [a-z_] and [^"] sets of characters, `.` any character but a newline, names of rules,
( ), |, and after something ? * + {n} {n,} {n,m}. Rules may not contain themselves: the language is a regular one.
"""

from __future__ import annotations

import ast
import re
import warnings

from ..errors import GrammarError
from .nodes import Alt, Node, Repeat, Seq, characters, literal

_RULE = re.compile(r"([A-Za-z_][\w-]*)\s*=(.*)", re.S)
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\\n]|\\.)*")|(?P<set>\[(?:[^\]\\\n]|\\.)+\])|(?P<name>[A-Za-z_][\w-]*)"""
    r"""|(?P<count>\{\s*\d+\s*(?:,\s*\d*\s*)?\})|(?P<sign>[()|?*+.]))"""
)
_ASCII = set(range(128))
MAX_DEPTH = 100


def parse_grammar(text: str) -> Node:
    """The expression of a grammar file's first rule. Raises `GrammarError`."""
    rules: dict[str, str] = {}
    for line in _rules(text):
        found = _RULE.fullmatch(line.strip())
        if not found:
            raise GrammarError(
                f"'{line.strip()[:40]}' is not a rule", 'a rule is name = expression: reply = "on" | "off"'
            )
        if found[1] in rules:
            raise GrammarError(f"there are two rules '{found[1]}'", "join them with |")
        rules[found[1]] = found[2]
    if not rules:
        raise GrammarError("the grammar has no rule", 'write one: reply = "on" | "off"')
    return _Parser(rules).rule(next(iter(rules)), ())


def _rules(text: str) -> list[str]:
    """Lines with their continuations, without comments."""
    out: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t" and out:
            out[-1] += "\n" + line
        else:
            out.append(line)
    return out


class _Parser:
    def __init__(self, rules: dict[str, str]) -> None:
        self.rules = rules
        self.done: dict[str, Node] = {}

    def rule(self, name: str, inside: tuple[str, ...]) -> Node:
        if name in inside or len(inside) > MAX_DEPTH:
            raise GrammarError(f"the rule '{name}' contains itself", "repeat with * or + instead")
        if name not in self.rules:
            raise GrammarError(f"there is no rule '{name}'", "known: " + ", ".join(self.rules))
        if name not in self.done:
            self.done[name] = _Expression(self, name, (*inside, name)).parse(self.rules[name])
        return self.done[name]


class _Expression:
    def __init__(self, parser: _Parser, name: str, inside: tuple[str, ...]) -> None:
        self.parser, self.name, self.inside = parser, name, inside
        self.tokens: list[tuple[str, str]] = []
        self.depth = 0

    def fail(self, what: str) -> GrammarError:
        return GrammarError(
            f"the rule '{self.name}': {what}", "see `tinychat --help` and host/README.md for the notation"
        )

    def parse(self, text: str) -> Node:
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if not found:
                raise self.fail(f"'{text[at:].strip()[:20]}' is not understood")
            self.tokens.append((str(found.lastgroup), str(found[str(found.lastgroup)])))
            at = found.end()
        self.tokens.reverse()
        node = self.alternatives()
        if self.tokens:
            raise self.fail("there is a ) too many")
        return node

    def next(self, *signs: str) -> bool:
        return bool(self.tokens) and self.tokens[-1][0] == "sign" and self.tokens[-1][1] in signs

    def alternatives(self) -> Node:
        choices = [self.sequence()]
        while self.next("|"):
            self.tokens.pop()
            choices.append(self.sequence())
        return choices[0] if len(choices) == 1 else Alt(tuple(choices))

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.tokens and not self.next("|", ")"):
            parts.append(self.repeated(self.one()))
        return Seq(tuple(parts))

    def one(self) -> Node:
        kind, token = self.tokens.pop()
        if kind == "text":
            return literal(self.unescaped(token))
        if kind == "set":
            return self.character_set(token[1:-1])
        if kind == "name":
            return self.parser.rule(token, self.inside)
        if token == ".":
            return characters(_ASCII - {10}, set(), True)
        if token != "(":
            raise self.fail(f"{token} stands after nothing")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail("too many ( inside each other")
        node = self.alternatives()
        self.depth -= 1
        if not self.next(")"):
            raise self.fail("a ) is missing")
        self.tokens.pop()
        return node

    def repeated(self, node: Node) -> Node:
        while self.tokens and (self.next("?", "*", "+") or self.tokens[-1][0] == "count"):
            _, token = self.tokens.pop()
            if token in ("?", "*", "+"):
                node = Repeat(node, int(token == "+"), 1 if token == "?" else None)
                continue
            least, comma, most = (part.strip() for part in token[1:-1].partition(","))
            low = int(least[:9])
            node = Repeat(node, low, int(most[:9]) if most else None if comma else low)
        return node

    def unescaped(self, token: str) -> str:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of an escape that is none, Python only warns
                text = ast.literal_eval(token)
        except (ValueError, SyntaxError, Warning):
            raise self.fail(f"{token[:20]} has a wrong escape") from None
        return str(text)

    def character_set(self, body: str) -> Node:
        negated = body.startswith("^")
        text = re.sub(r"\\([\]\[^-])", lambda m: f"\\x{ord(m[1]):02x}", body[1:] if negated else body)
        members = re.findall(r"\\x[0-9a-fA-F]{2}|\\.|.", text, re.S)
        codes: set[int] = set()
        at = 0
        while at < len(members):
            first = last = self.member(members[at])
            if at + 2 < len(members) and members[at + 1] == "-":
                last, at = self.member(members[at + 2]), at + 2
            if last < first or (last > first and last > 127):
                raise self.fail(f"[{body[:20]}] has a range that is none; ranges are of ASCII characters")
            codes.update(range(first, last + 1))
            at += 1
        if negated and max(codes, default=0) > 127:
            raise self.fail("[^...] leaves out ASCII characters only")
        if negated:
            return characters(_ASCII - codes, set(), True)
        return characters(codes & _ASCII, {chr(c) for c in codes - _ASCII}, False)

    def member(self, text: str) -> int:
        one = self.unescaped(f'"{text}"') if text != '"' else text
        if len(one) != 1:
            raise self.fail(f"{text} has a wrong escape")
        return ord(one)
