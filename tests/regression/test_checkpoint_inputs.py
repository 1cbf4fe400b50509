"""Checkpoints that once were read wrongly."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "py"))
from bare import CONFIG, DIM, FFN, identify, rms_gpt

from tinyexport.errors import CheckpointError, TinyError


def test_two_numbered_matrices_of_one_shape_are_gate_and_up() -> None:
    """w1 and w3 with an unknown third were taken for up and down; the third is what is missing."""
    tensors = rms_gpt()
    for i in range(2):
        tensors[f"blocks.{i}.ffn.omega.weight"] = tensors.pop(f"blocks.{i}.ffn.w2.weight")
    with pytest.raises(CheckpointError, match=r"lacks layers\.0\.w_down, layers\.1\.w_down") as caught:
        identify(tensors)
    assert "omega" in caught.value.hint


def test_a_bias_follows_the_role_of_its_weight() -> None:
    """Biases of w1, w2, w3 were given roles by their own shapes, which are equal where ffn and width are."""
    tensors = rms_gpt(bias=True)
    for i in range(2):
        for old, new in (("w2", "tmp"), ("w3", "w2"), ("tmp", "w3")):  # gate, up, down = w1, w2, w3
            for leaf in ("weight", "bias"):
                tensors[f"blocks.{i}.ffn.{new}.{leaf}"] = tensors.pop(f"blocks.{i}.ffn.{old}.{leaf}")
    checkpoint = identify(tensors)
    np.testing.assert_array_equal(checkpoint.tensors["layers.1.b_down"], tensors["blocks.1.ffn.w3.bias"])
    assert checkpoint.tensors["layers.0.b_up"].shape == (FFN,)


@pytest.mark.parametrize("key", ["model_type", "hidden_act", "n_heads", "norm"])
def test_a_config_value_that_can_not_be_hashed(key: str) -> None:
    try:
        assert identify(rms_gpt(), {**CONFIG, key: [["a"], DIM]}).spec.dim == DIM
    except TinyError as error:
        assert error.hint


def test_infinity_in_a_config() -> None:
    """json reads 1e400 as infinity, which has no integer."""
    with pytest.raises(TinyError, match="not a positive integer"):
        identify(rms_gpt(), {**CONFIG, "n_heads": float("inf")})
