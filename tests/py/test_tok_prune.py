"""A pruned vocabulary encodes what uses kept pieces as before, and everything else somehow."""

from __future__ import annotations

from pathlib import Path

import pytest
from tok_cases import DATA, broken_lines, fuzz_lines, prose, random_texts, unigram192
from tok_native import SPECIAL, NativeTokenizer

from tinyexport import tok
from tinyexport.blob.schema_tok import TokFlag, TokKind
from tinyexport.errors import TokenizerError
from tinyexport.native import library_path

pytestmark = pytest.mark.skipif(
    not library_path().is_file(), reason="the compiled runtime is not here (TINYEXPORT_LIB)"
)


def source(name: str, folder: Path, shared: Path | None = None) -> tok.Tokenizer:
    if name == "unigram192":
        return tok.load(unigram192(folder))
    if name == "unigram_bytes":
        return tok.load(DATA / "unigram-bytes.model")
    paths = {
        "gpt2": "tokenizers/gpt2/tokenizer.json.xz", "tinytalk": "checkpoints/tinytalk-pruned",
        "spm_bpe": "checkpoints/stories260k/tokenizer.model", "llama2c": "checkpoints/stories260k/tok512.bin",
        "stories_json": "checkpoints/stories260k/tokenizer.json",
    }  # fmt: skip
    assert shared is not None
    return tok.load(shared / paths[name])


def holds(tokenizer: tok.Tokenizer, text: str, lines: list[str], **options: int) -> dict:
    """Prunes by `text`, checks the promise on `lines`, gives the report."""
    pruned, keep, report = tok.prune(tokenizer, text, **options)
    assert keep == sorted(set(keep)) and len(keep) == pruned.vocab_size == report["pieces"]
    old, new = NativeTokenizer(tokenizer.pack()), NativeTokenizer(pruned.pack())
    number = {i: n for n, i in enumerate(keep)}
    unchanged = 0
    for line in lines:
        before, after = old.encode(line, SPECIAL), new.encode(line, SPECIAL)
        if all(i in number for i in before):
            assert after == [number[i] for i in before], line
            unchanged += 1
        elif tokenizer.flags & (TokFlag.BYTES | TokFlag.BYTE_FALLBACK):
            assert new.decode(after) == old.decode(before), line
    assert unchanged > len(lines) // 10
    for s, text_ in ((s, s.text) for s in tokenizer.specials):
        assert new.piece(number[s.id]) == text_
    if tokenizer.flags & TokFlag.BYTES:
        for data in broken_lines():
            assert new.decode(new.encode(data)) == data
    return report


@pytest.mark.parametrize("name", ["gpt2", "tinytalk", "spm_bpe", "llama2c", "stories_json"])
def test_real_vocabularies(name, shared, tmp_path):
    chat = "\n".join(prose("chat-val.txt.xz")[:700])
    report = holds(source(name, tmp_path, shared), chat, prose("chat-val.txt.xz")[:1200] + fuzz_lines(), min_count=2)
    assert 0.9 < report["covered"] <= 1


@pytest.mark.parametrize("name", ["unigram192", "unigram_bytes"])
def test_unigram(name, tmp_path):
    lines = prose("tinystories-valid.txt.xz")[:300]
    report = holds(source(name, tmp_path), "\n".join(lines[:60]), lines + random_texts(300), min_count=5)
    assert report["pieces"] < report["pieces_before"]


def test_gpt2_on_chat_keeps_what_chat_uses(shared, tmp_path):
    gpt2 = source("gpt2", tmp_path, shared)
    text = "\n".join(prose("chat-val.txt.xz"))
    pruned, keep, report = tok.prune(gpt2, text)
    assert report["covered"] == 1 and report["text_tokens"] == report["text_tokens_before"]
    assert len(pruned.pack()) < len(gpt2.pack()) / 8
    assert keep[-1] == 50256 and pruned.eos == len(keep) - 1
    with_source = NativeTokenizer(pruned.pack())
    number = {i: n for n, i in enumerate(keep)}
    for line in prose("chat-val.txt.xz")[:200]:
        assert with_source.encode(line, SPECIAL) == [number[i] for i in gpt2.reference_encode(line)]


def test_max_tokens_is_a_limit_and_takes_the_most_used(shared, tmp_path):
    tinytalk = source("tinytalk", tmp_path, shared)
    text = "\n".join(prose("chat-val.txt.xz")[:700])
    sizes = []
    for limit in (300, 600, 1200):
        _, keep, report = tok.prune(tinytalk, text, max_tokens=limit)
        assert len(keep) <= limit
        sizes.append(report["covered"])
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_bad_requests(tmp_path):
    tokenizer = source("unigram_bytes", tmp_path)
    for text, options, match in (
        ("the dog", {"min_count": 0}, "at least 1"),
        ("the dog", {"max_tokens": -3}, "at least 1"),
        ("the dog", {"max_tokens": 20}, "must stay"),
        ("the dog", {"min_count": 1, "max_tokens": 500}, "exclude"),
        ("", {}, "uses no piece"),
    ):
        with pytest.raises(TokenizerError, match=match) as caught:
            tok.prune(tokenizer, text, **options)
        assert caught.value.hint
    with pytest.raises(TokenizerError, match="word vocabulary"):
        tok.prune(tok.Tokenizer(TokKind.WORD, [b"a"]), "a")


def test_pruned_vocabularies_have_no_reference(tmp_path):
    pruned, _, _ = tok.prune(source("unigram_bytes", tmp_path), "the little dog")
    with pytest.raises(TokenizerError, match="reference"):
        pruned.reference_encode("the")
