"""How to talk to a model: template, stop rules, sampling defaults, licence.

None of this is in the tensors. In order of precedence: options, a `tinyexport.json` beside the checkpoint,
`known.toml` (recognised by sizes, recorded as assumed), and a plain story mode.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from .blob.schema import ChatKind
from .blob.writer import ChatSpec
from .errors import ConfigError
from .spec import Checkpoint, Fact

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SIDE_FILE = "tinyexport.json"
MAX_STOP = 128  # REPLY_MAX_STOP in firmware/app/reply.h
_SIDE_KEYS = {"name", "licence", "license", "attribution", "data", "chat", "sampling", "confidence"}
_CHAT_KEYS = {"kind", "user_prefix", "reply_prefix", "turn_end", "stop", "add_bos"}
SAMPLING_DEFAULTS: dict[str, float | int] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 1.0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "repeat_window": 64,
    "max_tokens": 200,
}


@dataclass
class TalkFacts:
    """What a checkpoint's surroundings say about talking to it."""

    name: str
    licence: str = ""
    attribution: str = ""
    confidence: str = ""
    chat: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    origin: str = "assumed"


def _check_keys(given: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r} in {where}", f"known keys: {', '.join(sorted(known))}")


def _side_file(folder: Path) -> dict[str, Any] | None:
    path = folder / SIDE_FILE
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise ConfigError(f"{path} can not be read: {err}", "mend or remove the file") from err
    if not isinstance(facts, dict):
        raise ConfigError(f"{path} does not hold a JSON object", "see examples/tinybuddy/tinyexport.json")
    _check_keys(facts, _SIDE_KEYS, str(path))
    for key in ("name", "licence", "license", "attribution"):
        _text(facts.get(key, ""), key)
    for key in ("chat", "sampling"):
        if not isinstance(facts.get(key, {}), dict):
            raise ConfigError(f"{key} in {path} is not an object", "see examples/tinybuddy/tinyexport.json")
    return facts


def _text(value: Any, what: str) -> str:
    """`value`, which must be a text that UTF-8 can hold."""
    if not isinstance(value, str) or any("\ud800" <= c <= "\udfff" for c in value):
        raise ConfigError(f"{what} can not be {value!r:.60}", "it is a text")
    return value


def _known_model(checkpoint: Checkpoint, eos_piece: str) -> dict[str, Any] | None:
    spec = checkpoint.spec
    sizes = {
        "arch": checkpoint.arch,
        "dim": spec.dim,
        "layers": len(spec.layers),
        "heads": spec.n_heads,
        "context": spec.context,
        "vocab": spec.vocab,
        "eos": eos_piece,
    }
    table = tomllib.loads(resources.files(__package__).joinpath("known.toml").read_text("utf-8"))
    for model in table["model"]:
        if all(sizes.get(key) == value for key, value in model["match"].items()):
            return dict(model)
    return None


def talk_facts(checkpoint: Checkpoint, folder: Path, fallback_name: str, eos_piece: str) -> TalkFacts:
    """Collect the facts for `checkpoint`, whose files lie in `folder`."""
    side = _side_file(folder)
    found, origin = (side, "read") if side is not None else (_known_model(checkpoint, eos_piece), "assumed")
    if found is None:
        return TalkFacts(fallback_name, origin="assumed")
    return TalkFacts(
        name=str(found.get("name", fallback_name)),
        licence=str(found.get("licence", found.get("license", ""))),
        attribution=str(found.get("attribution", "")),
        confidence=str(found.get("confidence", "")),
        chat=dict(found.get("chat", {})),
        sampling=dict(found.get("sampling", {})),
        origin=origin,
    )


def chat_spec(facts: TalkFacts, add_bos: bool, stop_ids: tuple[int, ...]) -> ChatSpec:
    """The CHAT section; ConfigError on unknown keys or values out of range."""
    _check_keys(facts.chat, _CHAT_KEYS, "chat")
    _check_keys(facts.sampling, set(SAMPLING_DEFAULTS), "sampling")
    kind = _text(facts.chat.get("kind", "story"), "kind").upper()
    if kind not in ChatKind.__members__:
        raise ConfigError(f"unknown chat kind {kind.lower()!r}", "use story or turns")
    values: dict[str, Any] = SAMPLING_DEFAULTS | facts.sampling
    for name, default in SAMPLING_DEFAULTS.items():
        wanted = (int,) if isinstance(default, int) else (int, float)
        if type(values[name]) not in wanted or not abs(values[name]) < 1e9:
            raise ConfigError(f"{name} can not be {values[name]!r:.60}", f"a number such as {default}")
    if not (
        0 <= values["temperature"] <= 100
        and 0 <= values["top_k"] <= 256
        and 0 < values["top_p"] <= 1
        and 0 <= values["min_p"] < 1
        and 1 <= values["repeat_penalty"] <= 100
        and 0 <= values["repeat_window"] <= 256
        and 1 <= values["max_tokens"] <= 1 << 20
    ):
        raise ConfigError("a sampling default is out of its range", "see the CHAT record in runtime_c/BLOB.md")
    template: dict[str, Any] = {
        part: _text(facts.chat.get(part, ""), part) for part in ("user_prefix", "reply_prefix", "turn_end")
    }
    return ChatSpec(
        kind=ChatKind[kind],
        add_bos=add_bos,
        stop_ids=stop_ids,
        stop_strings=_stop_strings(facts.chat.get("stop", [])),
        **template,
        **values,
    )


def _stop_strings(stop: Any) -> tuple[str, ...]:
    """One text or a list of them."""
    texts = tuple(_text(text, "stop") for text in (stop if isinstance(stop, list) else [stop]))
    if any(len(text.encode()) > MAX_STOP for text in texts):
        raise ConfigError(f"a stop string is longer than {MAX_STOP} bytes", "devices find no longer ones")
    return texts


def confidence(text: str) -> str:
    """The INFO value `confidence`: log-probabilities below which a reply is unsure, `MEAN` or `MEAN,MINIMUM`."""
    try:
        limits = [float(part) for part in text.split(",")] if text else []
    except ValueError:
        limits = [math.nan]
    if len(limits) > 2 or not all(math.isfinite(limit) and limit <= 0 for limit in limits):
        raise ConfigError(f"{text!r} is no confidence threshold", "MEAN or MEAN,MINIMUM, at most 0, such as -1.43,-4.5")
    return ",".join(f"{limit:g}" for limit in limits)


def bos_fact(given: bool | None, from_tokenizer: bool | None, has_bos: bool, from_chat: Any = None) -> Fact:
    """Whether BOS is prepended: an option, else the chat facts, else the tokenizer's own setting, else assumed."""
    if given is not None:
        return Fact(given, "given")
    if isinstance(from_chat, bool):
        return Fact(from_chat, "read", "chat facts")
    if from_tokenizer is not None:
        return Fact(from_tokenizer, "read", "tokenizer")
    return Fact(has_bos, "assumed", "BOS is prepended when the tokenizer has one; --bos or --no-bos decides")
