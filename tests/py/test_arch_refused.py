"""Name maps, the report, and every way in which a model can be refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
from bare import CONFIG, DIM, FFN, Arrays, assert_same, identify, raw_of, renamed, rms_gpt

from tinyexport import archs, loaders
from tinyexport.errors import CheckpointError, ConfigError, TinyError


class TestNameMap:
    ODD = (
        (r"blocks\.(\d)\.attn\.q_proj", r"stack.\1.mix.alpha"),
        (r"blocks\.(\d)\.ffn\.w2", r"stack.\1.mix.omega"),
        ("tok_emb", "pieces"),
    )

    def write(self, folder: Path, text: str) -> str:
        (folder / "map.toml").write_text(text)
        return str(folder / "map.toml")

    def test_a_map_names_the_rest(self, tmp_path: Path) -> None:
        tensors = renamed(rms_gpt(), *self.ODD)
        with pytest.raises(CheckpointError, match="lacks tok_embed") as caught:
            identify(tensors)
        assert "pieces.weight" in caught.value.hint
        names = self.write(
            tmp_path,
            '[names]\ntok_embed = "pieces.weight"\n"layers.{i}.wq" = "stack.{i}.mix.alpha.weight"\n'
            'w_down = "stack.{i}.mix.omega.weight"\n',
        )
        assert_same(identify(tensors, names=names), identify(rms_gpt()))

    def test_a_map_overrides_a_guess(self, tmp_path: Path) -> None:
        names = self.write(
            tmp_path, '[names]\nw_gate = "blocks.{i}.ffn.w3.weight"\nw_up = "blocks.{i}.ffn.w1.weight"\n'
        )
        swapped = identify(rms_gpt(), names=names)
        np.testing.assert_array_equal(swapped.tensors["layers.1.w_up"], rms_gpt()["blocks.1.ffn.w1.weight"])

    @pytest.mark.parametrize(
        ("text", "message", "hint"),
        [
            ('[names]\ntok_embedd = "tok_emb.weight"', "unknown key 'tok_embedd'", "tok_embed"),
            ('[names]\n"layers.{i}.w_dwn" = "a.{i}.b"', "unknown key", "w_down"),
            ('[names]\ntok_embed = "tok_embb.weight"', "names tok_embb.weight", "tok_emb.weight"),
            (
                '[names]\nwq = "blocks.{i}.attn.qq_proj.weight"',
                "which is not in the checkpoint",
                "blocks.0.attn.q_proj.weight",
            ),
            ('[names]\nwq = "blocks.0.attn.q_proj.weight"', "maps wq to", "with {i}"),
            ('[names]\ntok_embed = "x.{i}"', "maps tok_embed", "without {i}"),
            ("[names]\nwq = 3", "maps wq to 3", "tensor name"),
            ("names = 3", "one table", ""),
            ("[nams]", "one table", ""),
            ("[names", "not TOML", ""),
        ],
    )
    def test_typos_are_errors(self, tmp_path: Path, text: str, message: str, hint: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(message)) as caught:
            identify(rms_gpt(), names=self.write(tmp_path, text))
        assert hint in caught.value.hint

    def test_a_missing_map_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="can not be read"):
            identify(rms_gpt(), names="/nowhere/map.toml")


def without(name: str) -> Callable[[Arrays], Any]:
    return lambda t: t.pop(name)


def put(name: str, value: Callable[[Arrays], np.ndarray]) -> Callable[[Arrays], Any]:
    return lambda t: t.__setitem__(name, value(t))


BROKEN: dict[str, tuple[Callable[[Arrays], Any], dict[str, Any], str]] = {
    "missing norm": (without("blocks.1.norm2.weight"), {}, r"lacks layers\.1\.ffn_norm"),
    "missing matrix": (without("blocks.0.attn.k_proj.weight"), {}, r"lacks layers\.0\.wk"),
    "missing embedding": (without("tok_emb.weight"), {}, "lacks tok_embed"),
    "missing final norm": (without("norm.weight"), {}, "lacks final_norm"),
    "missing layer": (lambda t: [t.pop(n) for n in list(t) if n.startswith("blocks.0.")], {}, r"lacks layers\.0\."),
    "no layers": (lambda t: [t.pop(n) for n in list(t) if n.startswith("blocks.")], {}, "lacks layers.0"),
    "unused tensor": (put("blocks.0.attn.q_norm.weight", lambda t: np.ones(6, np.float32)), {}, r"q_norm\.weight"),
    "unused global": (put("value_head.weight", lambda t: np.ones((3, DIM), np.float32)), {}, r"value_head\.weight"),
    "wrong columns": (put("blocks.1.attn.out_proj.weight", lambda t: np.ones((9, 9), "f4")), {}, "has shape"),
    "wrong norm": (put("norm.weight", lambda t: np.ones(DIM + 1, np.float32)), {}, "norm.weight has shape"),
    "three dimensions": (put("norm.weight", lambda t: np.ones((2, 2, 2), np.float32)), {}, "norm.weight has shape"),
    "nan": (put("blocks.1.ffn.w1.weight", lambda t: np.full((FFN, DIM), np.nan, np.float32)), {}, "NaN or Inf"),
    "inf": (put("norm.weight", lambda t: np.full(DIM, np.inf, np.float32)), {}, "norm.weight holds NaN or Inf"),
    "integers": (put("blocks.0.ffn.w2.weight", lambda t: np.ones((DIM, FFN), np.int8)), {}, "int8, not floats"),
    "another width": (lambda t: None, {"dim": 48}, "config says dim = 48, the tensors say 24"),
    "another depth": (lambda t: None, {"n_layers": 3}, "config says n_layers = 3"),
    "another ffn": (lambda t: None, {"ffn_dim": 45}, "config says ffn_dim = 45"),
    "larger vocabulary": (lambda t: None, {"vocab_size": 99}, "config says vocab_size = 99"),
    "heads that do not divide": (lambda t: None, {"n_heads": 5}, "5 heads do not divide"),
    "other kv heads": (lambda t: None, {"n_kv_heads": 2}, "24 key rows"),
    "heads that are no number": (lambda t: None, {"n_heads": "four"}, "not a positive integer"),
    "negative eps": (lambda t: None, {"norm_eps": -1.0}, "not a positive number"),
    "unknown activation": (lambda t: None, {"activation": "silo"}, "activation 'silo'"),
    "unknown architecture": (lambda t: None, {"model_type": "mamba"}, "architecture 'mamba' is not known"),
    "untied without a head": (without("lm_head.weight"), {"tie_weights": False}, "no head is there"),
}  # fmt: skip


class TestRefused:
    @pytest.mark.parametrize("case", BROKEN)
    def test_broken_models_are_named(self, case: str) -> None:
        damage, config, message = BROKEN[case]
        tensors = rms_gpt()
        damage(tensors)
        with pytest.raises(TinyError, match=message) as caught:
            identify(tensors, {**CONFIG, **config})
        assert caught.value.hint
        assert caught.value.message.count("\n") == 0

    def test_close_architectures_are_suggested(self) -> None:
        with pytest.raises(ConfigError) as caught:
            identify(rms_gpt(), arch="lama")
        assert "did you mean llama" in caught.value.hint

    @pytest.mark.parametrize(
        ("scaling", "message"),
        [
            ({"rope_type": "yarn", "factor": 2.0}, "'yarn' is not supported"),
            ({"rope_type": "linear"}, "factor of the RoPE scaling = None"),
            ({"rope_type": "linear", "factor": -2}, "factor of the RoPE scaling = -2"),
            ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor of the RoPE scaling = None"),
            ("linear", "not an object"),
        ],
    )
    def test_rope_scaling_that_can_not_be_held(self, tmp_path: Path, scaling: object, message: str) -> None:
        path = families.write("tinybuddy", tmp_path)
        config = json.loads((path / "config.json").read_text()) | {"rope_scaling": scaling}
        (path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError, match=message):
            archs.identify(loaders.load(str(path)))

    def test_context_is_limited_by_the_position_table(self) -> None:
        with pytest.raises(ConfigError, match="more than the 32 rows"):
            identify(rms_gpt(), context=33)
        shorter = identify(rms_gpt(), context=20)
        assert shorter.spec.context == len(shorter.tensors["pos_embed"]) == 20

    def test_packed_weights_that_lie(self, tmp_path: Path) -> None:
        tensors = {n: v for n, v in rms_gpt().items() if "pos_emb" not in n}
        bad = dict(tensors)
        bad["blocks.0.ffn.w2.weight"] = np.full((DIM // 4, FFN), 0xFF, np.uint8)
        bad["blocks.0.ffn.w2.weight_scale"] = np.ones(1, np.float32)
        with pytest.raises(CheckpointError, match="the code 3"):
            identify(bad, {"n_heads": 4})
        bad["blocks.0.ffn.w2.weight"] = np.full((DIM // 4, FFN), 0x55, np.uint8)
        bad["blocks.0.ffn.w2.weight_scale"] = np.array([np.nan], np.float32)
        with pytest.raises(CheckpointError, match="not one positive number"):
            identify(bad, {"n_heads": 4})


class TestReport:
    def test_it_shows_tensors_and_the_guess(self) -> None:
        report = archs.report(raw_of(rms_gpt()))
        assert report["arch"] == "rms_gpt"
        assert report["parameters"] == sum(t.size for n, t in rms_gpt().items() if n != "lm_head.weight")
        assert report["missing"] == report["left_over"] == []
        assert {"name": "norm.weight", "shape": [DIM], "dtype": "float32"} in report["tensors"]
        assert report["names"]["blocks.1.ffn.w2.weight"] == "layers.1.w_down"
        assert report["facts"]["heads"] == {"value": 4, "origin": "read", "note": ""}
        json.dumps(report)

    def test_people_read_a_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        from tinyexport.commands.checkpoint_report import print_report

        print_report(archs.report(raw_of(renamed(rms_gpt(), ("w2", "omega")), {})))
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].split() == ["tok_emb.weight", "50x24", "float32", "tok_embed"]
        assert ["blocks.0.ffn.omega.weight", "24x44", "float32", "?"] in [line.split() for line in lines]
        assert any(line.startswith("missing: layers.1.w_down") for line in lines)
        assert lines[-1].startswith("hint: unused tensors that may be meant: blocks.0.ffn.omega.weight")

    def test_it_shows_what_is_missing(self) -> None:
        report = archs.report(raw_of(renamed(rms_gpt(), ("q_proj", "quary_proj"))))
        assert report["left_over"] == ["blocks.0.attn.quary_proj.weight", "blocks.1.attn.quary_proj.weight"]
        assert report["missing"][0].startswith("layers.0.wq (perhaps blocks.0.attn.quary_proj.weight")
        assert "lacks" in report["error"]
        json.dumps(report)


JUNK = [None, "x", -1, 0, 2.5, float("inf"), float("nan"), True, 1 << 70, [], [["a"], 3], {}, {"a": 1}]


@pytest.mark.parametrize("family", ["tinytalk", "tinybuddy", "bitlm", "rms_gpt"])
def test_a_config_of_junk_is_an_error_or_a_model(tmp_path: Path, family: str) -> None:
    pytest.importorskip("torch")
    raw = loaders.load(str(families.write(family, tmp_path)))
    config = raw.config
    extra = ("rope_scaling", "rope_parameters", "quantization_config", "head_dim", "rope_dims", "partial_rotary_factor",
             "sliding_window", "layer_types", "attention_layers", "input_quant", "norm_inside", "model")  # fmt: skip
    refused = 0
    for key in (*config, *extra):
        for junk in JUNK:
            raw.config = {**config, key: junk}
            try:
                archs.identify(raw)
            except TinyError as error:
                assert error.message
                refused += 1
    assert refused > 40
