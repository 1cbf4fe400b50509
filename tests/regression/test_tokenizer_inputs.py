"""Texts that tokenizers once got wrong."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "py"))
from tok_cases import DATA, unigram192
from tok_native import CONTINUE, NativeTokenizer

from tinyexport import native, tok
from tinyexport.errors import TokenizerError
from tinyexport.tok import hf, hf_steps
from tinyexport.tok.charfacts import Facts


@pytest.mark.skipif(not native.library_path().is_file(), reason="the compiled runtime is not here (TINYEXPORT_LIB)")
def test_the_space_before_a_reply_stays(shared: Path) -> None:
    """A decoder begun after a prompt dropped the first space, as at the start of a text."""
    from tinyexport.pipeline import QuantizeOptions, SourceOptions, quantize
    from tinyexport.runtime import Model, Sampler, generate

    blob = quantize(SourceOptions(str(shared / "checkpoints" / "stories260k")), QuantizeOptions(preset="f32")).data
    model = Model(blob)
    for prompt, begins in (("Once upon a time, there", " was"), ("", "Once")):
        reply = generate(model.session(), Sampler(model, temperature=0.0), model.encode(prompt, bos=True), 5)
        assert "".join(step.text for step in reply).startswith(begins)


def test_a_continued_text_is_not_trimmed_in_front() -> None:
    """Trimming took the space between two parts of one prompt."""
    native_tok = NativeTokenizer(tok.load(DATA / "unigram-bytes.model").pack())
    parts = [*native_tok.encode("the"), *native_tok.encode(" dog", CONTINUE)]
    assert native_tok.decode(parts) == b"the dog"


def test_the_sign_for_unknown_keeps_its_space(tmp_path: Path) -> None:
    """sentencepiece drops the space of the first piece, but not the one it writes for an unknown piece."""
    unigram = NativeTokenizer(tok.load(unigram192(tmp_path)).pack())
    assert unigram.decode([0]) == " \u2047 ".encode()


def test_characters_that_stand_composed_compose_no_further(tmp_path: Path) -> None:
    """U+01AF and an acute are two characters to sentencepiece, U, horn and acute are one."""
    facts = tok.load(unigram192(tmp_path)).charmap
    assert facts.apply("U\u031b\u0301") == ("\u1ee8", 3)
    assert facts.apply("\u01af\u0301") == ("\u01af", 1)
    assert facts.apply("\u327e\u11b5") == ("\uc6b0", 1)  # a circled syllable takes no final consonant


def test_a_map_may_end_with_a_character_that_goes_away() -> None:
    """The check wanted bytes after the last run, which has none when it becomes nothing."""
    words = tok.load(DATA / "unigram-bytes.model")
    words.charmap = Facts({"\u00ad": ""})
    assert NativeTokenizer(words.pack()).encode("the\u00ad dog") == NativeTokenizer(words.pack()).encode("the dog")


def test_lower_case_is_the_library_s() -> None:
    """Python's own tables are older than those of the tokenizers library, and the reverse."""
    from tokenizers.normalizers import Lowercase

    lower = hf_steps.lowercase_map()
    for ch in "\u1c89\u13a0\u0130\u1e9eA":
        assert lower.get(ch, ch) == Lowercase().normalize_str(ch)


def test_deep_json_is_refused(tmp_path: Path) -> None:
    """Nesting beyond what Python's parser takes ended in a traceback."""
    deep = '{"a":' * 5000 + "1" + "}" * 5000
    (tmp_path / "tokenizer.json").write_text(deep)
    with pytest.raises(TokenizerError, match="not readable JSON"):
        tok.load(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError, match="not readable JSON"):
        hf.load_vocab_merges(deep, None)
    for depth in (100, 400, 450):
        steps = '{"type": "Sequence", "normalizers": [' * depth + "]}" * depth
        with contextlib.suppress(TokenizerError):
            hf.load('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "normalizer": ' + steps + "}")
