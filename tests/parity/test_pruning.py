"""Vocabulary pruning from end to end: what it saves, and what it costs on a part of the text it never saw."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from tinyexport import pipeline
from tinyexport.errors import TinyError
from tinyexport.runtime import Model

ROOT = Path(__file__).resolve().parents[2]


def prune(path: Path, text: Path, **options: int) -> pipeline.Result:
    return pipeline.quantize(
        pipeline.SourceOptions(str(path)), pipeline.QuantizeOptions(preset="q4_0", prune_text=text, **options)
    )


def test_the_example_keeps_its_texts(tmp_path: Path) -> None:
    """Texts of kept pieces encode as before, every text remains encodable, the report tells the cost."""
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a little cat. The cat was happy.\n" * 60)
    result = prune(ROOT / "examples" / "tinybuddy", text)
    report = result.pruning
    assert report is not None and report["pieces"] < report["pieces_before"] == 1024
    assert report["bytes_saved"] == report["bytes_before"] - len(result.data) > 10_000
    assert report["held_back_perplexity"] <= report["held_back_perplexity_before"] * 1.05
    model = Model(result.data)
    for sample in ("Once upon a time", "zebra quiz\x00\xff ÄÖ 漢字"):
        assert model.decode(model.encode(sample)).decode() == sample
    assert model.stop_ids and max(model.stop_ids) < report["pieces"]


def test_a_text_that_uses_nothing(tmp_path: Path) -> None:
    for content in ("", "\n\n"):
        text = tmp_path / "empty.txt"
        text.write_text(content)
        with pytest.raises(TinyError):
            prune(ROOT / "examples" / "tinybuddy", text)


def test_gpt2_vocabulary_comes_out_at_two_megabytes(shared: Path, tmp_path: Path) -> None:
    """TinyTalk's size with all 50,257 rows, pruned by chats and stories to as many pieces as TinyTalk has."""
    from safetensors.numpy import load_file, save_file

    source = shared / "checkpoints" / "tinytalk-pruned"
    tensors = load_file(source / "model.safetensors")
    table = next(name for name in tensors if name.endswith("wte.weight"))
    tensors[table] = (np.random.default_rng(0).normal(size=(50_257, 128)) * 0.1).astype(np.float16)
    save_file(tensors, tmp_path / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    config |= {"vocab_size": 50_257, "bos_token_id": 50_256, "eos_token_id": 50_256}
    (tmp_path / "config.json").write_text(json.dumps(config))
    packed = (shared / "tokenizers" / "gpt2" / "tokenizer.json.xz").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(lzma.decompress(packed))
    text = tmp_path / "text.txt"
    parts = ("chat-val.txt.xz", "tinystories-sample.txt.xz", "tinystories-valid.txt.xz")
    text.write_text("\n".join(pipeline.read_text(shared / "text" / name) for name in parts))
    result = prune(tmp_path, text, max_tokens=14_019)
    print(f"GPT-2 vocabulary, pruned: {len(result.data):,} bytes, {result.pruning}")
    assert len(result.data) <= 2_200_000
    assert result.pruning is not None and result.pruning["covered"] > 0.99
