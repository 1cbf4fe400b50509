"""Where tokenizers come from, and what is said of broken ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from tok_cases import DATA, fuzz_lines, unigram192
from tok_native import NativeTokenizer

from tinyexport import tok
from tinyexport.errors import TokenizerError
from tinyexport.tok import charfacts, gguf, llama2c, spm


def refuses(call, *args, match: str | None = None) -> None:
    with pytest.raises(TokenizerError, match=match) as caught:
        call(*args)
    assert caught.value.hint and "\n" not in caught.value.message


def test_a_folder_prefers_tokenizer_json(shared):
    folder = shared / "checkpoints" / "stories260k"
    assert tok.load(folder).pack() == tok.load(folder / "tokenizer.json").pack()
    assert tok.load(folder / "tokenizer.model").pack() != tok.load(folder).pack()


def test_facts_of_the_real_tokenizers(shared):
    tinytalk = tok.load(shared / "checkpoints" / "tinytalk-pruned")
    assert (tinytalk.vocab_size, tinytalk.bos, tinytalk.eos, tinytalk.add_bos) == (14019, 14018, 14018, False)
    assert tinytalk.special == {"<|endoftext|>": 14018}
    assert tinytalk.piece_text(14018) == "<|endoftext|>"
    stories = tok.load({"tokenizer_bin": shared / "checkpoints" / "stories260k" / "tok512.bin"})
    assert (stories.vocab_size, stories.bos, stories.eos, stories.unk, stories.add_bos) == (512, 1, 2, 0, True)


def test_gguf_vocabulary_is_the_llama2c_one(shared):
    from tinyexport import loaders

    raw = loaders.load(str(shared / "checkpoints" / "stories260k-gguf" / "stories260k-f32.gguf"))
    from_gguf = tok.load({}, gguf=raw.gguf_tokenizer)
    assert from_gguf.pack() == tok.load(shared / "checkpoints" / "stories260k" / "tok512.bin").pack()


def test_gguf_byte_level_vocabulary(shared):
    data = json.loads((shared / "checkpoints" / "tinytalk-pruned" / "tokenizer.json").read_text())
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    tokens = sorted(vocab, key=vocab.get) + (["<|endoftext|>"] if "<|endoftext|>" not in vocab else [])
    types = [spm.CONTROL if t == "<|endoftext|>" else spm.NORMAL for t in tokens]
    fields = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "merges": [" ".join(m) for m in merges],
        "token_type": types,
    }
    native = NativeTokenizer(gguf.load(fields).pack())
    original = NativeTokenizer(tok.load(shared / "checkpoints" / "tinytalk-pruned").pack())
    for line in fuzz_lines():
        assert native.encode(line) == original.encode(line)


def test_missing_and_unknown_files(tmp_path):
    refuses(tok.load, {}, match="no tokenizer")
    refuses(tok.load, tmp_path, match="no tokenizer")
    refuses(tok.load, tmp_path / "tokenizer.json", match="can not be read")
    refuses(tok.load, tmp_path / "tokenizer.txt", match="known kind")
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    refuses(tok.load, tmp_path, match="UTF-8")
    (tmp_path / "tokenizer.json").write_text("{")
    refuses(tok.load, tmp_path, match="JSON")
    refuses(gguf.load, {"model": "bert", "tokens": ["a"]}, match="bert")
    refuses(gguf.load, {"model": "llama", "tokens": ["a"]}, match="scores")
    refuses(gguf.load, {"model": "gpt2", "pre": "falcon", "tokens": ["a"]}, match="falcon")


def test_a_cut_tokenizer_json_is_refused(shared, tmp_path):
    text = (shared / "checkpoints" / "stories260k" / "tokenizer.json").read_text()
    for size in range(0, len(text) - 2, 97):
        (tmp_path / "tokenizer.json").write_text(text[:size])
        refuses(tok.load, tmp_path)


def test_a_cut_tokenizer_model_is_refused():
    data = (DATA / "unigram-bytes.model").read_bytes()
    end = len(data)
    for size in [*range(0, end - 400, 131), end - 40, end - 1]:
        refuses(spm.load, data[:size], match="damaged")
    spm.load(data)


def test_a_damaged_character_map_is_refused(tmp_path):
    data = bytearray(unigram192(tmp_path).read_bytes())
    at = data.index(b"nmt_nfkc") + 8 + 4  # the map follows its name
    for offset, value in ((0, 0xFF), (400, 0x41), (90_000, 0x3F)):
        broken = bytearray(data)
        broken[at + offset : at + offset + 24] = bytes([value]) * 24
        refuses(spm.load, bytes(broken))


def test_llama2c_files_whose_lengths_lie(shared):
    data = (shared / "checkpoints" / "stories260k" / "tok512.bin").read_bytes()
    for size in (0, 4, 7, 100, len(data) - 1):
        refuses(llama2c.load, data[:size])
    refuses(llama2c.load, data[:8] + struct.pack("<i", 1 << 30) + data[12:], match="damaged")
    refuses(llama2c.load, data[:8] + struct.pack("<i", -1) + data[12:], match="damaged")
    refuses(llama2c.load, data[:4] + struct.pack("<f", float("nan")) + data[8:], match="damaged")


def piece(text: str, score: float = 0.0, kind: int = spm.NORMAL) -> spm.Piece:
    return spm.Piece(text, score, kind)


def test_sentencepiece_vocabularies_that_can_not_work():
    base = [piece("<unk>", 0, spm.UNKNOWN), piece("a", -1), piece("▁", -2)]
    refuses(spm.from_pieces, [*base, piece("a", -3)], 1, match="twice")
    refuses(spm.from_pieces, [*base, piece("", -3)], 1, match="empty")
    refuses(spm.from_pieces, [*base, piece("ab", 0, spm.UNUSED)], 2, match="unused")
    refuses(spm.from_pieces, [*base, piece("a b", 0, spm.USER_DEFINED)], 1, match="space")
    refuses(spm.from_pieces, [*base, piece("<0xZZ>", 0, spm.BYTE)], 1, match="byte")
    refuses(spm.from_pieces, base, 9, match="type 9")
    refuses(tok.check, spm.from_pieces([*base, piece("b", float("inf"))], 1), match="finite")


def test_pieces_that_nothing_reaches_are_kept_as_they_are():
    """A unigram whose pieces can not win, or whose characters have no piece of their own."""
    pieces = [
        piece("<unk>", 0, spm.UNKNOWN),
        piece("▁", -1),
        piece("a", -1),
        piece("b", -1),
        piece("ab", -50),
        piece("cd", -3),
    ]
    native = NativeTokenizer(spm.from_pieces(pieces, 1).pack())
    assert native.encode("ab") == [2, 3]
    assert native.encode("cdab") == [5, 2, 3]
    assert native.encode("cab") == [0, 2, 3]
    assert native.piece(4) == b"ab"


def test_a_normaliser_that_does_not_factor_is_refused():
    refuses(charfacts.factor, {"ab": "xyz"}, match="normaliser")
    assert charfacts.factor({"a": "bc", "d": ""}).apply("ax") == ("bc", 1)


def test_pieces_longer_than_the_runtime_holds(tmp_path: Path):
    data = {
        "model": {"type": "WordLevel", "vocab": {"a": 0, "x" * 600: 1}, "unk_token": "a"},
        "decoder": {"type": "Fuse"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    refuses(tok.load, tmp_path, match="600 bytes")


def test_a_character_vocabulary_alone(tmp_path: Path):
    (tmp_path / "vocab.json").write_text(json.dumps({"<unk>": 0, "a": 1, "é": 2, " ": 3}))
    native = NativeTokenizer(tok.load(tmp_path).pack())
    assert native.encode("a éz") == [1, 3, 2, 0]
    assert native.decode([1, 3, 2]) == "a é".encode()
    (tmp_path / "vocab.json").write_text(json.dumps({"ab": 0}))
    refuses(tok.load, tmp_path, match="merges")
