"""What training leaves behind is what the exporter reads: every family, rounding, packing, the examples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from test_train import RECIPE, edited, write_recipe

from tinyexport import archs, loaders, quant
from tinyexport.reference.graph import torch_logits
from tinyexport.spec import Checkpoint
from tinyexport.train import RecipeError, TrainError, load_recipe
from tinyexport.train.loop import Trainer
from tinyexport.train.models import logits_of, read_weights
from tinyexport.train.qat import q4_0_round, rounding_of
from tinyexport.train.recipe import TokenizerPart
from tinyexport.train.tokenizer import from_bytes

ROOT = Path(__file__).resolve().parents[2]
IDS = [1, 9, 30, 4, 17, 22, 9, 9, 33, 12]


def read_back(folder: Path) -> Checkpoint:
    return archs.identify(loaders.load(str(folder)))


def trained_logits(trainer: Trainer) -> np.ndarray:
    with torch.no_grad():
        return logits_of(trainer.model(torch.tensor([IDS])))[0].float().numpy()


def assert_close(got: np.ndarray, want: np.ndarray) -> None:
    assert np.abs(got - want).max() <= 1e-4 * (want.max() - want.min())


@pytest.mark.parametrize(
    ("family", "fmt"), [("llama", "safetensors"), ("gpt_neo", "safetensors"), ("bitlm", "pt"), ("rms_gpt", "pt")]
)
def test_every_family_is_read_by_the_exporter_and_computes_the_same(tmp_path: Path, family: str, fmt: str) -> None:
    pytest.importorskip("transformers")
    recipe = load_recipe(write_recipe(tmp_path, family, fmt=fmt))
    trainer = Trainer(recipe, tmp_path / "run")
    trainer.train()
    checkpoint = read_back(tmp_path / "run")
    assert checkpoint.arch == family
    assumed = {name for name, fact in checkpoint.facts.items() if fact.origin == "assumed"}
    assert not assumed, assumed
    assert_close(torch_logits(checkpoint, IDS), trained_logits(trainer))


def test_masks_and_the_second_head_are_left_out_by_the_exporter(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    path = edited(write_recipe(tmp_path), "[output]", "[output]\nbuffers = true")
    Trainer(load_recipe(path), tmp_path / "run").train()
    saved = read_weights(tmp_path / "run")
    assert saved["model.layers.1.self_attn.causal_mask"].dtype == torch.bool
    assert torch.equal(saved["lm_head.weight"], saved["model.embed_tokens.weight"])
    checkpoint = read_back(tmp_path / "run")
    assert checkpoint.spec.tied
    assert len(checkpoint.left_out) == 3  # two masks, one head


def test_packed_ternary_weights_are_those_that_were_trained(tmp_path: Path) -> None:
    path = edited(write_recipe(tmp_path, "bitlm", fmt="pt"), "[output]", '[output]\ndtype = "ternary"')
    trainer = Trainer(load_recipe(path), tmp_path / "run")
    trainer.train()
    checkpoint = read_back(tmp_path / "run")
    latent = dict(trainer.model.named_parameters())["layers.1.ffn.down.weight"].detach()
    scale = latent.abs().mean()
    want = (latent / scale).round().clamp(-1, 1) * scale
    np.testing.assert_array_equal(checkpoint.tensors["layers.1.w_down"], want.numpy())
    assert checkpoint.ternary["layers.1.w_down"] == pytest.approx(float(scale))
    packed = torch.load(tmp_path / "run" / "model.pt", weights_only=True)["model"]["_orig_mod.layers.1.ffn.down.weight"]
    assert (packed.dtype, tuple(packed.shape)) == (torch.uint8, (4, 24))
    torch.testing.assert_close(read_weights(tmp_path / "run")["layers.1.ffn.down.weight"], want)


def test_ternary_output_is_for_bitlm_alone(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"output\.dtype"):
        load_recipe(edited(write_recipe(tmp_path), "[output]", '[output]\ndtype = "ternary"'))


@pytest.mark.parametrize("shape", [(7, 32), (5, 48), (3, 172), (9, 5), (2, 64)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_training_rounds_to_q4_0_as_the_exporter_does(shape: tuple[int, int], size: float) -> None:
    weight = np.random.default_rng(3).standard_normal(shape).astype(np.float32) * np.float32(size)
    weight[0] = 0
    want = quant.quantise("q4_0", weight).dequantise()
    np.testing.assert_array_equal(q4_0_round(torch.from_numpy(weight)).numpy(), want)


def test_qat_learns_through_the_rounding_and_reports_the_loss_of_the_rounded_model(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    path = edited(write_recipe(tmp_path), 'family = "llama"', 'family = "llama"\nqat = "q4_0"')
    trainer = Trainer(load_recipe(edited(path, "steps = 12", "steps = 30")), tmp_path / "run")
    first = trainer.evaluate()
    result = trainer.train()
    assert first is not None and result.valid_loss is not None and result.valid_loss < first - 0.5
    rounding = rounding_of(trainer.recipe)
    assert rounding is not None
    for p in trainer.model.parameters():  # what the exporter would write
        if p.dim() == 2:
            p.data = torch.from_numpy(quant.quantise("q4_0", p.detach().numpy()).dequantise())
    trainer.rounding = None
    assert trainer.evaluate() == pytest.approx(result.valid_loss, abs=1e-6)


def test_qat_of_a_ternary_model_is_refused(tmp_path: Path) -> None:
    path = edited(write_recipe(tmp_path, "bitlm"), 'family = "bitlm"', 'family = "bitlm"\nqat = "q4_0"')
    with pytest.raises(RecipeError, match="ternary"):
        load_recipe(path)


def test_a_published_checkpoint_is_a_base_to_fine_tune(tmp_path: Path, shared: Path) -> None:
    """tinytalk-pruned as `init`: its perplexity on the dialogues is the one that was measured with transformers."""
    pytest.importorskip("transformers")
    base = shared / "checkpoints" / "tinytalk-pruned"
    chat = shared / "text" / "chat-val.txt.xz"
    text = RECIPE.format(family="gpt_neo", kind="bpe", vocab=300, format="safetensors")
    text = text.replace('name = "tiny"', f'name = "tiny"\ninit = "{base}"').replace("ffn_dim = 24", "ffn_dim = 512")
    text = (
        text.replace("dim = 16\n", "dim = 128\n").replace("layers = 2", "layers = 8").replace("heads = 2", "heads = 16")
    )
    text = text.replace("context = 16", "context = 256").replace("vocab = 300", 'bos = ""')
    text = text.replace('valid = "valid.txt"', f'valid = "{chat}"').replace('"stories.txt"', f'"{chat}"\nkind = "chat"')
    (tmp_path / "recipe.toml").write_text(text, "utf-8")
    trainer = Trainer(load_recipe(tmp_path / "recipe.toml"), tmp_path / "run")
    loss = trainer.evaluate()
    assert loss is not None and np.exp(loss) == pytest.approx(30.851, rel=0.005)


EXAMPLES = sorted(p.parent for p in (ROOT / "examples").glob("*/loss.csv"))


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda p: p.name)
def test_an_example_checkpoint_is_small_documented_and_readable(folder: Path) -> None:
    weights = [p for p in folder.iterdir() if p.name in ("model.safetensors", "model.pt")]
    assert len(weights) == 1 and weights[0].stat().st_size < 2_000_000
    names = {p.name for p in folder.iterdir()}
    assert {"README.md", "recipe.toml", "loss.svg", "config.json", "tinyexport.json"} <= names
    card = json.loads((folder / "tinyexport.json").read_text("utf-8"))
    assert card["licence"] and "TinyStories" in card["attribution"]
    recipe = load_recipe(folder / "recipe.toml")
    assert {k: card[k] for k in recipe.card} == recipe.card
    checkpoint = read_back(folder)
    assert not [n for n, f in checkpoint.facts.items() if f.origin == "assumed"]
    assert checkpoint.spec.dim == recipe.model.dim and len(checkpoint.spec.layers) == recipe.model.layers
    steps = (folder / "loss.csv").read_text().splitlines()[-1].split(",")[0]
    assert int(steps) == (recipe.optim.stop or recipe.optim.steps)


def test_tinybuddy_has_its_83_856_parameters() -> None:
    checkpoint = read_back(ROOT / "examples" / "tinybuddy")
    assert sum(t.size for t in checkpoint.tensors.values()) == 83_856
    assert checkpoint.spec.layers[0].n_kv_heads == 2


def test_an_unreadable_tokenizer_is_an_error(tmp_path: Path) -> None:
    path = edited(write_recipe(tmp_path), 'kind = "bpe"', 'file = "mine.json"')
    with pytest.raises(TrainError, match="can not be read"):
        Trainer(load_recipe(path), tmp_path / "run")
    (tmp_path / "mine.json").write_text("{}", "utf-8")
    with pytest.raises(TrainError, match="no tokenizer"):
        Trainer(load_recipe(path), tmp_path / "run")
    path = edited(path, "mine.json", "mine.model")
    (tmp_path / "mine.model").write_bytes(b"nonsense")
    with pytest.raises(TrainError, match="no SentencePiece model"):
        Trainer(load_recipe(path), tmp_path / "run")


def test_smalltalk_holds_a_two_turn_greeting() -> None:
    """Greedy, in PyTorch: a fitting answer to a greeting, then one that fits the mood."""
    folder = ROOT / "examples" / "smalltalk"
    checkpoint = read_back(folder)
    tok = from_bytes((folder / "tokenizer.json").read_bytes(), "tokenizer.json", TokenizerPart())
    for mood, wanted in (("I'm good, thanks!", "glad"), ("I'm sad today", "sorry")):
        ids = [tok.bos, *tok.encode("User: hi\nBot:")]
        replies = []
        for turn in (f"\nUser: {mood}\nBot:", ""):
            start = len(ids)
            while ids[-1] != tok.eos and len(ids) < start + 40:
                ids.append(int(torch_logits(checkpoint, ids)[-1].argmax()))
            replies.append(tok.decode(ids[start:]))
            ids += tok.encode(turn)
        assert "you?" in replies[0]
        assert wanted in replies[1]
