"""A subset of JSON Schema as an expression: what is accepted is JSON without spaces that the schema allows.

Not everything that the schema allows: properties come in the order in which they are written, strings are of printable
ASCII without quotes and backslashes (other texts can be listed with `enum`), integers have at most nine digits and
numbers at most six behind the point. Keywords that this file does not know are refused, not ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..errors import GrammarError
from .nodes import Alt, Node, Ranges, Repeat, Seq, any_of, literal, optional

MAX_SPAN = 10_000
MAX_DEPTH = 40
NOTES = {"title", "description", "$schema", "$id", "$comment", "default", "examples", "$defs", "definitions"}
_PLAIN = Ranges(((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E)))
_DIGIT = Ranges(((0x30, 0x39),))
_FIRST = Ranges(((0x31, 0x39),))


def parse_schema(text: str) -> Node:
    """The expression of a JSON schema. Raises `GrammarError`."""
    try:
        root = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise GrammarError(f"the schema is no JSON: {err}", "check its commas and quotes") from None
    return _Schema(root).node(root, 0)


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise GrammarError("the schema holds a number that JSON does not have", "leave out NaN and Infinity") from None


class _Schema:
    def __init__(self, root: Any) -> None:
        self.root = root
        self.kinds: dict[str, tuple[set[str], Callable[[dict[str, Any], int], Node]]] = {
            "object": ({"properties", "required", "additionalProperties"}, self.object_),
            "array": ({"items", "minItems", "maxItems"}, self.array),
            "string": ({"minLength", "maxLength"}, self.string),
            "integer": ({"minimum", "maximum"}, self.integer),
            "number": (set(), self.number),
            "boolean": (set(), lambda s, d: any_of(["true", "false"])),
            "null": (set(), lambda s, d: literal("null")),
        }

    def node(self, schema: Any, depth: int) -> Node:
        if not isinstance(schema, dict):
            raise GrammarError(f"a schema can not be {_dump(schema)[:40]}", "it is an object with a type")
        if depth > MAX_DEPTH:
            raise GrammarError("the schema contains itself, or is nested too deeply", f"at most {MAX_DEPTH} levels")
        for key, build in (
            ("const", lambda v: literal(_dump(v))),
            ("enum", lambda v: any_of([_dump(x) for x in self.list_(v, "enum")])),
            ("anyOf", lambda v: Alt(tuple(self.node(x, depth + 1) for x in self.list_(v, "anyOf")))),
            ("oneOf", lambda v: Alt(tuple(self.node(x, depth + 1) for x in self.list_(v, "oneOf")))),
            ("$ref", lambda v: self.node(self.resolved(v), depth + 1)),
        ):
            if key in schema:
                self.only(schema, {key, "type"})
                return build(schema[key])
        return self.typed(schema, depth)

    def typed(self, schema: dict[str, Any], depth: int) -> Node:
        kind = schema.get("type")
        if isinstance(kind, list) and kind:
            return Alt(tuple(self.node({**schema, "type": k}, depth + 1) for k in kind))
        if not isinstance(kind, str) or kind not in self.kinds:
            raise GrammarError(f"a schema has the type {_dump(kind)[:40]}", "known: " + ", ".join(self.kinds))
        known, build = self.kinds[kind]
        self.only(schema, known | {"type"})
        return build(schema, depth)

    def only(self, schema: dict[str, Any], known: set[str]) -> None:
        foreign = sorted(schema.keys() - known - NOTES)
        if foreign:
            raise GrammarError(
                f"the schema's keyword '{foreign[0][:40]}' is not supported here",
                "supported: " + ", ".join(sorted(known)),
            )

    def list_(self, value: Any, name: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise GrammarError(f"'{name}' holds no choices", "it is a list with at least one member")
        return value

    def count(self, schema: dict[str, Any], name: str, otherwise: int | None) -> int | None:
        value = schema.get(name, otherwise)
        if value is not None and (type(value) is not int or value < 0):
            raise GrammarError(f"'{name}' can not be {_dump(value)[:40]}", "it is a whole number from 0 on")
        return value

    def resolved(self, ref: Any) -> Any:
        parts = ref.split("/") if isinstance(ref, str) else []
        target = self.root
        if len(parts) != 3 or parts[0] != "#" or parts[1] not in ("$defs", "definitions"):
            raise GrammarError(f"the reference {_dump(ref)[:40]} is not supported", "write #/$defs/NAME")
        for part in parts[1:]:
            target = target.get(part) if isinstance(target, dict) else None
        if target is None:
            raise GrammarError(f"there is no {ref}", "define it under $defs")
        return target

    # ---- types ----------------------------------------------------------------------------------

    def object_(self, schema: dict[str, Any], depth: int) -> Node:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise GrammarError("'properties' or 'required' is of the wrong kind", "an object, and a list of names")
        if schema.get("additionalProperties", False) is not False:
            raise GrammarError("additional properties are not supported", "list all properties")
        missing = [name for name in required if not isinstance(name, str) or name not in properties]
        if missing:
            raise GrammarError(
                f"the required property {_dump(missing[0])[:40]} is not described", "add it to properties"
            )
        pairs = [
            (Seq((literal(_dump(n) + ":"), self.node(s, depth + 1))), n in required) for n, s in properties.items()
        ]
        later: Node = Seq(())  # the rest when a property stands before it
        first: Node = Seq(())  # the rest when none does
        for pair, needed in reversed(pairs):
            with_ = Seq((pair, later))
            first = with_ if needed else Alt((with_, first))
            following = Seq((literal(","), pair))
            later = Seq((following if needed else optional(following), later))
        return Seq((literal("{"), first, literal("}")))

    def array(self, schema: dict[str, Any], depth: int) -> Node:
        if "items" not in schema:
            raise GrammarError("an array does not say what its items are", "add 'items'")
        item = self.node(schema["items"], depth + 1)
        least, most = self.count(schema, "minItems", 0) or 0, self.count(schema, "maxItems", None)
        if most == 0:
            return literal("[]")
        more = Repeat(Seq((literal(","), item)), max(least - 1, 0), None if most is None else most - 1)
        some = Seq((item, more))
        return Seq((literal("["), some if least else optional(some), literal("]")))

    def string(self, schema: dict[str, Any], depth: int) -> Node:
        least, most = self.count(schema, "minLength", 0) or 0, self.count(schema, "maxLength", None)
        return Seq((literal('"'), Repeat(_PLAIN, least, most), literal('"')))

    def integer(self, schema: dict[str, Any], depth: int) -> Node:
        low, high = schema.get("minimum"), schema.get("maximum")
        for value in (low, high):
            if value is not None and type(value) is not int:
                raise GrammarError(f"a limit of an integer can not be {_dump(value)[:40]}", "it is a whole number")
        if low is not None and high is not None:
            if not 0 <= high - low < MAX_SPAN:
                raise GrammarError(f"the integers from {low} to {high} are none or too many", f"at most {MAX_SPAN}")
            return any_of([str(i) for i in range(low, high + 1)])
        positive = Seq((_FIRST, Repeat(_DIGIT, 0, 8)))
        if (low, high) == (None, None):
            return Alt((literal("0"), Seq((optional(literal("-")), positive))))
        if high is None and low in (0, 1):
            return positive if low else Alt((literal("0"), positive))
        raise GrammarError("an integer has only one limit", "give minimum and maximum, or a minimum of 0 or 1")

    def number(self, schema: dict[str, Any], depth: int) -> Node:
        whole = Alt((literal("0"), Seq((_FIRST, Repeat(_DIGIT, 0, 8)))))
        part = optional(Seq((literal("."), Repeat(_DIGIT, 1, 6))))
        return Seq((optional(literal("-")), whole, part))
