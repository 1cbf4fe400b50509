"""The vocabulary that a GGUF file carries, by llama.cpp's rules for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..blob.schema_tok import TokFlag, TokPrefix
from ..errors import TokenizerError
from . import hf, hf_steps, spm
from .model import Tokenizer

HINT = "give the tokenizer of the original model with --tokenizer"
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_PRE: dict[str, dict[str, Any]] = {
    "gpt-2": {**_BYTE_LEVEL, "use_regex": True},
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, {**_BYTE_LEVEL, "use_regex": True}],
    },
}


def load(fields: Mapping[str, Any]) -> Tokenizer:
    """A tokenizer from the `tokenizer.ggml.*` fields, prefix removed; TokenizerError when they do not fit."""
    kind = fields.get("model")
    if kind == "llama":
        out = _sentencepiece(fields)
    elif kind == "gpt2":
        out = _byte_level(fields)
    else:
        raise TokenizerError(f"the GGUF file has a tokenizer of the kind {kind!r}", HINT)
    for name in ("bos", "eos"):
        value = fields.get(f"{name}_token_id")
        if value is not None:
            setattr(out, name, int(value))
    given = fields.get("add_bos_token")
    out.add_bos = bool(given) if given is not None else (True if kind == "llama" else None)
    return out


def _sentencepiece(fields: Mapping[str, Any]) -> Tokenizer:
    tokens = fields["tokens"]
    scores, types = fields.get("scores"), fields.get("token_type")
    if not isinstance(scores, list) or not isinstance(types, list) or not len(tokens) == len(scores) == len(types):
        raise TokenizerError("the GGUF vocabulary has no scores or types for its tokens", HINT)
    pieces = [spm.Piece(str(t), float(s), int(k)) for t, s, k in zip(tokens, scores, types, strict=True)]
    out = spm.from_pieces(pieces, 2, b"<unk>")
    if fields.get("add_space_prefix", True):
        out.prefix = TokPrefix.ALWAYS
        out.flags |= TokFlag.STRIP_FIRST
    return out


def _byte_level(fields: Mapping[str, Any]) -> Tokenizer:
    pre = fields.get("pre", "gpt-2")
    splits = {
        "llama-bpe": hf_steps.GPT4_PATTERN, "llama3": hf_steps.GPT4_PATTERN, "qwen2": hf_steps.GPT4_DIGIT_PATTERN,
    }  # fmt: skip
    if pre in splits:
        regex = {"type": "Split", "pattern": {"Regex": splits[pre]}, "behavior": "Isolated", "invert": False}
        pre_tokenizer: dict[str, Any] = {"type": "Sequence", "pretokenizers": [regex, _BYTE_LEVEL]}
    elif pre in _PRE:
        pre_tokenizer = _PRE[pre]
    else:
        raise TokenizerError(f"the GGUF file splits words by {pre!r}, which the runtime does not do", HINT)
    tokens, types = fields["tokens"], fields.get("token_type") or [spm.NORMAL] * len(fields["tokens"])
    added = [
        {"id": i, "content": token, "special": types[i] == spm.CONTROL}
        for i, token in enumerate(tokens)
        if types[i] in (spm.CONTROL, spm.USER_DEFINED)
    ]
    model = {
        "type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": fields.get("merges") or [],
        "ignore_merges": pre in ("llama-bpe", "llama3"),
    }  # fmt: skip
    data = {"added_tokens": added, "pre_tokenizer": pre_tokenizer, "decoder": _BYTE_LEVEL, "model": model}
    out = hf.load(json.dumps(data))
    out.reference = None
    return out
