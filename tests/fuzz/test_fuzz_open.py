"""A blob that lies, with a right checksum, is refused by name or runs; it never makes the runtime read elsewhere."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cbuild
import numpy as np
import pytest

from tinyexport import tok
from tinyexport.blob.content import BlobContent
from tinyexport.blob.schema import PosKind
from tinyexport.blob.writer import build
from tinyexport.spec import LayerSpec
from tinyexport.tok import hf
from tinyexport.tok.model import byte_letters

sys.path.insert(0, str(cbuild.ROOT / "tests" / "c"))
import blobs

ROUNDS = os.environ.get("TLM_FUZZ_ROUNDS", "1000")
SEED = os.environ.get("TLM_FUZZ_SEED", "1")
# Errors that lies of this kind must have met: a fuzzer that only ever breaks the checksum proves nothing.
EXPECTED = {"TLM_OK", "TLM_ERR_FORMAT", "TLM_ERR_LIMIT", "TLM_ERR_WEIGHTS", "TLM_ERR_TRUNCATED", "TLM_ERR_VERSION"}


TOKENIZERS = sorted((cbuild.ROOT / "examples").glob("*/tokenizer.json"))


def lies(blob: bytes, folder: Path) -> dict[str, int]:
    """How many changed blobs each error refused; anything worse fails the test."""
    (folder / "right.tlm").write_bytes(blob)
    fuzz = cbuild.program("clang-asan", Path(__file__).parent / "fuzz_open.c")
    lines = cbuild.run([fuzz, folder / "right.tlm", SEED, ROUNDS]).splitlines()
    tally = {name: int(count) for name, count in map(str.split, lines)}
    print(tally)
    assert sum(tally.values()) == int(ROUNDS) + 1
    return tally


@pytest.mark.parametrize("name", blobs.SPECS)
def test_lies_about_the_model(name: str, tmp_path: Path) -> None:
    tally = lies(blobs.blob(name), tmp_path)
    if int(ROUNDS) >= 1000:
        assert {error for error, count in tally.items() if count} >= EXPECTED


def with_tokenizer(section: bytes, vocab: int) -> bytes:
    """A blob that is mostly tokenizer."""
    model = blobs.spec(dim=8, vocab=vocab, layers=(LayerSpec(4, 8, blobs.PLAIN),), **blobs.no_rope(PosKind.NONE))
    weights = blobs.tensors(model, ("t1",), np.random.default_rng(0))
    return build(BlobContent(spec=model, tensors=weights, tokenizer=section))


@pytest.mark.parametrize("path", TOKENIZERS, ids=lambda p: p.parent.name)
def test_lies_about_the_tokenizer(path: Path, tmp_path: Path) -> None:
    tokenizer = tok.load(path)
    lies(with_tokenizer(tokenizer.pack(), len(tokenizer.pieces)), tmp_path)


def test_lies_about_a_tokenizer_with_scores(shared: Path, tmp_path: Path) -> None:
    tokenizer = tok.load(shared / "checkpoints/stories260k/tok512.bin")
    lies(with_tokenizer(tokenizer.pack(), len(tokenizer.pieces)), tmp_path)


def test_lies_about_a_tokenizer_without_merges(tmp_path: Path) -> None:
    """Tables of merges are not there: a grammar's walk once read, and wrote, where they would be."""
    vocab = {letter: i for i, letter in enumerate(byte_letters())}
    model = {"type": "BPE", "vocab": vocab, "merges": []}
    text = json.dumps({"model": model, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}})
    lies(with_tokenizer(hf.load(text).pack(), 256), tmp_path)
