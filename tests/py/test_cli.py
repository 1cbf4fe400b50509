"""The commands as a user types them: exit codes, JSON keys, one-sentence errors with a hint, no half files."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinyexport.blob import reader, writer
from tinyexport.commands import print_json

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "tinybuddy"


def tinyexport(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; stderr and stdout are text."""
    return subprocess.run(
        [sys.executable, "-m", "tinyexport.cli", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
    )


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 1, `error:` and `hint:` lines, no traceback."""
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr, result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning:")]
    assert lines[0].startswith("error: "), result.stderr
    assert any(line.startswith("hint: ") for line in lines), result.stderr
    for word in words:
        assert word in result.stderr, (word, result.stderr)


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "buddy.tlm"
    made = tinyexport("quantize", EXAMPLE, "--q4_0", "-o", out)
    assert made.returncode == 0, made.stderr
    return out


def test_quantize_writes_beside_the_checkpoint(tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(EXAMPLE, copy)
    made = tinyexport("quantize", copy / "model.safetensors", "--q8_0", "--json")
    assert made.returncode == 0, made.stderr
    info = json.loads(made.stdout)
    assert Path(info["out"]) == copy / "model.q8_0.tlm"
    assert info["bytes"] == (copy / "model.q8_0.tlm").stat().st_size
    assert info["parameters"] == 83_856
    assert any("lm_head" in line or "tied" in line for line in info["left_out"])
    assert any("mask" in line.lower() for line in info["left_out"])


@pytest.mark.parametrize(
    ("given", "stored"), [("-1.43", "-1.43"), ("-1.5,-6", "-1.5,-6"), ("-0.30", "-0.3"), ("0", "0")]
)
def test_a_confidence_threshold_travels_in_the_blob(tmp_path: Path, given: str, stored: str) -> None:
    out = tmp_path / "sure.tlm"
    made = tinyexport("quantize", EXAMPLE, f"--confidence={given}", "-o", out)
    assert made.returncode == 0, made.stderr
    assert json.loads(tinyexport("inspect", out, "--json").stdout)["info"]["confidence"] == stored


@pytest.mark.parametrize("given", ["1", "-1,-2,-3", "nan", "-inf", "sure", "-1,"])
def test_no_confidence_threshold(tmp_path: Path, given: str) -> None:
    made = tinyexport("quantize", EXAMPLE, f"--confidence={given}", "-o", tmp_path / "x.tlm")
    refused(made, "is no confidence threshold")
    assert not (tmp_path / "x.tlm").exists()


def test_same_input_same_bytes(blob: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tlm"
    assert tinyexport("quantize", EXAMPLE, "--q4_0", "-o", again).returncode == 0
    assert again.read_bytes() == blob.read_bytes()


def test_inspect(blob: Path) -> None:
    shown = json.loads(tinyexport("inspect", blob, "--json").stdout)
    assert {"arch", "spec", "tensors", "bytes"} <= set(shown)
    assert shown["bytes"] == blob.stat().st_size == sum(shown["parts"].values())
    assert shown["spec"]["dim"] == 48 and shown["spec"]["n_heads"] == 4
    text = tinyexport("inspect", blob).stdout
    assert "EMBED" in text and "%" in text
    checkpoint = json.loads(tinyexport("inspect", EXAMPLE / "model.safetensors", "--json").stdout)
    assert checkpoint["tensors"]


def test_run(blob: Path) -> None:
    args = ("run", blob, "Once upon a time", "-n", 24, "--temp", 0.8, "--top-k", 40, "--seed", 1, "--json")
    first, second = (json.loads(tinyexport(*args).stdout) for _ in range(2))
    assert {"text", "tokens", "prompt_tokens", "stop_reason", "prefill_tok_s", "decode_tok_s"} <= set(first)
    assert first["tokens"] == second["tokens"] and first["text"] == second["text"]
    assert 0 < len(first["tokens"]) <= 24
    other = json.loads(tinyexport(*args[:-2], 2, "--json").stdout)
    assert other["tokens"] != first["tokens"]
    plain = tinyexport("run", blob, "Once upon a time", "-n", 24, "--temp", 0.8, "--top-k", 40, "--seed", 1)
    assert plain.returncode == 0 and first["text"].strip() in plain.stdout


def test_perplexity_and_score(blob: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat. The dog was happy.\n" * 8)
    result = json.loads(tinyexport("perplexity", blob, text, "--window", 64, "--json").stdout)
    assert result["perplexity"] == pytest.approx(np.exp(result["nll"]), rel=1e-6)
    assert result["tokens"] > 50
    rows = json.loads(tinyexport("score", blob, "The sky is", " blue", " loud", "--json").stdout)["continuations"]
    assert [row["text"] for row in rows] == [" blue", " loud"]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert all(row["logprob"] < 0 and row["tokens"] >= 1 for row in rows)


def test_bench(blob: Path) -> None:
    result = json.loads(tinyexport("bench", blob, "--rounds", 1, "--decode-tokens", 16, "--json").stdout)
    assert {"prefill_tok_s", "decode_tok_s", "threads", "backend"} <= set(result)
    assert result["prefill_tok_s"] > 0 and result["threads"] == 1


def test_verify(blob: Path) -> None:
    pytest.importorskip("torch")
    result = tinyexport("verify", EXAMPLE, blob, "--json")
    report = json.loads(result.stdout)
    assert result.returncode == 0, result.stderr
    assert report["oracle"]["max_rel_err"] == 0 and report["oracle"]["positions"] >= 64
    assert report["graph"]["max_rel_err"] <= 1e-4
    assert {"perplexity", "blob_perplexity", "argmax_agreement", "mean_kl"} <= set(report["fp32"])


def test_verify_fails_on_another_models_blob(blob: Path, tmp_path: Path) -> None:
    """A blob whose weights were made from other weights passes a1 and a2 but shows in b; other sizes are refused."""
    pytest.importorskip("torch")
    changed = tmp_path / "model"
    shutil.copytree(EXAMPLE, changed)
    config = json.loads((changed / "config.json").read_text())
    config["num_attention_heads"], config["num_key_value_heads"] = 8, 4
    config["head_dim"] = 6
    (changed / "config.json").write_text(json.dumps(config))
    result = tinyexport("verify", changed, blob, "--json")
    report = json.loads(result.stdout)
    assert report["fp32"]["mean_kl"] > 0.02


def test_usage_errors_exit_2(blob: Path) -> None:
    for args in (("run",), ("run", blob, "x", "--kv", "q7"), ("nonsense",), ("quantize", EXAMPLE, "--min-count", 3)):
        assert tinyexport(*args).returncode == 2, args


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda p: p.write_bytes(b""), id="empty"),
        pytest.param(lambda p: p.write_bytes(b"not a blob at all, only text" * 9), id="text"),
        pytest.param(lambda p: p.write_bytes(p.read_bytes()[:-1]), id="cut"),
        pytest.param(lambda p: p.write_bytes(p.read_bytes()[:100]), id="cut early"),
        pytest.param(
            lambda p: p.write_bytes(p.read_bytes()[:5000] + b"\x55" + p.read_bytes()[5001:]), id="one byte changed"
        ),
    ],
)
def test_damaged_blobs(blob: Path, tmp_path: Path, make) -> None:
    bad = tmp_path / "bad.tlm"
    shutil.copy(blob, bad)
    make(bad)
    for command in (("run", bad, "hello"), ("bench", bad), ("perplexity", bad, __file__), ("plan", bad)):
        refused(tinyexport(*command))


def test_prompt_that_does_not_fit(blob: Path) -> None:
    refused(tinyexport("run", blob, "word " * 400), "128")
    refused(tinyexport("run", blob, "", "--no-bos"), "no tokens")


@pytest.mark.parametrize("content", ["", "a"], ids=["empty", "one token"])
def test_texts_with_nothing_to_score_or_learn_from(blob: Path, tmp_path: Path, content: str) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "out.tlm"
    text.write_text(content)
    for command in (
        ("perplexity", blob, text),
        ("verify", EXAMPLE, blob, "--text", text),
        ("quantize", EXAMPLE, "--calibrate", text, "-o", out),
        ("quantize", EXAMPLE, "--kv-smooth", text, "-o", out),
        ("quantize", EXAMPLE, "--prune-vocab", text, "-o", out),
    ):
        refused(tinyexport(*command))
    assert not out.exists()


def test_a_text_that_is_no_utf_8(blob: Path, tmp_path: Path) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9 au lait")
    refused(tinyexport("perplexity", blob, latin), "UTF-8")


def test_checkpoints_that_are_not(tmp_path: Path) -> None:
    refused(tinyexport("quantize", tmp_path / "nothing.safetensors"))
    refused(tinyexport("quantize", tmp_path), str(tmp_path))
    cut = tmp_path / "cut"
    shutil.copytree(EXAMPLE, cut)
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    refused(tinyexport("quantize", cut))
    assert not list(cut.glob("*.tlm*"))
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(EXAMPLE / "model.safetensors", bare)
    shutil.copy(EXAMPLE / "config.json", bare)
    refused(tinyexport("quantize", bare), "tokenizer")


def test_nothing_is_left_after_ctrl_c(tmp_path: Path) -> None:
    out = tmp_path / "out.tlm"
    out.write_bytes(b"what the user had")
    process = subprocess.Popen(
        [sys.executable, "-m", "tinyexport.cli", "quantize", str(EXAMPLE), "-o", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    time.sleep(0.15)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"out.tlm"}
    assert process.returncode in (0, 130) or process.returncode == -signal.SIGINT
    if process.returncode != 0:
        assert out.read_bytes() == b"what the user had"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("run", "BLOB", "hi", "--context", "9999"), "built for 128 positions"),
        (("run", "BLOB", "hi", "--temp", "nan"), "temperature 0 or"),
        (("run", "BLOB", "hi", "--temp", "1e-42"), "temperature 0 or"),
        (("bench", "BLOB", "--backend", "abacus"), "no kernels 'abacus'"),
        (("quantize", "BLOB"), "is a .tlm blob already"),
        (("quantize", str(EXAMPLE), "--keep-f32", "layers.0.*", "--keep-f32", "layer.0.*"), "'layer.0.*' is no tensor"),
    ],
)
def test_what_can_not_be_is_named(blob: Path, args: tuple[str, ...], words: str) -> None:
    refused(tinyexport(*(str(blob) if a == "BLOB" else a for a in args)), words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("perplexity", "BLOB", str(EXAMPLE / "config.json"), "--limit", "3"), "--limit needs --documents"),
        (("perplexity", "BLOB", str(EXAMPLE / "config.json"), "--documents", ""), "--documents needs a text"),
        (("eval", "BLOB", "--caches"), "--caches need --text"),
        (("quantize", str(EXAMPLE), "--head-text", "own"), "--head-text is for --head certified"),
    ],
)
def test_an_option_without_its_fellow_is_refused(blob: Path, args: tuple[str, ...], words: str) -> None:
    done = tinyexport(*(str(blob) if a == "BLOB" else a for a in args))
    assert done.returncode == 2 and words in done.stderr


@pytest.mark.parametrize("command", ["quantize", "gguf"])
def test_a_folder_for_the_output_is_asked_for_first(tmp_path: Path, command: str) -> None:
    done = tinyexport(command, EXAMPLE, "-o", tmp_path / "nowhere" / "x")
    assert done.returncode == 2 and "there is no folder" in done.stderr


@pytest.mark.parametrize("command", ["quantize", "gguf"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_no_file_of_the_checkpoint_is_overwritten(tmp_path: Path, command: str, name: str) -> None:
    """With the folder as the checkpoint, its weights were taken for any other file."""
    copy = tmp_path / "model"
    shutil.copytree(EXAMPLE, copy)
    refused(tinyexport(command, copy, "-o", copy / name), f"would overwrite {name}")
    assert (copy / name).read_bytes() == (EXAMPLE / name).read_bytes()


def test_an_error_in_a_reply_begins_a_line(blob: Path) -> None:
    done = tinyexport(
        "run", blob, "Once", "--temp", "1", "--repeat-penalty", "1e38", "--repeat-window", "99", "-n", "99"
    )
    refused(done, "overflowed")
    assert done.stdout.endswith("\n") and len(done.stdout) > 1


def test_separators_are_what_they_look_like(blob: Path, tmp_path: Path) -> None:
    """An umlaut was taken for two Latin-1 characters, and parted nothing."""
    text = tmp_path / "text.txt"
    text.write_text("One day.\u00e4\u4e16Two days.\u00e4\u4e16Three days.\n\nFour.", "utf-8")
    for sep, windows in (("\u00e4\u4e16", 3), ("\\n\\n", 2), ("\\xe4", 3)):
        done = tinyexport("perplexity", blob, text, "--documents", sep, "--json")
        assert json.loads(done.stdout)["windows"] == windows
    assert tinyexport("perplexity", blob, text, "--limit", "1").returncode == 2
    for sep in ("\\x", ""):
        assert tinyexport("perplexity", blob, text, "--documents", sep).returncode == 2


def test_inspect_shows_any_name_and_any_facts(tmp_path: Path) -> None:
    """Names were read as markup, damaged facts as JSON."""
    out = tmp_path / "x.tlm"
    assert tinyexport("quantize", EXAMPLE, "--name", "[/x]\x1b[2J", "-o", out).returncode == 0
    assert "[/x]\N{REPLACEMENT CHARACTER}[2J (llama)" in tinyexport("inspect", out).stdout
    for facts in ("", "[", "[[", "[" * 9999, "{}", "[1]", '{"heads": 1, "context": []}'):
        content = reader.read(out.read_bytes())
        out.write_bytes(writer.build(dataclasses.replace(content, info={**content.info, "facts": facts})))
        assert tinyexport("inspect", out).returncode == 0
        assert json.loads(tinyexport("inspect", out, "--json").stdout)["arch"] == "llama"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
@pytest.mark.parametrize("command", ["inspect", "run"])
def test_a_full_disk_behind_the_output(blob: Path, command: str) -> None:
    with open("/dev/full", "w") as full:
        args = [sys.executable, "-m", "tinyexport.cli", command, str(blob), *(["Once", "-n", "3"] * (command == "run"))]
        done = subprocess.run(args, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    refused(done, "the output: No space left on device")
    assert "Exception ignored" not in done.stderr


def test_json_has_no_numbers_that_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [float("nan"), 1.5, (float("inf"),)]})
    assert json.loads(capsys.readouterr().out, parse_constant=str) == {"a": [None, 1.5, [None]]}


def test_plan_labels_its_speeds_as_modelled(blob: Path) -> None:
    shown = json.loads(tinyexport("plan", blob, "--board", "cardputer", "--json").stdout)
    keys = "fits context kv_type flash_bytes ram_bytes bytes_per_token decode_tok_s first_token_s limit".split()
    assert set(keys) <= set(shown) and shown["modelled"] is True
    assert shown["decode_tok_s"]["low"] < shown["decode_tok_s"]["mid"] < shown["decode_tok_s"]["high"]
    assert "modelled" in tinyexport("plan", blob).stdout
    refused(tinyexport("plan", blob, "--board", "toaster"), "cardputer")
