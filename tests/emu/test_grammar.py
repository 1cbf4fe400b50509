"""Constrained replies: the compiler against derivatives, the mask against them token by token, whole replies."""

from __future__ import annotations

import ctypes as c
import json
import random
import re
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from grammar_reference import accepts, walk
from models import ROOT, exported, talker, tinybuddy
from simlib import Sim, SimClock, SimLink, aligned, library

from tinychat import Device
from tinychat.errors import DeviceError
from tinyexport import runtime
from tinyexport.errors import GrammarError
from tinyexport.grammar import compile_grammar, compile_schema
from tinyexport.grammar.automaton import compile_node
from tinyexport.grammar.nodes import Node
from tinyexport.grammar.schema import parse_schema
from tinyexport.grammar.text import parse_grammar

LAMP = """
# What a lamp understands.
reply  = "turn " ("on" | "off") " the " device
         ("," " " device)*
device = "lamp" | "heater" | "fan" [1-9]{1,2}
"""
GRAMMARS = {
    "lamp": (LAMP, r"turn (on|off) the (lamp|heater|fan[1-9]{1,2})(, (lamp|heater|fan[1-9]{1,2}))*"),
    "slot": ('r = [A-Z] [a-z\\-\\]]{0,9} ("." | "!")?', r"[A-Z][a-z\-\]]{0,9}[.!]?"),
    "any": ('r = "<" [^<>]{1,12} ">" .?', r"<[^<>]{1,12}>.?"),
    "accents": ('r = ("é" | "e" | [àöü] | "\\xe9t\\u20ac")+ "\\n"', "(é|e|[àöü]|ét€)+\n"),
    "nested": ("r = ((a b?)* a){1,2}\na = \"x\" | \"xy\"\nb = \"y\" | \"z\"{2}", "(((x|xy)(y|zz)?)*(x|xy)){1,2}"),
    "empty": ('r = "" | "a"{2,}', "|a{2,}"),
}  # fmt: skip
COMMAND: dict[str, Any] = {
    "type": "object",
    "properties": {
        "device": {"enum": ["lamp", "h\u00e9ater", 7, None]},
        "on": {"type": "boolean"},
        "level": {"type": "integer", "minimum": 8, "maximum": 12},
        "rooms": {"type": "array", "items": {"$ref": "#/$defs/room"}, "minItems": 1, "maxItems": 3},
        "note": {"type": "string", "maxLength": 6},
        "degrees": {"anyOf": [{"type": "number"}, {"const": {"a": [1]}}]},
    },
    "required": ["device", "rooms"],
    "$defs": {"room": {"type": "string", "minLength": 1, "maxLength": 4}},
}


def mutated(rng: random.Random, text: str, alphabet: str) -> str:
    letters = list(text)
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(letters) + 1)
        letters[at : at + rng.randrange(2)] = rng.choice(["", rng.choice(alphabet)])
    return "".join(letters)


def sample(rng: random.Random, node: Node, most: int = 60) -> bytes:
    """A random accepted text, by walking the derivatives; most steps take a byte that a text is made of."""
    automaton, state, out = compile_node(node), 0, bytearray()
    while not automaton.accepts[state] or (automaton.edges[state] and len(out) < most and rng.random() < 0.8):
        low, high, state = rng.choice(automaton.edges[state])
        out.append(rng.randint(low, high))
    return bytes(out)


@pytest.mark.parametrize("name", GRAMMARS)
def test_the_automaton_accepts_what_the_grammar_says(name: str) -> None:
    """Three opinions on accepted texts and near misses: the automaton, derivatives, and Python's own `re`."""
    source, pattern = GRAMMARS[name]
    node, rng = parse_grammar(source), random.Random(name)
    automaton = compile_node(node)
    good = 0
    for _ in range(300):
        text = mutated(rng, sample(rng, node).decode(), "abxyz19é<>., \n")
        expected = re.fullmatch(pattern, text) is not None
        assert automaton.matches(text.encode()) == accepts(node, text.encode()) == expected, text
        good += expected
    assert 20 < good < 300


def follows(value: Any) -> bool:
    """What COMMAND allows, by hand; the order of keys is the schema's."""
    if not isinstance(value, dict) or list(value) != [k for k in COMMAND["properties"] if k in value]:
        return False
    return (
        "device" in value
        and "rooms" in value
        and value["device"] in ("lamp", "h\u00e9ater", 7, None)
        and value.get("on", True) in (True, False)
        and value.get("level", 8) in range(8, 13)
        and 1 <= len(value["rooms"]) <= 3
        and all(1 <= len(r) <= 4 for r in value["rooms"])
        and len(value.get("note", "")) <= 6
        and (isinstance(value.get("degrees", 0), (int, float)) or value["degrees"] == {"a": [1]})
    )


def test_a_schema_accepts_valid_json_only() -> None:
    node, rng = parse_schema(json.dumps(COMMAND)), random.Random(4)
    shapes = set()
    for _ in range(300):
        data = sample(rng, node, 400)
        assert accepts(node, data)
        value = json.loads(data)
        assert follows(value), data
        shapes.add(tuple(value))
    assert len(shapes) > 8, "optional properties come and go"
    for bad in ("{}", '{"device":"lamp"}', '{"rooms":["a"],"device":"lamp"}', '{"device":"lamp","rooms":[]}', ""):
        assert not accepts(node, bad.encode())
    assert accepts(node, '{"device":"h\u00e9ater","level":12,"rooms":["a","b"],"degrees":-0.5}'.encode())


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, ["0", "-7", "123456789"], ["-0", "01", "1.0", "", "1234567890"]),
        ({"type": "integer", "minimum": 1}, ["1", "900"], ["0", "-1"]),
        ({"type": ["null", "boolean"]}, ["null", "true", "false"], ["True", "nul"]),
        ({"type": "array", "items": {"type": "null"}}, ["[]", "[null]", "[null,null,null]"], ["[null,]", "["]),
        ({"type": "object"}, ["{}"], ["{ }"]),
    ],
)
def test_small_schemas(schema: dict[str, Any], good: list[str], bad: list[str]) -> None:
    automaton = compile_node(parse_schema(json.dumps(schema)))
    assert [automaton.matches(t.encode()) for t in [*good, *bad]] == [True] * len(good) + [False] * len(bad)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rule"),
        ("hello", "is not a rule"),
        ('a = "x" a', "contains itself"),
        ("a = b", "there is no rule 'b'"),
        ('a = "x"\na = "y"', "two rules"),
        ('a = ("x"', "a ) is missing"),
        ('a = "x")', "too many"),
        ('a = * "x"', "after nothing"),
        ('a = "x"{3,2}', "not possible"),
        ('a = "x"{5000}', "not possible"),
        ('a = "x', "not understood"),
        (r'a = "\q\x"', "wrong escape"),
        (r"a = [x\ ]", "wrong escape"),
        (r'a = "\d"', "wrong escape"),
        ("a = [z-a]", "a range that is none"),
        ("a = [^é]", "ASCII characters only"),
        (r'a = "\ud800"', "surrogate"),
        ('a = ("x"{900}){900}', "too large"),
        ("a = [a-z]{600}", "a request holds"),
        ("a = " + "(" * 5000, "too many ("),
    ],
)
def test_bad_grammars_are_refused(text: str, words: str) -> None:
    with pytest.raises(GrammarError, match=re.escape(words)):
        compile_grammar(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("7", "a schema can not be 7"),
        ("{}", "has the type null"),
        ('{"type": "string", "pattern": "a"}', "'pattern' is not supported"),
        ('{"type": "object", "additionalProperties": true}', "not supported"),
        ('{"type": "object", "required": ["a"]}', "is not described"),
        ('{"type": "object", "required": [[{}]]}', "is not described"),
        ('{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}', "contains itself"),
        ('{"$ref": "http://x"}', "is not supported"),
        ('{"enum": []}', "no choices"),
        ('{"const": NaN}', "a number that JSON does not have"),
        ('{"type": "integer", "minimum": 5}', "only one limit"),
        ('{"type": "integer", "minimum": 5, "maximum": 4}', "none or too many"),
        ('{"type": "string", "maxLength": -1}', "can not be -1"),
        ('{"type": "string", "minLength": 3, "maxLength": 1}', "not possible"),
    ],
)
def test_bad_schemas_are_refused(text: str, words: str) -> None:
    with pytest.raises(GrammarError, match=re.escape(words)):
        compile_schema(text)


def test_long_texts_are_compiled_without_a_round_for_each_byte() -> None:
    """Counted in calls, not in time: a thousand rounds over a thousand states took seconds."""
    rounds = 0

    def count(frame: Any, event: str, _arg: Any) -> None:
        nonlocal rounds
        rounds += event == "call" and frame.f_code.co_name == "_joined"

    sys.setprofile(count)
    try:
        with pytest.raises(GrammarError, match="a request holds"):
            compile_schema('{"type": "string", "maxLength": 500}')
    finally:
        sys.setprofile(None)
    assert 500 < rounds < 5000


# ---- the firmware ---------------------------------------------------------------------------------


class Mask(c.Structure):
    """struct grammar of firmware/app/grammar.h, on a model of its own."""

    _fields_ = [("table", c.c_void_p), ("stops", c.c_bool), ("walk", c.c_uint64 * 16)]

    @classmethod
    def of(cls, blob: bytes, table: bytes, room: int = 4096, continues: bool = True) -> Mask:
        """`room`: bytes of work space besides the table; `continues`: the reply follows a text."""
        lib, mask, cap = library(), cls(), len(table) + room
        mask.kept = [aligned(blob), table, c.create_string_buffer(4096), c.create_string_buffer(cap)]
        (_, at), _, model, work = mask.kept
        assert lib.tlm_model_open(model, c.c_void_p(at), c.c_size_t(len(blob))) == 0
        sizes, flags = (c.c_size_t(len(table)), c.c_size_t(cap)), (c.c_bool(continues), c.c_bool(True))
        lib.grammar_begin(c.byref(mask), model, table, sizes[0], work, sizes[1], *flags)
        for name, args in (("allowed", [c.c_void_p, c.c_uint32]), ("take", [c.c_void_p, c.c_uint32])):
            function = getattr(lib, f"grammar_{name}")
            function.argtypes, function.restype = args, c.c_bool
        return mask

    def allowed(self, ids: Iterable[int]) -> set[int]:
        test, me = library().grammar_allowed, c.byref(self)
        return {i for i in ids if test(me, i)}

    def take(self, id_: int) -> bool:
        return bool(library().grammar_take(c.byref(self), id_))


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_token_is_allowed_iff_its_bytes_keep_the_grammar_alive(name: str) -> None:
    """Every token at every step of random replies, against the derivatives, whichever tokens are asked about and in
    whatever order, with work space and without."""
    node, blob, rng = parse_grammar(GRAMMARS[name][0]), talker(), random.Random(name)
    model, table = runtime.Model(blob), compile_grammar(GRAMMARS[name][0])
    pieces = [model.piece(i) for i in range(model.vocab)]
    for _ in range(4):
        masks, rest = [Mask.of(blob, table), Mask.of(blob, table), Mask.of(blob, table, room=0)], node
        for _ in range(25):
            expected = {i for i, p in enumerate(pieces) if i > 2 and p and walk(rest, p) is not None}
            ended = not expected
            if accepts(rest, b""):
                expected.add(0)  # the stop id
            some = rng.sample(range(model.vocab), rng.randrange(model.vocab + 1))
            for mask, ids in zip(masks, (range(model.vocab), some, range(model.vocab)), strict=True):
                # 1 and 2 are BOS and EOS, whose text is hidden or no words
                assert mask.allowed(ids) - {1, 2} == expected & set(ids)
            if ended:
                break
            token = rng.choice(sorted(expected - {0}))
            step = walk(rest, pieces[token])
            assert step is not None
            rest = step
            may_follow = any(walk(rest, bytes([b])) is not None for b in range(256))
            assert {mask.take(token) for mask in masks} == {not may_follow}


@pytest.mark.parametrize("continues", [True, False])
@pytest.mark.parametrize("name", ["tinybuddy", "tiny-tiny-stories", "smalltalk", "stories260k"])
def test_the_mask_reads_what_the_decoder_writes(name: str, continues: bool, request: pytest.FixtureRequest) -> None:
    """Merged, stored and unigram pieces, byte pieces, special ones, and the space that some lose at their start."""
    home = request.getfixturevalue("shared") / "checkpoints" if name == "stories260k" else ROOT / "examples"
    blob = exported(home / name)
    model = runtime.Model(blob)
    stops = {i for i in range(model.vocab) if model.chat and i in model.chat.stop_ids}
    texts = {}
    for i in set(range(model.vocab)) - stops:
        decoder = model.decoder(replace=False, continues=continues)
        texts[i] = decoder.push(i) + decoder.end()
    for source in ('r = " "? [a-zA-Z]* "."?', 'r = " o" [a-z]{0,3} | "th" .* | [\\x00-\\x1f]'):
        node = parse_grammar(source)
        mask = Mask.of(blob, compile_grammar(source), continues=continues)
        expected = {i for i, text in texts.items() if text and walk(node, text) is not None}
        assert expected and mask.allowed(texts) == expected


def is_safe(table: bytes) -> bool:
    valid = library().grammar_valid
    valid.argtypes, valid.restype = [c.c_char_p, c.c_size_t], c.c_bool
    return bool(valid(table, len(table)))


def test_damaged_tables_are_refused_or_safe() -> None:
    """Whatever passes the door is walked without leaving the table: the targets of all edges are states."""
    good, rng, passed = compile_grammar(LAMP), random.Random(1), 0
    assert is_safe(good)
    for bad in (b"", b"\1", b"\2" + good[1:], good[:-1], good + b"\x40", b"\1\x40a", bytes([1, 1, 97, 96, 1, 0])):
        assert not is_safe(bad), bad
    for _ in range(4000):
        table = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            table[rng.randrange(1, len(table))] = rng.randrange(256)
        if not is_safe(bytes(table)):
            continue
        passed += 1
        states, at = set(), 1
        while at < len(table):
            states.add(at)
            at += 2 if table[at] & 0x40 else 1 + 4 * (table[at] & 0x3F)
        for s in states:
            if table[s] & 0x40:
                assert s + 2 in states
            for e in range(s + 1, s + 1 + 4 * (table[s] & 0x3F), 4) if not table[s] & 0x40 else ():
                assert int.from_bytes(table[e + 2 : e + 4], "little") in states and table[e] <= table[e + 1]
    assert passed > 50


# ---- whole replies --------------------------------------------------------------------------------


def device(blob: bytes) -> Device:
    clock = SimClock()
    return Device(SimLink(Sim(blob), clock), clock)


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"temperature": 3.0, "top_k": 2}, {"temperature": 1.0}])
def test_replies_follow_the_grammar(sampling: dict[str, Any]) -> None:
    one, table = device(talker()), compile_grammar(LAMP)
    texts = set()
    for seed in range(8):
        reply = one.chat("Lamp on!", grammar=table, seed=seed, max_tokens=60, **sampling).wait()
        assert reply.stats is not None
        if reply.stats.stop_reason in ("stop_id", "grammar"):
            assert re.fullmatch(GRAMMARS["lamp"][1], reply.text), reply.text
        else:
            assert reply.stats.stop_reason == "length"
            assert walk(parse_grammar(LAMP), reply.text.encode()) is not None
        assert all(t.logprob <= 0 for t in reply.tokens)
        texts.add(reply.text)
        one.reset()
    assert len(texts) > 1 or not sampling["temperature"]
    assert not re.match("turn", one.chat("Lamp on!", seed=1).wait().text), "the next reply is free again"


def test_a_reply_ends_by_itself_where_nothing_may_follow() -> None:
    one = device(tinybuddy())  # a story model: its first token continues the prompt
    reply = one.generate("Once", grammar=compile_grammar('r = " yes" | " no"'), seed=3).wait()
    assert reply.text in (" yes", " no") and reply.stats is not None and reply.stats.stop_reason == "grammar"


def test_json_replies_are_valid() -> None:
    one, table = device(talker()), compile_schema(json.dumps(COMMAND))
    done = 0
    for seed in range(6):
        reply = one.chat("Which?", grammar=table, seed=seed, temperature=1.5, max_tokens=100).wait()
        one.reset()
        if reply.stats is not None and reply.stats.stop_reason != "length":
            assert follows(json.loads(reply.text)), reply.text
            done += 1
    assert done


def test_what_the_device_refuses() -> None:
    one = device(talker())
    with pytest.raises(DeviceError) as caught:
        one.chat("hi", grammar=b"\1nonsense").wait()
    assert caught.value.code == "grammar"
    with pytest.raises(DeviceError) as caught:
        one.chat("hi" * 200, grammar=bytes(1700)).wait()
    assert caught.value.code == "too_long"
    assert one.chat("hi", seed=1).wait().tokens
