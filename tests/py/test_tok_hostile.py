"""Damaged sections are refused, or stay within bounds: a C program under ASan and UBSan tries many."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tok_cases import DATA, LINES, SHARED, broken_lines, fuzz_lines, unigram192
from tok_native import ROOT, RUNTIME, NativeError, NativeTokenizer, compiler, sources

from tinyexport import tok
from tinyexport.blob.schema_tok import TOK, TokFlag

ROUNDS = {"unigram192": 6000, "unigram_bytes": 6000, "spm_bpe": 6000, "stories_json": 4000, "tinytalk": 400}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fuzz") / "tok_fuzz"
    files = [s for s in sources() if not s.endswith("tok_harness.c")] + [str(ROOT / "tests" / "c" / "tok_fuzz.c")]
    flags = ["-std=c99", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-ffp-contract=off"]
    includes = [f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}"]
    built = subprocess.run([compiler(), *flags, *includes, *files, "-o", str(out)], capture_output=True, text=True)
    if built.returncode and "sanitize" in built.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    return out


def section(name: str, folder: Path) -> bytes:
    if name == "unigram192":
        return tok.load(unigram192(folder)).pack()
    if name == "unigram_bytes":
        return tok.load(DATA / "unigram-bytes.model").pack()
    if not SHARED.is_dir():
        pytest.skip("../shared is not here")
    paths = {
        "spm_bpe": "stories260k/tokenizer.model",
        "stories_json": "stories260k/tokenizer.json",
        "tinytalk": "tinytalk-pruned",
    }
    return tok.load(SHARED / "checkpoints" / paths[name]).pack()


@pytest.mark.parametrize("name", ROUNDS)
def test_damaged_sections(name, program, tmp_path):
    (tmp_path / "section").write_bytes(section(name, tmp_path))
    (tmp_path / "text").write_bytes("\n".join(LINES + fuzz_lines()).encode() + b"\n".join(broken_lines()))
    command = [str(program), str(tmp_path / "section"), str(tmp_path / "text"), str(ROUNDS[name]), "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "refused" in done.stdout


@pytest.mark.parametrize("name", ["unigram192", "spm_bpe"])
def test_a_section_cut_anywhere_is_refused(name, tmp_path):
    whole = section(name, tmp_path)
    for size in range(0, len(whole), 41):
        with pytest.raises(NativeError):
            NativeTokenizer(whole[:size])


def test_lies_are_named(tmp_path):
    whole = section("unigram192", tmp_path)
    record = TOK.unpack(whole)

    def changed(**values: int) -> bytes:
        return TOK.pack(record | values) + whole[TOK.size :]

    NativeTokenizer(changed())
    for lie in (
        {"kind": 7}, {"index_bytes": 3}, {"prefix": 9}, {"n_splits": 5}, {"n_pieces": 0}, {"n_pieces": 1 << 30},
        {"bos": 192}, {"unk": 5000}, {"text_at": 3}, {"text_at": len(whole)}, {"ends_at": len(whole) - 4},
        {"n_sorted": 100_000}, {"n_special": 60_000}, {"special_at": 117}, {"scores_at": len(whole) - 100},
        {"map_bytes": 19}, {"map_bytes": record["map_bytes"] - 1}, {"max_piece": 1}, {"n_merges": 1},
        {"flags": int(record["flags"]) | TokFlag.DERIVED}, {"flags": int(record["flags"]) | TokFlag.BYTE_FALLBACK},
    ):  # fmt: skip
        with pytest.raises(NativeError, match="FORMAT"):
            NativeTokenizer(changed(**lie))
    with pytest.raises(NativeError, match="VERSION"):
        NativeTokenizer(changed(flags=1 << 30))
    with pytest.raises(NativeError, match="FORMAT"):
        NativeTokenizer(whole, vocab=191)  # more pieces than the model has rows
