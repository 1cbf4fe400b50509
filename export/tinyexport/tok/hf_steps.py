"""Normaliser, pre-tokeniser and decoder of tokenizer.json as the settings of the blob."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

from ..blob.schema_tok import TokFlag, TokPrefix, TokSplit
from ..errors import TokenizerError
from .charfacts import Facts
from .model import MARK, NO_FLAGS

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
GPT4_PATTERN, GPT4_DIGIT_PATTERN = _GPT4 % "{1,3}", _GPT4 % ""
_PATTERNS = {
    ("Regex", _GPT2): TokSplit.GPT2,
    ("Regex", GPT4_PATTERN): TokSplit.GPT4,
    ("Regex", GPT4_DIGIT_PATTERN): TokSplit.GPT4_DIGIT,
    ("Regex", "(?m:.)"): TokSplit.CHARACTER,
    ("Regex", r"[\s\S]"): TokSplit.CHARACTER,
    ("String", ""): TokSplit.CHARACTER,
}


@dataclass
class Steps:
    """What happens to a text before the model sees it, and to pieces afterwards."""

    flags: TokFlag = NO_FLAGS
    prefix: TokPrefix = TokPrefix.NONE
    splits: list[TokSplit] = field(default_factory=list)
    charmap: Facts = field(default_factory=Facts)
    bytes_first: bool = False  # byte-level: words start from bytes


def _refuse(part: str, step: Any) -> NoReturn:
    name = step.get("type") if isinstance(step, dict) else step
    detail = {k: v for k, v in step.items() if k != "type"} if isinstance(step, dict) else {}
    if name == "Precompiled":
        detail = {}
    hint = "export with the sentencepiece tokenizer.model where there is one, or train the tokenizer without that step"
    if name in ("NFC", "NFD"):
        hint = f"text that is {name} already is not changed by it: if yours is, take the step out of tokenizer.json"
    raise TokenizerError(
        f"the {part} {name} {detail or ''} of tokenizer.json is not one that the runtime does exactly".replace(
            "  ", " "
        ),
        hint,
    )


def _flatten(step: dict[str, Any] | None, children: str) -> list[dict[str, Any]]:
    if step is None:
        return []
    if step.get("type") == "Sequence":
        return [leaf for child in step[children] for leaf in _flatten(child, children)]
    return [step]


def read(data: dict[str, Any]) -> Steps:
    """The steps of a whole tokenizer.json; TokenizerError names the first one that is not supported."""
    out = Steps()
    for step in _flatten(data.get("normalizer"), "normalizers"):
        _normalizer(out, step)
    pre = _flatten(data.get("pre_tokenizer"), "pretokenizers")
    for i, step in enumerate(pre):
        _pre_tokenizer(out, step, first=i == 0, last=i == len(pre) - 1)
    _decoder(out, _flatten(data.get("decoder"), "decoders"))
    return out


# ---- normaliser --------------------------------------------------------------------------------------


def lowercase_map() -> dict[str, str]:
    """Each character that has a lower case, as the `tokenizers` library sees it."""
    from tokenizers.normalizers import Lowercase

    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and c != 0x0A]
    lower = Lowercase().normalize_str("\n".join(map(chr, codes))).split("\n")
    return {chr(c): low for c, low in zip(codes, lower, strict=True) if chr(c) != low}


def _normalizer(out: Steps, step: dict[str, Any]) -> None:
    match step.get("type"):
        case "Prepend" if step.get("prepend") == MARK:
            out.prefix = TokPrefix.ALWAYS
            out.flags |= TokFlag.ESCAPE
        case "Replace" if step.get("pattern") == {"String": " "} and step.get("content") == MARK:
            out.flags |= TokFlag.ESCAPE
        case "Lowercase" if out.charmap == Facts() and not out.flags:
            out.charmap = Facts(lowercase_map())
        case _:
            _refuse("normaliser", step)


# ---- pre-tokeniser -----------------------------------------------------------------------------------


def _pre_tokenizer(out: Steps, step: dict[str, Any], first: bool, last: bool) -> None:
    if out.bytes_first:
        _refuse("pre-tokeniser after ByteLevel,", step)
    match step.get("type"):
        case "ByteLevel":
            _byte_level(out, step, first)
        case "Metaspace":
            _metaspace(out, step, first)
        case "Whitespace":
            out.splits.append(TokSplit.WORD)
        case "WhitespaceSplit":
            out.splits.append(TokSplit.WHITESPACE)
        case "BertPreTokenizer":
            out.splits += [TokSplit.WHITESPACE, TokSplit.PUNCTUATION]
        case "Digits":
            out.splits.append(TokSplit.DIGIT if step.get("individual_digits") else TokSplit.DIGITS)
        case "Punctuation" if step.get("behavior", "Isolated") == "Isolated":
            out.splits.append(TokSplit.PUNCTUATION)
        case "CharDelimiterSplit" if step.get("delimiter") == " ":
            out.splits.append(TokSplit.DROP_SPACE)
        case "Split":
            out.splits.append(_split(step))
        case _:
            _refuse("pre-tokeniser", step)


def _byte_level(out: Steps, step: dict[str, Any], first: bool) -> None:
    out.bytes_first = True
    if step.get("add_prefix_space", True):
        if not first:
            _refuse("pre-tokeniser (a prefix space in each part)", step)
        out.prefix = TokPrefix.IF_MISSING
    if step.get("use_regex", True):
        out.splits.append(TokSplit.GPT2)


def _metaspace(out: Steps, step: dict[str, Any], first: bool) -> None:
    scheme = step.get("prepend_scheme") or ("always" if step.get("add_prefix_space", True) else "never")
    if step.get("replacement", MARK) != MARK or not first or scheme not in ("always", "first", "never"):
        _refuse("pre-tokeniser", step)
    out.flags |= TokFlag.ESCAPE | (TokFlag.PREFIX_ONCE if scheme == "first" else TokFlag(0))
    if scheme != "never":
        if out.prefix is not TokPrefix.NONE:
            _refuse("second prefix of the pre-tokeniser", step)
        out.prefix = TokPrefix.IF_MISSING
    if step.get("split", True):
        out.splits.append(TokSplit.SPACE)


def _split(step: dict[str, Any]) -> TokSplit:
    pattern = step.get("pattern") or {}
    key = next(iter(pattern.items()), None)
    behavior, invert = step.get("behavior"), bool(step.get("invert"))
    if key in _PATTERNS and behavior == "Isolated" and not invert:
        return _PATTERNS[key]
    if key in _PATTERNS and behavior == "Removed" and invert and key[0] == "Regex":
        return _PATTERNS[key]  # keeps the matches, and every character is part of one
    if key == ("String", " ") and behavior == "Removed" and not invert:
        return TokSplit.DROP_SPACE
    if key in (("Regex", r"\s+"), ("Regex", r"\s")) and behavior == "Removed" and not invert:
        return TokSplit.WHITESPACE
    _refuse("pre-tokeniser", step)


# ---- decoder -----------------------------------------------------------------------------------------


def _decoder(out: Steps, steps: list[dict[str, Any]]) -> None:
    if not steps:
        out.flags |= TokFlag(0) if out.bytes_first else TokFlag.JOIN_WORDS
    for step in steps:
        match step.get("type"):
            case "ByteLevel" if out.bytes_first:
                pass
            case "Fuse":
                pass
            case "ByteFallback":
                out.flags |= TokFlag.FFFD_PER_BYTE
            case "Replace" if step.get("pattern") == {"String": MARK} and step.get("content") == " ":
                pass
            case "Strip" if step.get("content") == " " and step.get("start") in (0, 1) and step.get("stop") == 0:
                out.flags |= TokFlag.STRIP_FIRST if step["start"] else TokFlag(0)
            case "Metaspace" if step.get("replacement", MARK) == MARK:
                scheme = step.get("prepend_scheme") or ("always" if step.get("add_prefix_space", True) else "never")
                out.flags |= TokFlag.STRIP_FIRST if scheme != "never" else TokFlag(0)
            case _:
                _refuse("decoder", step)
