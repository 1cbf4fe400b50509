"""Reads the .S kernels: comments, labels, macros, conditionals and data, as GNU as reads them.

Only what the kernels use is accepted; anything else raises AsmError with the line. Sources: the GNU assembler manual,
"Macro" (.macro), "If" (.if), "Symbol Names" (numeric local labels) and "Xtensa Dependent Features".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

IGNORED = {".global", ".globl", ".type", ".size", ".literal_position", ".file"}
DATA_WIDTH = {".byte": 1, ".short": 2, ".word": 4, ".long": 4}
MAX_DEPTH = 16


class AsmError(Exception):
    """A line that the reader or an instruction table refuses."""


@dataclass(frozen=True)
class Line:
    """One statement: `op` in lower case, operand texts, and where it stands."""

    op: str
    args: tuple[str, ...]
    where: str


@dataclass
class Program:
    """Instructions in order, code labels as indices, and data sections laid out from `data_base`."""

    code: list[Line] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    numeric: dict[str, list[int]] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    data_labels: dict[str, int] = field(default_factory=dict)
    equates: dict[str, int] = field(default_factory=dict)
    aligned: set[int] = field(default_factory=set)

    def target(self, name: str, at: int, where: str) -> int:
        """Index of a code label as seen from instruction `at`; `1f` and `1b` are the nearest after and before."""
        local = re.fullmatch(r"(\d+)([fb])", name)
        if local:
            places = self.numeric.get(local[1], [])
            found = [p for p in places if (p > at if local[2] == "f" else p <= at)]
            if not found:
                raise AsmError(f"{where}: no label {name}")
            return found[0] if local[2] == "f" else found[-1]
        if name not in self.labels:
            raise AsmError(f"{where}: no label {name}")
        return self.labels[name]


def evaluate(text: str, names: dict[str, int], where: str) -> int:
    """Value of an integer expression: numbers, .set names, + - * ~ & | << >> ( ) and comparisons."""
    if not re.fullmatch(r"[\w\s+\-*~&|<>()=!.]+", text):
        raise AsmError(f"{where}: '{text}' is not an expression")

    def name(match: re.Match[str]) -> str:
        word = match[0]
        if word[0].isdigit():
            return str(int(word, 0))
        if word not in names:
            raise AsmError(f"{where}: unknown name {word}")
        return str(names[word])

    try:
        return int(eval(re.sub(r"[\w.]+", name, text), {"__builtins__": {}}))
    except (SyntaxError, ValueError) as error:
        raise AsmError(f"{where}: '{text}' is not an expression") from error


def _lines(text: str, name: str, folder: Path | None) -> list[tuple[str, str]]:
    """Statements without comments, each with its place; `#include "name"` is read from `folder`."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    found: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        included = re.fullmatch(r'\s*#\s*include\s+"([\w.]+)"\s*', line)
        if included and folder:
            found += _lines((folder / included[1]).read_text(encoding="utf-8"), included[1], folder)
        elif line.lstrip().startswith("#"):
            raise AsmError(f"{name}:{number}: only #include is known")
        else:
            found.append((" ".join(line.split("//")[0].split()), f"{name}:{number}"))
    return found


def _split_args(text: str) -> tuple[str, ...]:
    return tuple(a.strip() for a in text.split(",")) if text.strip() else ()


class _Reader:
    def __init__(self, program: Program):
        self.program = program
        self.macros: dict[str, tuple[list[tuple[str, str | None]], list[tuple[str, str]]]] = {}
        self.in_data = False

    def read(self, lines: list[tuple[str, str]], depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise AsmError("macros nest too deep")
        active = [True]
        at = 0
        while at < len(lines):
            text, where = lines[at]
            at += 1
            word = text.split(None, 1)[0] if text else ""
            rest = text[len(word) :].strip()
            if word == ".if":
                active.append(active[-1] and evaluate(rest, self.program.equates, where) != 0)
            elif word == ".else":
                now = active.pop()
                active.append(active[-1] and not now)
            elif word == ".endif":
                active.pop()
            elif not active[-1]:
                continue
            elif word == ".macro":
                end = next(i for i in range(at, len(lines)) if lines[i][0] == ".endm")
                self._define(rest, lines[at:end], where)
                at = end + 1
            elif word in self.macros:
                self.read(self._expand(word, rest, where), depth + 1)
            elif text:
                self._statement(text, where)
        if active != [True]:
            raise AsmError("an .if is not closed")

    def _define(self, head: str, body: list[tuple[str, str]], where: str) -> None:
        parts = re.split(r"[\s,]+", head.strip())
        params: list[tuple[str, str | None]] = []
        for part in parts[1:]:
            key, _, default = part.partition("=")
            params.append((key, default if "=" in part else None))
        self.macros[parts[0]] = (params, body)

    def _expand(self, name: str, rest: str, where: str) -> list[tuple[str, str]]:
        params, body = self.macros[name]
        values = dict(params)
        position = 0
        for arg in _split_args(rest):
            key, eq, value = arg.partition("=")
            if eq and key in values:
                values[key] = value
                continue
            if position >= len(params):
                raise AsmError(f"{where}: too many arguments of {name}")
            values[params[position][0]] = arg
            position += 1
        missing = [k for k, v in values.items() if v is None]
        if missing:
            raise AsmError(f"{where}: {name} lacks {missing}")

        def put(match: re.Match[str]) -> str:
            key = match[1]
            if key not in values:
                raise AsmError(f"{where}: {name} has no parameter {key}")
            return str(values[key])

        return [(re.sub(r"\\(\w+)", put, text).strip(), f"{where}>{name}") for text, _ in body]

    def _statement(self, text: str, where: str) -> None:
        label = re.match(r"([.\w$]+):\s*", text)
        if label:
            self._label(label[1], where)
            text = text[label.end() :]
            if not text:
                return
        word, _, rest = text.partition(" ")
        word = word.strip().lower()
        if word.startswith("."):
            self._directive(word, rest.strip(), where)
        elif self.in_data:
            raise AsmError(f"{where}: instruction in a data section")
        else:
            self.program.code.append(Line(word, _split_args(rest), where))

    def _label(self, name: str, where: str) -> None:
        program = self.program
        if self.in_data:
            program.data_labels[name] = len(program.data)
        elif name.isdigit():
            program.numeric.setdefault(name, []).append(len(program.code))
        elif name in program.labels:
            raise AsmError(f"{where}: label {name} twice")
        else:
            program.labels[name] = len(program.code)

    def _directive(self, word: str, rest: str, where: str) -> None:
        program = self.program
        if word in IGNORED:
            return
        if word == ".text":
            self.in_data = False
        elif word == ".section":
            self.in_data = rest.split(",")[0].strip().startswith(".rodata")
            if not self.in_data and not rest.startswith((".text", ".literal", ".iram1")):
                raise AsmError(f"{where}: section {rest} is not known")
        elif word in (".set", ".equ"):
            name, value = _split_args(rest)
            program.equates[name] = evaluate(value, program.equates, where)
        elif word in (".align", ".balign"):
            self._align(evaluate(rest, program.equates, where), where)
        elif word in DATA_WIDTH and self.in_data:
            width = DATA_WIDTH[word]
            for value in _split_args(rest):
                number = evaluate(value, program.equates, where) & ((1 << 8 * width) - 1)
                program.data += number.to_bytes(width, "little")
        else:
            raise AsmError(f"{where}: directive {word} is not known")

    def _align(self, step: int, where: str) -> None:
        """On Xtensa .align counts bytes, as .balign does."""
        if step & (step - 1):
            raise AsmError(f"{where}: alignment {step}")
        if self.in_data:
            self.program.data += bytes(-len(self.program.data) % step)
        else:
            self.program.aligned.add(len(self.program.code))


def parse(path: Path) -> Program:
    """The program of one .S file.

    Raises:
        AsmError: a statement that is not understood.
    """
    return parse_text(path.read_text(encoding="utf-8"), path.name, path.parent)


def parse_text(text: str, name: str = "text", folder: Path | None = None) -> Program:
    """The program that `text` holds; `folder` is where #include looks."""
    program = Program()
    _Reader(program).read(_lines(text, name, folder))
    return program
