"""Training: recipes, resuming to the bit, the last good checkpoint, and what is learned of a chat."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tinyexport.train import TrainError, cli_train, load_recipe
from tinyexport.train.curve import LossLog
from tinyexport.train.data import (
    IGNORED,
    batch_at,
    build_streams,
    encode_dialogue,
    source_texts,
    split_documents,
    tokenizer_documents,
)
from tinyexport.train.loop import STATE_FILE, Trainer
from tinyexport.train.models import build, parameter_count, read_weights
from tinyexport.train.recipe import FAMILIES, Recipe, TokenizerPart
from tinyexport.train.tokenizer import from_bytes, make_tokenizer, train_bpe

ROOT = Path(__file__).resolve().parents[2]
STORY = "Once upon a time, a small cat named Tim sat on a red mat. Tim was happy. He saw a big dog and ran away."
CHAT = """User: hi, how are you?
Bot: I'm good, thanks!<|endoftext|>
User: what did you do?
Bot: I sat on a mat.<|endoftext|>

User: hello
Bot: Hello there!<|endoftext|>
"""

RECIPE = """
name = "tiny"
family = "{family}"
[model]
dim = 16
layers = 2
heads = 2
ffn_dim = 24
context = 16
[tokenizer]
kind = "{kind}"
vocab = {vocab}
[data]
valid = "valid.txt"
[[data.train]]
path = "stories.txt"
[optim]
steps = 12
batch = 4
lr = 1e-2
warmup = 2
eval_every = 4
save_every = 4
[output]
format = "{format}"
[reduced.optim]
steps = 4
"""


def write_recipe(folder: Path, family: str = "llama", kind: str = "bpe", fmt: str = "safetensors") -> Path:
    stories = [STORY.replace("Tim", name).replace("red", colour) for name in "ABCDEF" for colour in ("red", "blue")]
    (folder / "stories.txt").write_text("\n<|endoftext|>\n".join(stories) + "\n<|endoftext|>\n", "utf-8")
    (folder / "valid.txt").write_text("\n\n".join(stories[:3]), "utf-8")
    (folder / "chat.txt").write_text(CHAT * 12, "utf-8")
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(family=family, kind=kind, vocab=300 if kind == "bpe" else 40, format=fmt), "utf-8")
    return path


def edited(path: Path, old: str, new: str) -> Path:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    return path


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return read_weights(folder)


# Data


def tiny_tokenizer() -> object:
    part = TokenizerPart(vocab=300)
    return from_bytes(train_bpe(iter([STORY, CHAT]), part), "tokenizer.json", part)


def test_only_replies_and_their_end_are_learned() -> None:
    tok = tiny_tokenizer()
    dialogue = CHAT.split("\n\n")[0]
    ids, learn = encode_dialogue(dialogue, tok, "<|endoftext|>")
    learned = [tok._impl.decode([i], skip_special_tokens=False) for i, on in zip(ids, learn, strict=True) if on]
    assert "".join(learned) == " I'm good, thanks!<|endoftext|> I sat on a mat.<|endoftext|>"
    whole = tok._impl.decode(ids, skip_special_tokens=False)
    assert whole == "<s>" + dialogue


def test_a_prompt_has_the_ids_that_the_dialogue_was_trained_with() -> None:
    tok = tiny_tokenizer()
    ids, learn = encode_dialogue("User: hi\nBot: Hello there!<|endoftext|>", tok, "<|endoftext|>")
    assert ids[: learn.index(True)] == [tok.bos, *tok.encode("User: hi\nBot:")]


def chat_recipe(folder: Path) -> Recipe:
    path = edited(write_recipe(folder), 'path = "stories.txt"', 'path = "chat.txt"\nkind = "chat"')
    return load_recipe(path)


def test_batches_hide_what_is_not_learned_and_depend_on_the_step_alone(tmp_path: Path) -> None:
    recipe = chat_recipe(tmp_path)
    texts = source_texts(recipe)
    tok = make_tokenizer(recipe, tokenizer_documents(recipe, texts))
    streams = build_streams(recipe, texts, tok)
    inputs, targets = batch_at(streams, 16, 8, seed=1, step=3)
    again = batch_at(streams, 16, 8, seed=1, step=3)
    other = batch_at(streams, 16, 8, seed=1, step=4)
    assert torch.equal(inputs, again[0]) and torch.equal(targets, again[1])
    assert not torch.equal(inputs, other[0])
    shown = targets != IGNORED
    assert torch.equal(targets[:, :-1][shown[:, :-1]], inputs[:, 1:][shown[:, :-1]])
    share = float(np.mean(streams[0].learn))
    assert 0.2 < share < 0.8
    assert bool((inputs[:, 0] == tok.bos).all())  # chat windows begin where a dialogue does


def test_the_gradient_of_a_masked_position_is_zero(tmp_path: Path) -> None:
    recipe = chat_recipe(tmp_path)
    trainer = Trainer(recipe, tmp_path / "run")
    inputs, targets = batch_at(trainer.streams, 16, 1, seed=1, step=0)
    logits = trainer.model(inputs).logits
    logits.retain_grad()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED).backward()
    moved = logits.grad.abs().sum(-1)[0] > 0
    assert torch.equal(moved, targets[0] != IGNORED)


def test_a_batch_of_prompts_alone_is_no_diverged_run(tmp_path: Path) -> None:
    recipe = chat_recipe(tmp_path)
    (tmp_path / "chat.txt").write_text(f"User: {STORY}\nBot: Yes.<|endoftext|>\n\n" * 3, "utf-8")
    trainer = Trainer(dataclasses.replace(recipe, optim=dataclasses.replace(recipe.optim, batch=1)), tmp_path / "run")
    assert trainer.train(until=2).train_loss == 0


@pytest.mark.parametrize("missing", ["nowhere.txt", "empty.txt", "short.txt"])
def test_a_text_that_can_not_be_used_is_an_error_with_the_recipes_hint(tmp_path: Path, missing: str) -> None:
    (tmp_path / "empty.txt").write_text(" \n", "utf-8")
    (tmp_path / "short.txt").write_text("Hi.", "utf-8")
    path = edited(write_recipe(tmp_path), 'path = "stories.txt"', f'path = "{missing}"')
    edited(path, '"valid.txt"', '"valid.txt"\nhint = "ask the librarian"')
    with pytest.raises(TrainError) as caught:
        cli_train(path, out=tmp_path / "run", progress=False)
    assert missing in caught.value.message
    assert caught.value.hint == (
        "give more text, or a smaller model.context" if "short" in missing else "ask the librarian"
    )
    assert not (tmp_path / "run").exists()


def test_a_validation_text_below_one_window_is_an_error(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    (tmp_path / "valid.txt").write_text("A cat.", "utf-8")
    with pytest.raises(TrainError, match="fewer than one window"):
        cli_train(path, out=tmp_path / "run", progress=False)


def test_windows_line_ends_give_the_same_documents(tmp_path: Path) -> None:
    source = chat_recipe(tmp_path).data.train[0]
    assert split_documents(CHAT.replace("\n", "\r\n"), source) == split_documents(CHAT, source)


# Runs


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_falls_and_the_checkpoint_holds_what_was_trained(tmp_path: Path, family: str) -> None:
    if family in ("llama", "gpt_neo"):
        pytest.importorskip("transformers")
    path = write_recipe(
        tmp_path, family, "unigram" if family == "bitlm" else "bpe", "pt" if family == "bitlm" else "safetensors"
    )
    edited(path, "steps = 12", "steps = 30")
    trainer = Trainer(load_recipe(path), tmp_path / "run")
    before = trainer.evaluate()
    result = trainer.train()
    assert before is not None and result.valid_loss is not None
    assert result.valid_loss < before - 0.5
    saved = weights_of(tmp_path / "run")
    for name, value in trainer.model.named_parameters():
        assert torch.equal(saved[name], value.detach()), name
    assert json.loads((tmp_path / "run" / "config.json").read_text())["vocab_size"] == trainer.tok.vocab
    assert (tmp_path / "run" / "loss.svg").read_text().startswith("<svg")
    assert not list((tmp_path / "run").glob(".*"))  # nothing half-written is left


@pytest.mark.parametrize("family", ["llama", "bitlm"])
def test_a_resumed_run_equals_an_unbroken_one_to_the_bit(tmp_path: Path, family: str) -> None:
    recipe = load_recipe(write_recipe(tmp_path, family))
    Trainer(recipe, tmp_path / "whole").train()
    Trainer(recipe, tmp_path / "parts").train(until=6)
    Trainer(recipe, tmp_path / "parts", resume=True).train(until=9)
    Trainer(recipe, tmp_path / "parts", resume=True).train()
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    last = [(tmp_path / run / "loss.csv").read_text().splitlines()[-1].split(",") for run in ("whole", "parts")]
    assert last[0][2:] == last[1][2:]  # the same validation loss; training loss is a mean since the last row


def test_a_stopped_run_is_the_beginning_of_the_whole_one_and_can_be_prolonged(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    Trainer(load_recipe(path), tmp_path / "whole").train()
    edited(path, "warmup = 2", "warmup = 2\nstop = 6")
    assert Trainer(load_recipe(path), tmp_path / "run").train().steps == 6
    edited(path, "stop = 6", "stop = 0")
    Trainer(load_recipe(path), tmp_path / "run", resume=True).train()
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "run")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_that_is_interrupted_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_recipe(tmp_path)
    step = Trainer._one_step

    def interrupted(self: Trainer) -> float:
        if self.step == 6:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "_one_step", interrupted)
    with pytest.raises(TrainError) as caught:
        cli_train(path, out=tmp_path / "run", progress=False)
    assert "step 4 is saved" in caught.value.hint and "--resume" in caught.value.hint
    monkeypatch.undo()
    assert cli_train(path, resume=True, out=tmp_path / "run", progress=False)["steps"] == 12


def test_what_can_not_be_resumed_is_refused(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    with pytest.raises(TrainError, match="nothing to resume"):
        cli_train(path, resume=True, out=tmp_path / "run", progress=False)
    cli_train(path, reduced=True, out=tmp_path / "run", progress=False)
    with pytest.raises(TrainError, match="another recipe"):
        cli_train(path, resume=True, out=tmp_path / "run", progress=False)
    (tmp_path / "run" / STATE_FILE).write_bytes(b"no state")
    with pytest.raises(TrainError, match="damaged"):
        cli_train(path, reduced=True, resume=True, out=tmp_path / "run", progress=False)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(load_recipe(write_recipe(tmp_path)), tmp_path / "run")
    trainer.train(until=5)  # saved at 4 and at 5
    kept = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with torch.no_grad():
        next(iter(trainer.model.parameters()))[:] = math.nan
    with pytest.raises(TrainError) as caught:
        trainer.train()
    assert "step 6" in caught.value.message
    assert str(tmp_path / "run") in caught.value.hint
    with pytest.raises(TrainError, match="not finite"):
        trainer.save()
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == kept
    assert all(bool(torch.isfinite(t).all()) for t in weights_of(tmp_path / "run").values())


def test_fine_tuning_begins_from_the_named_run(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    first = Trainer(load_recipe(path), tmp_path / "base")
    first.train()
    tuned = Trainer(dataclasses.replace(load_recipe(path), init="base"), tmp_path / "tuned")
    assert tuned.tok.data == first.tok.data
    assert tuned.evaluate() == pytest.approx(first.evaluate(), abs=1e-6)
    edited(path, "dim = 16", "dim = 32")
    with pytest.raises(TrainError, match="does not fit"):
        Trainer(dataclasses.replace(load_recipe(path), init="base"), tmp_path / "wrong")
    with pytest.raises(TrainError, match="can not be read"):
        Trainer(dataclasses.replace(load_recipe(path), init="nowhere"), tmp_path / "wrong")


SIZES = [
    ("llama", 1024, {"dim": 48, "layers": 1, "heads": 4, "kv_heads": 2, "ffn_dim": 192, "context": 128}, 83_856),
    ("bitlm", 192, {"dim": 128, "layers": 5, "heads": 4, "ffn_dim": 336, "context": 512}, 998_784),
    ("rms_gpt", 2_000, {"dim": 384, "layers": 4, "heads": 4, "ffn_dim": 1536, "context": 256}, 10_306_944),
    ("rms_gpt", 1_500, {"dim": 224, "layers": 8, "heads": 4, "ffn_dim": 896, "context": 256}, 6_819_680),
    ("rms_gpt", 1_000, {"dim": 384, "layers": 2, "heads": 4, "ffn_dim": 1536, "context": 256}, 5_202_816),
    ("rms_gpt", 512, {"dim": 272, "layers": 2, "heads": 4, "ffn_dim": 1088, "context": 256}, 2_577_744),
    ("gpt_neo", 14_019, {"dim": 128, "layers": 8, "heads": 16, "ffn_dim": 512, "context": 256}, 3_410_560),
]


@pytest.mark.parametrize(("family", "vocab", "sizes", "count"), SIZES, ids=[f"{s[0]}-{s[3]}" for s in SIZES])
def test_published_shapes_have_their_published_sizes(
    tmp_path: Path, family: str, vocab: int, sizes: dict[str, int], count: int
) -> None:
    pytest.importorskip("transformers")
    recipe = load_recipe(write_recipe(tmp_path, family))
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **sizes))
    tok = dataclasses.replace(tiny_tokenizer(), vocab=vocab)
    assert parameter_count(build(recipe, tok)) == count


def test_the_command_prints_json_and_errors_exit_with_one(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "export")}
    command = [
        sys.executable,
        "-m",
        "tinyexport.train",
        str(path),
        "--reduced",
        "--quiet",
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["steps"] == 4 and told["perplexity"] == pytest.approx(math.exp(told["valid_loss"]))
    edited(path, "warmup = 2", "wramup = 2")
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: unknown key optim.wramup in the recipe\nhint: did you mean optim.warmup?\n"


def test_the_curve_is_well_formed_whatever_the_losses(tmp_path: Path) -> None:
    log = LossLog(tmp_path / "loss.csv")
    log.draw(tmp_path / "none.svg", "a < b & c")
    for step, loss in ((1, 5.0), (2, math.inf), (3, 4.0)):
        log.add(step, loss, None if step < 3 else 4.5, 1e-3, step)
    log.draw(tmp_path / "some.svg", "a")
    for name in ("none.svg", "some.svg"):
        ElementTree.parse(tmp_path / name)
    assert "inf" not in (tmp_path / "some.svg").read_text()
    assert LossLog(tmp_path / "loss.csv", keep_until=2).points("train_loss") == [(1, 5.0)]
