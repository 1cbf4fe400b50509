"""Checkpoints that once were read wrongly."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "py"))
from bare import CONFIG, DIM, FFN, identify, rms_gpt

from tinyexport.blob import reader
from tinyexport.errors import CheckpointError, ConfigError, TinyError
from tinyexport.pipeline import QuantizeOptions, SourceOptions, quantize

TINYBUDDY = Path(__file__).parents[2] / "examples" / "tinybuddy"


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


def with_facts(folder: Path, facts: str) -> SourceOptions:
    """A copy of TinyBuddy with this tinyexport.json."""
    copy = folder / "model"
    shutil.copytree(TINYBUDDY, copy, dirs_exist_ok=True)
    (copy / "tinyexport.json").write_text(facts, "utf-8")
    return SourceOptions(str(copy))


@pytest.mark.parametrize(
    "facts",
    [
        '{"a":' * 3000 + "1" + "}" * 3000,
        '{"chat": 1}',
        '{"chat": ["ab"]}',
        '{"sampling": "x"}',
        '{"sampling": {"top_k": null}}',
        '{"sampling": {"top_k": 1.5}}',
        '{"sampling": {"temperature": true}}',
        '{"sampling": {"temperature": NaN}}',
        '{"sampling": {"temperature": 101}}',
        '{"sampling": {"repeat_penalty": 101}}',
        '{"sampling": {"temperature": 1' + "0" * 400 + "}}",
        '{"chat": {"kind": 7}}',
        '{"chat": {"kind": "turns", "user_prefix": null}}',
        '{"chat": {"kind": "turns", "user_prefix": "\\ud800"}}',
        '{"chat": {"stop": [1]}}',
        '{"name": ["x"]}',
        '{"chat": {"stop": "' + "x" * 129 + '"}}',
    ],
    ids=lambda facts: facts[:40],
)
def test_side_files_that_lie_are_refused(facts: str, tmp_path: Path) -> None:
    """Some ended in a traceback; null became the text None, 1.5 candidates 1, and true a temperature."""
    with pytest.raises(ConfigError) as caught:
        quantize(with_facts(tmp_path, facts), QuantizeOptions())
    assert caught.value.hint


def test_one_stop_string_is_not_taken_apart(tmp_path: Path) -> None:
    """A text in the place of a list became a stop string for each of its letters."""
    data = quantize(with_facts(tmp_path, '{"chat": {"stop": "The End"}}'), QuantizeOptions()).data
    chat = reader.read(data).chat
    assert chat is not None and chat.stop_strings == ("The End",)


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    """A folder or a --name in another encoding than UTF-8 ended in a traceback."""
    data = quantize(with_facts(tmp_path, "{}"), QuantizeOptions(name="caf\udce9")).data
    assert reader.read(data).info["name"] == "caf?"
