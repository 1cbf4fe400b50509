"""Every setting of tokenizer.json that is accepted gives the ids and texts of the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tok_cases import fuzz_lines, prose, random_texts
from tok_native import SPECIAL, NativeTokenizer
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers import decoders as dec
from tokenizers import models as mod
from tokenizers import normalizers as norm
from tokenizers import pre_tokenizers as pre
from tokenizers import trainers as train

from tinyexport.errors import TokenizerError
from tinyexport.tok import hf, hf_steps

SPECIALS = ["[UNK]", "<s>", "</s>"]


def byte_level(**options: bool) -> pre.PreTokenizer:
    return pre.ByteLevel(**{"add_prefix_space": False, "use_regex": True, **options})


def after_regex(pattern: str) -> pre.PreTokenizer:
    return pre.Sequence([pre.Split(Regex(pattern), "isolated"), byte_level(use_regex=False)])


def fallback_decoder() -> dec.Decoder:
    return dec.Sequence([dec.Replace("▁", " "), dec.ByteFallback(), dec.Fuse(), dec.Strip(" ", 1, 0)])


def words() -> mod.Model:
    return mod.WordLevel(unk_token="[UNK]")


# name: model, pre-tokeniser, decoder, normaliser
CASES: dict[str, Callable[[], tuple]] = {
    "gpt2": lambda: (mod.BPE(), byte_level(), dec.ByteLevel(), None),
    "prefix_space": lambda: (mod.BPE(), byte_level(add_prefix_space=True), dec.ByteLevel(), None),
    "no_regex": lambda: (mod.BPE(), byte_level(use_regex=False), dec.ByteLevel(), None),
    "llama3": lambda: (mod.BPE(ignore_merges=True), after_regex(hf_steps.GPT4_PATTERN), dec.ByteLevel(), None),
    "qwen2": lambda: (mod.BPE(), after_regex(hf_steps.GPT4_DIGIT_PATTERN), dec.ByteLevel(), None),
    "digits": lambda: (mod.BPE(), pre.Sequence([pre.Digits(True), byte_level()]), dec.ByteLevel(), None),
    "three_steps": lambda: (
        mod.BPE(), pre.Sequence([pre.Digits(False), pre.Punctuation(), byte_level()]), dec.ByteLevel(), None,
    ),
    "lower_case": lambda: (mod.BPE(), byte_level(), dec.ByteLevel(), norm.Lowercase()),
    "missing_bytes": lambda: (mod.BPE(unk_token="[UNK]"), byte_level(), dec.ByteLevel(), None),
    "words": lambda: (words(), pre.Whitespace(), None, None),
    "words_lower": lambda: (words(), pre.WhitespaceSplit(), None, norm.Lowercase()),
    "bert": lambda: (words(), pre.BertPreTokenizer(), None, None),
    "delimiter": lambda: (words(), pre.CharDelimiterSplit(" "), None, None),
    "characters": lambda: (words(), pre.Split("", "isolated"), dec.Fuse(), None),
    "character_bpe": lambda: (mod.BPE(unk_token="[UNK]"), pre.Whitespace(), None, None),
    "metaspace": lambda: (mod.BPE(unk_token="[UNK]", fuse_unk=True), pre.Metaspace(), dec.Metaspace(), None),
    "metaspace_first": lambda: (
        mod.BPE(unk_token="[UNK]"), pre.Metaspace(prepend_scheme="first"), dec.Metaspace(prepend_scheme="first"), None,
    ),
    "metaspace_whole": lambda: (
        mod.BPE(), pre.Metaspace(prepend_scheme="never", split=False), dec.Metaspace(prepend_scheme="never"), None,
    ),
    "unigram": lambda: (mod.Unigram(), pre.Metaspace(), dec.Metaspace(), None),
    "unigram_bytes": lambda: (mod.Unigram(), pre.Metaspace(), fallback_decoder(), None),
    "unigram_words": lambda: (mod.Unigram(), pre.Whitespace(), None, None),
}  # fmt: skip


def build(name: str) -> Tokenizer:
    """A tokenizer of a case, trained on a little prose."""
    model, splitter, decoder, normalizer = CASES[name]()
    out = Tokenizer(model)
    out.pre_tokenizer = splitter
    if normalizer is not None:
        out.normalizer = normalizer
    if decoder is not None:
        out.decoder = decoder
    letters = pre.ByteLevel.alphabet() if isinstance(decoder, dec.ByteLevel) and name != "missing_bytes" else []
    if isinstance(model, mod.BPE):
        trainer = train.BpeTrainer(
            vocab_size=500, special_tokens=SPECIALS, initial_alphabet=letters, show_progress=False
        )
    elif isinstance(model, mod.Unigram):
        trainer = train.UnigramTrainer(vocab_size=150, special_tokens=SPECIALS, unk_token="[UNK]", show_progress=False)
    else:
        trainer = train.WordLevelTrainer(vocab_size=300, special_tokens=SPECIALS, show_progress=False)
    out.train_from_iterator(prose("tinystories-valid.txt.xz")[:250], trainer)
    if name == "unigram_bytes":
        data = json.loads(out.to_str())
        data["model"]["byte_fallback"] = True
        data["model"]["vocab"] += [[f"<0x{i:02X}>", -20.0] for i in range(256)]
        return Tokenizer.from_str(json.dumps(data))
    if name == "gpt2":
        out.add_tokens([AddedToken("<tool>", special=False), "<too", AddedToken("<mask>", lstrip=True, rstrip=True)])
    return out


@pytest.mark.parametrize("name", CASES)
def test_settings(name):
    library = build(name)
    native = NativeTokenizer(hf.load(library.to_str()).pack())
    extra = [
        "a <tool>b<too <mask>  x",
        "<s>hi</s> <s>",
        "  <mask>\t\u2003 y<tool><tool",
        "x</s>  y",
        "I'LL 'ſ it's 1234567",
    ]
    for line in [*extra, *fuzz_lines(), *random_texts(500, 11)]:
        if name == "unigram_bytes" and "<0x" in line:
            continue  # the library reads a byte piece's name in a text as that piece
        ids = library.encode(line, add_special_tokens=False).ids
        assert native.encode(line, SPECIAL) == ids, line
        assert native.decode(ids, replace=True).decode() == library.decode(ids), line


def test_vocab_and_merges_are_the_same_tokenizer(tmp_path):
    from tinyexport import tok

    library = build("no_regex")
    library.pre_tokenizer = byte_level()
    library.model.save(str(tmp_path))
    native = NativeTokenizer(tok.load(tmp_path).pack())
    for line in fuzz_lines():
        if "<s>" not in line and "</s>" not in line:
            assert native.encode(line) == library.encode(line).ids


REFUSED = {
    "normaliser NFC": {"normalizer": {"type": "NFC"}},
    "normaliser Precompiled": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}},
    "pre-tokeniser UnicodeScripts": {"pre_tokenizer": {"type": "UnicodeScripts"}},
    "pre-tokeniser Split": {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a+"}, "behavior": "Isolated"}},
    "decoder WordPiece": {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}},
    "WordPiece model": {"model": {"type": "WordPiece", "vocab": {"a": 0}}},
    "uses dropout": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1}},
    "no model": {"model": None},
    "needs 'b'": {"model": {"type": "BPE", "vocab": {"a": 0, "ab": 1}, "merges": ["a b"]}},
    "two pieces": {"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}},
    "out of range": {"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}},
    "is damaged": {"model": {"type": "BPE", "vocab": [1, 2], "merges": []}},
    "single words": {"added_tokens": [{"id": 1, "content": "x", "single_word": True}]},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_exact_is_refused(reason):
    good = {
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        "pre_tokenizer": None,
        "decoder": {"type": "Fuse"},
    }
    hf.load(json.dumps(good))
    with pytest.raises(TokenizerError, match=reason) as caught:
        hf.load(json.dumps(good | REFUSED[reason]))
    assert caught.value.hint


def test_bos_is_read_from_the_template_and_the_config():
    added = [{"id": 1, "content": "<s>", "special": True}, {"id": 2, "content": "</s>", "special": True}]
    data = {
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        "added_tokens": added,
        "decoder": {"type": "Fuse"},
    }
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}
    assert hf.load(json.dumps(data)).add_bos is None
    assert hf.load(json.dumps(data), {"model_max_length": 512}).eos == 2  # by its usual name
    assert hf.load(json.dumps(data), {"eos_token": None}).eos is None
    with_template = hf.load(json.dumps(data | {"post_processor": template}))
    assert (with_template.bos, with_template.eos, with_template.add_bos) == (1, 2, True)
    config = {"bos_token": {"content": "</s>"}, "eos_token": "<s>", "add_bos_token": False}
    configured = hf.load(json.dumps(data | {"post_processor": template}), config)
    assert (configured.bos, configured.eos, configured.add_bos) == (2, 1, False)
