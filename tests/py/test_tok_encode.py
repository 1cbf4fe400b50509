"""Encode and decode in C are those of the library that a tokenizer comes from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tok_cases import (
    DATA,
    LINES,
    broken_lines,
    fuzz_lines,
    prose,
    random_bytes,
    random_texts,
    unigram192,
)
from tok_native import BOS, CONTINUE, NO_TOKEN, SPECIAL, NativeError, NativeTokenizer

from tinyexport import tok
from tinyexport.blob.schema_tok import TokFlag

CHECKPOINTS = {
    "tinytalk": "checkpoints/tinytalk-pruned",
    "stories260k": "checkpoints/stories260k",
    "gpt2": "tokenizers/gpt2/tokenizer.json.xz",
}


@pytest.fixture(scope="module")
def real(shared: Path) -> dict[str, tuple[tok.Tokenizer, NativeTokenizer]]:
    loaded = {name: tok.load(shared / path) for name, path in CHECKPOINTS.items()}
    return {name: (t, NativeTokenizer(t.pack(), t.vocab_size)) for name, t in loaded.items()}


# ---- the real tokenizers -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_fuzz_lines_have_the_expected_ids(real, shared, name):
    native = real[name][1]
    expected = [
        json.loads(line)[name] for line in (shared / "text/tokenizer-fuzz.expected.jsonl").read_text().splitlines()
    ]
    for line, ids in zip(fuzz_lines(), expected, strict=False):
        assert native.encode(line, SPECIAL) == ids, line
        plain = line.replace("▁", " ") if name == "stories260k" else line
        assert native.decode(native.encode(line)).decode() == plain


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_prose_and_random_text_equal_the_library(real, name):
    tokenizer, native = real[name]
    lines = [*prose("chat-val.txt.xz")[:2002], *prose("tinystories-valid.txt.xz")[:998], *random_texts(1000)]
    for line in lines:
        assert native.encode(line, SPECIAL) == tokenizer.reference_encode(line), line


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_any_bytes_come_back(real, name):
    native = real[name][1]
    for data in [*broken_lines(), *random_bytes(1500), bytes(range(256)) * 3]:
        if "▁".encode() not in data or name != "stories260k":  # which sentencepiece can not tell from a space
            assert native.decode(native.encode(data)) == data


def test_llama_cpp_vectors(real, shared):
    folder = shared / "tokenizers" / "llama.cpp-vectors"
    texts = (folder / "gpt-2.inp").read_bytes().split(b"\n__ggml_vocab_test__\n")
    ids = [[int(i) for i in line.split()] for line in (folder / "gpt-2.out").read_text().splitlines()]
    native = real["gpt2"][1]
    assert len(texts) >= 40
    for text, expected in zip(texts, ids, strict=False):
        assert native.encode(text) == expected, text


def test_section_sizes(real, tmp_path):
    assert len(real["tinytalk"][0].pack()) <= 125_000
    assert len(tok.load(unigram192(tmp_path)).pack()) <= 5_000  # of the 7 KB that a 260,000-byte blob leaves


def test_equal_input_gives_equal_sections(shared):
    path = shared / CHECKPOINTS["tinytalk"]
    assert tok.load(path).pack() == tok.load(path).pack()


# ---- sentencepiece -----------------------------------------------------------------------------------


def agree(path: Path, lines: list[str]) -> None:
    """Ids and decoded text equal those of the sentencepiece library."""
    from sentencepiece import SentencePieceProcessor

    library = SentencePieceProcessor(model_file=str(path))
    native = NativeTokenizer(tok.load(path).pack())
    for line in lines:
        ids = library.encode(line)
        assert native.encode(line) == ids, line
        assert native.decode(ids, replace=True).decode() == library.decode(ids), line


ALL_LINES = [*LINES, *fuzz_lines(), *prose("chat-val.txt.xz")[:2002], *prose("tinystories-valid.txt.xz")[:998]]


def test_unigram_with_nmt_nfkc(tmp_path):
    agree(unigram192(tmp_path), ALL_LINES + random_texts(6000, 3))


def test_unigram_with_byte_fallback():
    agree(DATA / "unigram-bytes.model", ALL_LINES + random_texts(2000, 4))


def test_bpe_of_stories260k(shared):
    agree(shared / "checkpoints/stories260k/tokenizer.model", ALL_LINES + random_texts(2000, 5))


TRAINED = {
    "bpe_folded_bytes": {
        "model_type": "bpe", "vocab_size": 420, "normalization_rule_name": "nfkc_cf", "byte_fallback": True,
    },
    "bpe_user": {"model_type": "bpe", "vocab_size": 200, "user_defined_symbols": ["<tool>", "th", "é", "Ａ"]},
    "bpe_untrimmed": {"model_type": "bpe", "split_by_whitespace": False, "remove_extra_whitespaces": False},
    "unigram_user": {"vocab_size": 200, "user_defined_symbols": ["<tool>", "the", "Ａ"]},
    "unigram_across_words": {"split_by_whitespace": False},
    "unigram_no_prefix": {"vocab_size": 200, "add_dummy_prefix": False},
    "unigram_ids": {"vocab_size": 200, "unk_id": 3, "bos_id": 0, "eos_id": 1, "pad_id": 2, "unk_surface": "<?>"},
    "char": {"model_type": "char", "vocab_size": 60},
    "word": {"model_type": "word", "vocab_size": 200},
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINED)
def test_sentencepiece_options(name, tmp_path):
    from sentencepiece import SentencePieceTrainer

    text = tmp_path / "text"
    text.write_text("\n".join(line for line in prose("tinystories-valid.txt.xz")[:1200] if line.strip()), "utf-8")
    options = {"vocab_size": 300, "num_threads": 1, "minloglevel": 2, "hard_vocab_limit": False}
    SentencePieceTrainer.train(input=str(text), model_prefix=str(tmp_path / "m"), **(options | TRAINED[name]))
    extra = ["a<tool>b <tool> Ａ the éthé", "THE Ω\u0342 ΣΑΣ \u0345\u0308 Ǆ ﬃ"]
    agree(tmp_path / "m.model", [*fuzz_lines(), *extra, *random_texts(1200, 6)])


def llama2c_encode(pieces: list[tuple[str, float]], text: str) -> list[int]:
    """llama2.c's encode, stated plainly: characters, bytes where there are none, then the best pair first."""
    ids = {text: i for i, (text, _) in reversed(list(enumerate(pieces)))}
    out = [ids[" "]] if text else []
    for ch in text:
        out += [ids[ch]] if ch in ids else [byte + 3 for byte in ch.encode()]
    while True:
        pairs = [(ids.get(pieces[a][0] + pieces[b][0]), i) for i, (a, b) in enumerate(zip(out, out[1:], strict=False))]
        best = max((p for p in pairs if p[0] is not None), key=lambda p: (pieces[p[0]][1], -p[1]), default=None)
        if best is None:
            return out
        out[best[1] : best[1] + 2] = [best[0]]


def test_llama2c_tokenizer(shared):
    from tinyexport.tok import llama2c

    path = shared / "checkpoints/stories260k/tok512.bin"
    pieces = [(p.text.replace("▁", " "), p.score) for p in llama2c.read(path.read_bytes())]
    native = NativeTokenizer(tok.load(path).pack())
    for line in [*fuzz_lines(), *prose("chat-val.txt.xz")[:300]]:
        if "▁" not in line:
            assert native.encode(line) == llama2c_encode(pieces, line), line


# ---- the interface -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> NativeTokenizer:
    return NativeTokenizer(tok.load(DATA / "unigram-bytes.model").pack(), 500)


def test_special_pieces_are_text_unless_asked_for(real):
    for name, text in (("tinytalk", "<|endoftext|>"), ("stories260k", "</s>")):
        native = real[name][1]
        end = native.eos()
        assert native.encode(f"a{text}b", SPECIAL).count(end) == 1
        assert end not in native.encode(f"a{text}b")
        assert native.piece(end) == text.encode()
        assert native.decode([end]) == b""


def test_bos_prefix_and_continuation(small):
    plain = small.encode("the dog")
    assert small.encode("the dog", BOS) == [small.bos(), *plain]
    assert small.decode(plain) == b"the dog"
    rest = small.encode(" the dog", CONTINUE)
    assert small.decode(rest, started=True) == b" the dog"
    assert small.decode(small.encode("dog", CONTINUE), started=True) == b"dog"


def test_a_small_buffer_gets_the_first_ids(small):
    ids = small.encode("Once upon a time")
    with pytest.raises(NativeError, match="OVERFLOW"):
        small.encode("Once upon a time", cap=len(ids) - 1)
    assert small.encode("Once upon a time", cap=len(ids)) == ids


def test_ids_out_of_range(small):
    with pytest.raises(NativeError, match="TOKEN"):
        small.piece(500)
    assert small.piece(470) == b""  # a row that pads the embedding


def test_pieces_are_found_by_their_bytes(real):
    for tokenizer, native in real.values():
        for i in (0, 1, 2, 258, 300, 411, tokenizer.vocab_size - 1):
            found = native.token_id(native.piece(i))
            assert found == i or native.piece(found) == native.piece(i)
        assert native.token_id(b"no such piece") == NO_TOKEN
    assert real["stories260k"][1].token_id(b"\n") == 13  # a byte piece


@pytest.mark.parametrize("replace", [False, True])
def test_streaming_never_cuts_a_character(real, small, replace):
    streams = [native for _, native in real.values()] + [small]
    for native in streams:
        for text in [line for line in fuzz_lines() if "▁" not in line] + random_texts(200, 8):
            parts = native.stream(native.encode(text), replace)
            for part in parts[:-1]:
                part.decode()  # raises when it is half a character
            assert parts[-1] == b""


def test_broken_utf8_is_replaced_as_python_does(real):
    native = real["gpt2"][1]
    for data in [*broken_lines(), *random_bytes(1000, 9)]:
        ids = native.encode(data)
        assert native.decode(ids, replace=True).decode() == data.decode("utf-8", "replace")


def test_long_degenerate_text(real, small):
    streams = [native for _, native in real.values()] + [small]
    for native in streams:
        spaces = [] if native is small else [b" " * 10240]  # which it trims
        for data in (*spaces, b"a" * 10240, b"ab" * 5120, "é".encode() * 5120, b"\xff" * 10240):
            assert native.decode(native.encode(data)) == data


def test_code_point_classes_are_fresh():
    """The generator of this tree, not of an installed package: its file lies beside it."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tinyexport.tok.unicode_gen", "--check"]
    env = os.environ | {"PYTHONPATH": str(root / "export")}
    done = subprocess.run(command, cwd=root / "export", env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_derived_sections_hold_no_text(real):
    from tinyexport.blob.schema_tok import TOK

    flags = {name: TokFlag(TOK.unpack(t.pack())["flags"]) for name, (t, _) in real.items()}
    assert flags["tinytalk"] & TokFlag.DERIVED and flags["gpt2"] & TokFlag.DERIVED
