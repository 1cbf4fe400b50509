"""Recipes: unknown keys, wrong values, the reduced setting, and those that are shipped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("torch")

from test_train import ROOT, edited, write_recipe

from tinyexport.train import RecipeError, load_recipe
from tinyexport.train.loop import learning_rate


@pytest.mark.parametrize(
    ("old", "new", "named", "hint"),
    [
        ("lr = 1e-2", "lrr = 1e-2", "optim.lrr", "optim.lr"),
        ("warmup = 2", "warm_up = 2", "optim.warm_up", "optim.warmup"),
        ("dim = 16\n", "dimm = 16\n", "model.dimm", "model.dim"),
        ('name = "tiny"', 'name = "tiny"\nfamliy = "x"', "famliy", "family"),
        ("[reduced.optim]", "[reduced.optimm]", "optimm", "optim"),
        ('path = "stories.txt"', 'path = "stories.txt"\nkinds = "chat"', "data.train[0].kinds", "data.train[0].kind"),
    ],
)
def test_an_unknown_key_is_named_with_the_closest_known_one(
    tmp_path: Path, old: str, new: str, named: str, hint: str
) -> None:
    path = edited(write_recipe(tmp_path), old, new)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert named in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("lr = 1e-2", 'lr = "fast"', "optim.lr"),
        ("steps = 12", "", "optim.steps"),
        ("lr = 1e-2", "lr = nan", "optim.lr"),
        ("vocab = 300", "vocab = 100", "tokenizer.vocab"),
        ("steps = 12", "steps = true", "optim.steps"),
        ("heads = 2", "heads = 3", "3 heads"),
        ('family = "llama"', 'family = "lama"', "family"),
        ("warmup = 2", "warmup = 99", "warmup"),
        ("warmup = 2", "stop = 99", "optim.stop"),
        ("[model]", "[model", "can not be read"),
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, old: str, new: str, word: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(edited(write_recipe(tmp_path), old, new))
    assert word in caught.value.message


def test_reduced_overrides_and_nothing_else(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    whole, small = load_recipe(path), load_recipe(path, reduced=True)
    assert (whole.optim.steps, small.optim.steps) == (12, 4)
    assert dataclasses.replace(small, optim=whole.optim) == whole


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/recipe*.toml")), ids=lambda p: p.parent.name)
def test_every_example_recipe_is_valid_and_has_a_reduced_setting(path: Path) -> None:
    whole, small = load_recipe(path), load_recipe(path, reduced=True)
    assert small.optim.steps * small.optim.batch < whole.optim.steps * whole.optim.batch


def test_the_rate_warms_up_and_follows_a_cosine_to_the_end(tmp_path: Path) -> None:
    optim = dataclasses.replace(load_recipe(write_recipe(tmp_path)).optim, steps=100, warmup=10, lr=1.0, min_lr=0.1)
    assert learning_rate(optim, 0) == pytest.approx(0.1)
    assert learning_rate(optim, 9) == learning_rate(optim, 10) == pytest.approx(1.0)
    assert learning_rate(optim, 55) == pytest.approx(0.55)
    assert 0.1 < learning_rate(optim, 99) < 0.102
