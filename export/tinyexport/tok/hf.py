"""tokenizer.json of the `tokenizers` library, read as plain JSON.

What the runtime does not do exactly is refused by name: a tokenizer that is almost right costs more
than one that is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..blob.schema_tok import TokFlag, TokKind, TokSpecialFlag
from ..errors import TokenizerError
from . import hf_steps
from .model import MARK, Merge, Special, Tokenizer, byte_letters, byte_piece, has_inner_space

HINT = "repair tokenizer.json, or give another tokenizer with --tokenizer"
_BOS_NAMES = ("<s>", "<|begin_of_text|>", "<bos>", "[BOS]", "<|bos|>", "<|startoftext|>")
_EOS_NAMES = ("</s>", "<|end_of_text|>", "<eos>", "[EOS]", "<|eos|>", "<|endoftext|>")


def load(text: str, config: dict[str, Any] | None = None) -> Tokenizer:
    """A tokenizer from the text of tokenizer.json and the content of tokenizer_config.json.

    TokenizerError when it is broken or asks for something that the runtime does not do.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise TokenizerError(f"tokenizer.json is not readable JSON ({err})", HINT) from None
    try:
        out = _load(data, config or {})
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as err:
        raise TokenizerError(f"tokenizer.json is damaged ({type(err).__name__}: {err})", HINT) from None
    out.reference = _reference(text)
    return out


def _reference(text: str) -> Callable[[str], list[int]]:
    loaded: list[Any] = []

    def encode(line: str) -> list[int]:
        from tokenizers import Tokenizer as Library

        if not loaded:
            loaded.append(Library.from_str(text))
        return list(loaded[0].encode(line, add_special_tokens=False).ids)

    return encode


def _load(data: dict[str, Any], config: dict[str, Any]) -> Tokenizer:
    if not isinstance(data, dict) or not isinstance(data.get("model"), dict):
        raise TokenizerError("tokenizer.json has no model", HINT)
    steps = hf_steps.read(data)
    model = data["model"]
    kind = model.get("type") or ("BPE" if "merges" in model else None)
    makers = {"BPE": _bpe, "Unigram": _unigram, "WordLevel": _word_level}
    if kind not in makers:
        raise TokenizerError(
            f"tokenizer.json holds a {kind} model, which the runtime does not have",
            "BPE, Unigram and WordLevel models can be exported",
        )
    added = [entry for entry in data.get("added_tokens") or [] if entry["content"]]
    out = makers[kind](model, steps, added)
    out.prefix, out.splits, out.charmap = steps.prefix, tuple(steps.splits), steps.charmap
    out.flags |= steps.flags
    out.specials = [_special(entry) for entry in added]
    if not out.splits and not has_inner_space(out) and out.flags & TokFlag.ESCAPE:
        out.splits = (hf_steps.TokSplit.SPACE,)
        out.flags |= TokFlag.FUSE_WORDS  # no word ends here for the library
    _set_ends(out, data.get("post_processor"), config)
    return out


def _special(entry: dict[str, Any]) -> Special:
    if entry.get("single_word"):
        raise TokenizerError(
            f"the added token {entry['content']!r} matches single words only, which the runtime does not do", HINT
        )
    flags = TokSpecialFlag.MATCH | TokSpecialFlag.HIDDEN if entry.get("special") else TokSpecialFlag.ALWAYS
    flags |= TokSpecialFlag.LSTRIP if entry.get("lstrip") else TokSpecialFlag(0)
    flags |= TokSpecialFlag.RSTRIP if entry.get("rstrip") else TokSpecialFlag(0)
    return Special(int(entry["id"]), entry["content"].encode(), flags)


def _names(vocab: dict[str, int], added: list[dict[str, Any]]) -> list[str | None]:
    """The piece of each id; None for a gap."""
    ids = {**vocab, **{entry["content"]: entry["id"] for entry in added}}
    if not ids or any(not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < 1 << 20 for i in ids.values()):
        raise TokenizerError("the vocabulary of tokenizer.json is empty or has ids out of range", HINT)
    names: list[str | None] = [None] * (max(ids.values()) + 1)
    for name, i in ids.items():
        if names[i] is not None and names[i] != name:
            raise TokenizerError(f"tokenizer.json gives id {i} to two pieces", HINT)
        names[i] = name
    return names


def _text(name: str | None, escape: bool) -> bytes:
    return b"" if name is None else (name.replace(MARK, " ") if escape else name).encode("utf-8")


def _findable(names: list[str | None], escape: bool, hidden: set[int]) -> list[int]:
    """Ids that encoding can find by their text; of two equal texts the one written with the mark."""
    by_text: dict[bytes, int] = {}
    for i, name in enumerate(names):
        if name and i not in hidden and not (escape and " " in name):
            by_text[_text(name, escape)] = i
    return sorted(by_text.values())


def _fallback(names: list[str | None]) -> list[int | None]:
    alphabet: list[int | None] = [None] * 256
    for i, name in enumerate(names):
        byte = byte_piece(name or "")
        if byte is not None:
            alphabet[byte] = i
    return alphabet


def _unk(model: dict[str, Any], vocab: dict[str, int]) -> int | None:
    name = model.get("unk_token")
    if name is None:
        return None
    if name not in vocab:
        raise TokenizerError(f"the unknown piece {name!r} of tokenizer.json is not in its vocabulary", HINT)
    return vocab[name]


def _pair(entry: Any) -> tuple[str, str]:
    left, right = entry.split(" ") if isinstance(entry, str) else entry
    return left, right


def _merges(model: dict[str, Any], vocab: dict[str, int]) -> list[Merge]:
    found: dict[tuple[int, int], Merge] = {}
    for rank, entry in enumerate(model.get("merges") or []):
        left, right = _pair(entry)
        for name in (left, right, left + right):
            if name not in vocab:
                raise TokenizerError(f"merge {rank} of tokenizer.json needs {name!r}, which is no piece", HINT)
        pair = vocab[left], vocab[right]
        found[pair] = Merge(*pair, vocab[left + right], rank)  # the library keeps the last of two equal pairs
    return sorted(found.values(), key=lambda m: m.rank)


def _bpe(model: dict[str, Any], steps: hf_steps.Steps, added: list[dict[str, Any]]) -> Tokenizer:
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise TokenizerError(f"tokenizer.json uses {name}, which the runtime does not do", HINT)
    vocab = model["vocab"]
    names = _names(vocab, added)
    out = Tokenizer(TokKind.BPE, [], merges=_merges(model, vocab), unk=_unk(model, vocab))
    out.flags |= TokFlag.FUSE_UNK if model.get("fuse_unk") else TokFlag(0)
    out.flags |= TokFlag.WORD_FIRST if model.get("ignore_merges") else TokFlag(0)
    special = {entry["id"] for entry in added}
    if steps.bytes_first:
        letters = byte_letters()
        out.flags |= TokFlag.BYTES
        out.pieces = [_letters_text(name, letters, i in special) for i, name in enumerate(names)]
        out.alphabet = [None] * 256
        for letter, byte in letters.items():
            out.alphabet[byte] = vocab.get(letter)
        by_text = {text: i for i, text in enumerate(out.pieces) if text and i not in special}
        out.findable = sorted(by_text.values())
        return out
    return _with_characters(out, names, steps, special, bool(model.get("byte_fallback")))


def _letters_text(name: str | None, letters: dict[str, int], special: bool) -> bytes:
    if name is not None and not special and all(ch in letters for ch in name):
        return bytes(letters[ch] for ch in name)
    return _text(name, escape=False)


def _with_characters(
    out: Tokenizer, names: list[str | None], steps: hf_steps.Steps, special: set[int], fallback: bool
) -> Tokenizer:
    """Pieces of a vocabulary whose words start from characters, with or without byte pieces."""
    escape = bool(steps.flags & TokFlag.ESCAPE)
    out.pieces = [_text(name, escape) for name in names]
    hidden = set(special)
    if fallback:
        out.flags |= TokFlag.BYTE_FALLBACK
        out.alphabet = _fallback(names)
        for byte, i in enumerate(out.alphabet):
            if i is not None:
                out.pieces[i] = bytes([byte])
                hidden.add(i)
        if any({m.left, m.right} & hidden for m in out.merges):
            raise TokenizerError("tokenizer.json merges byte pieces, which the runtime does not do", HINT)
    out.findable = _findable(names, escape, hidden)
    return out


def _unigram(model: dict[str, Any], steps: hf_steps.Steps, added: list[dict[str, Any]]) -> Tokenizer:
    vocab = {name: i for i, (name, _) in enumerate(model["vocab"])}
    scores = [float(score) for _, score in model["vocab"]]
    names = _names(vocab, added)
    out = Tokenizer(TokKind.UNIGRAM, [], unk=model.get("unk_id"), flags=TokFlag.DOUBLE | TokFlag.FUSE_UNK)
    out.scores = scores + [0.0] * (len(names) - len(scores))
    out.unk_score = min(scores) - 10.0
    special = {entry["id"] for entry in added}
    return _with_characters(out, names, steps, special, bool(model.get("byte_fallback")))


def _word_level(model: dict[str, Any], steps: hf_steps.Steps, added: list[dict[str, Any]]) -> Tokenizer:
    vocab = model["vocab"]
    names = _names(vocab, added)
    out = Tokenizer(TokKind.WORD, [], unk=_unk(model, vocab) if model.get("unk_token") in vocab else None)
    return _with_characters(out, names, steps, {entry["id"] for entry in added}, False)


# ---- BOS and EOS -------------------------------------------------------------------------------------


def _name_of(entry: Any) -> str | None:
    return entry.get("content") if isinstance(entry, dict) else entry


def _template_bos(post: dict[str, Any] | None) -> tuple[bool | None, str | None]:
    """Whether the post-processor puts a special piece first, and which."""
    if not isinstance(post, dict):
        return None, None
    if post.get("type") == "Sequence":
        found = [_template_bos(step) for step in post["processors"]]
        return max(found, key=lambda f: (f[0] is not None, bool(f[0])), default=(None, None))
    if post.get("type") == "TemplateProcessing":
        first = post["single"][0] if post.get("single") else {}
        return ("SpecialToken" in first, first["SpecialToken"]["id"] if "SpecialToken" in first else None)
    return (False, None) if post.get("type") == "ByteLevel" else (None, None)


def _set_ends(out: Tokenizer, post: dict[str, Any] | None, config: dict[str, Any]) -> None:
    """BOS, EOS and whether BOS is put first: tokenizer_config.json, else the template, else usual names."""
    special = out.special
    adds, first = _template_bos(post)
    names = {"bos": [_name_of(config.get("bos_token")), first], "eos": [_name_of(config.get("eos_token"))]}
    for field, usual in (("bos", _BOS_NAMES), ("eos", _EOS_NAMES)):
        candidates = [
            name for name in (*names[field], *(() if f"{field}_token" in config else usual)) if name in special
        ]
        setattr(out, field, special[candidates[0]] if candidates else None)
    given = config.get("add_bos_token")
    out.add_bos = given if isinstance(given, bool) else adds


def load_vocab_merges(vocab: str, merges: str | None) -> Tokenizer:
    """GPT-2's vocab.json and merges.txt, or a vocab.json of characters or words alone."""
    try:
        pieces = json.loads(vocab)
    except (ValueError, RecursionError) as err:
        raise TokenizerError(f"vocab.json is not readable JSON ({err})", HINT) from None
    if not isinstance(pieces, dict) or not pieces:
        raise TokenizerError("vocab.json is not an object of pieces and ids", HINT)
    if merges is None:
        return _bare_vocab(pieces)
    lines = [line for line in merges.splitlines() if line and not line.startswith("#version")]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    ends = [name for name in ("<|endoftext|>",) if name in pieces]
    added = [
        {"id": pieces[name], "content": name, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for name in ends
    ]  # fmt: skip
    model = {"type": "BPE", "vocab": pieces, "merges": [line.split(" ") for line in lines], "unk_token": None}
    data = {
        "version": "1.0", "added_tokens": added, "normalizer": None, "pre_tokenizer": byte_level,
        "post_processor": byte_level, "decoder": byte_level, "model": model,
    }  # fmt: skip
    end = {"bos_token": ends[0], "eos_token": ends[0]} if ends else {}
    return load(json.dumps(data), end)


def _bare_vocab(pieces: dict[str, int]) -> Tokenizer:
    """Every piece one character: a character vocabulary. Anything else lacks its rules."""
    if any(len(name) != 1 and not (name.startswith("<") and name.endswith(">")) for name in pieces):
        raise TokenizerError("vocab.json comes without merges.txt", "put merges.txt beside it, or give tokenizer.json")
    special = [name for name in pieces if len(name) != 1]
    unk = next((name for name in special if "unk" in name.lower()), None)
    added = [{"id": pieces[name], "content": name, "special": True} for name in special]
    data = {
        "added_tokens": added,
        "pre_tokenizer": {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated"},
        "decoder": {"type": "Fuse"}, "model": {"type": "WordLevel", "vocab": pieces, "unk_token": unk},
    }  # fmt: skip
    out = load(json.dumps(data))
    out.reference = None
    return out
