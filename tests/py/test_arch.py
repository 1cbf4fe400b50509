"""Recognition: the spellings of RMSNorm GPT, facts and where they came from, name maps, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest

from tinyexport import archs, loaders
from tinyexport.archs import ArchOptions
from tinyexport.blob.schema import Act, FfnKind, NormKind
from tinyexport.errors import CheckpointError, ConfigError, TinyError
from tinyexport.loaders import RawCheckpoint
from tinyexport.spec import Checkpoint

VOCAB, DIM, LAYERS, FFN, CONTEXT = 50, 24, 2, 44, 32
CONFIG = {"vocab_size": VOCAB, "dim": DIM, "n_layers": LAYERS, "n_heads": 4, "max_seq_len": CONTEXT, "norm": "rms"}
Arrays = dict[str, np.ndarray]


def rms_gpt(gated: bool = True, bias: bool = False) -> Arrays:
    """The tensors of one RMSNorm GPT under the names of `families`."""
    rng = np.random.default_rng(1)
    t = families.rms_gpt_tensors(rng, VOCAB, DIM, LAYERS, FFN, CONTEXT)
    if not gated:
        for i in range(LAYERS):
            del t[f"blocks.{i}.ffn.w3.weight"]
    if bias:
        linear = [name for name in t if re.search(r"(_proj|w\d)\.weight$", name)]
        t |= {n.replace("weight", "bias"): families.shift(rng, t[n].shape[0]) for n in linear}
    return t


def renamed(tensors: Arrays, *rules: tuple[str, str]) -> Arrays:
    out = {}
    for name, values in tensors.items():
        for pattern, to in rules:
            name = re.sub(pattern, to, name)
        out[name] = values
    assert len(out) == len(tensors)
    return out


def fused(tensors: Arrays, name: str) -> Arrays:
    """q, k and v as one matrix under blocks.N.attn.<name>."""
    out = {n: v for n, v in tensors.items() if not re.search(r"[qkv]_proj", n)}
    for i in range(LAYERS):
        for leaf in ("weight", "bias"):
            parts = [tensors.get(f"blocks.{i}.attn.{p}_proj.{leaf}") for p in "qkv"]
            if parts[0] is not None:
                out[f"blocks.{i}.attn.{name}.{leaf}"] = np.concatenate(parts)
    return out


def raw_of(tensors: Arrays, config: dict[str, Any] | None = None) -> RawCheckpoint:
    raw = RawCheckpoint("pt", {}, config=dict(CONFIG if config is None else config))
    for name, values in tensors.items():
        raw.add(name, values, str(values.dtype))
    return raw


def identify(tensors: Arrays, config: dict[str, Any] | None = None, **options: Any) -> Checkpoint:
    return archs.identify(raw_of(tensors, config), ArchOptions(**options))


def assert_same(ours: Checkpoint, reference: Checkpoint) -> None:
    assert ours.spec == reference.spec
    assert set(ours.tensors) == set(reference.tensors)
    for name, values in reference.tensors.items():
        np.testing.assert_array_equal(ours.tensors[name], values, err_msg=name)


# One rule a line: pattern in the names of `families` -> another spelling.
SPELLINGS = {
    "llama words": r"""
        blocks\.(\d)\.norm1           layers.\1.attention_norm
        blocks\.(\d)\.norm2           layers.\1.ffn_norm
        blocks\.(\d)\.attn\.(\w)_proj layers.\1.attention.w\2
        blocks\.(\d)\.attn\.out_proj  layers.\1.attention.wo
        blocks                        layers
        ffn\.                         feed_forward.
        tok_emb                       tok_embeddings
        lm_head                       output
    """,
    "hf words": r"""
        blocks\.(\d)\.norm1           model.layers.\1.input_layernorm
        blocks\.(\d)\.norm2           model.layers.\1.post_attention_layernorm
        blocks\.(\d)\.attn\.out_proj  model.layers.\1.self_attn.o_proj
        blocks\.(\d)\.attn            model.layers.\1.self_attn
        blocks\.(\d)\.ffn\.w1         model.layers.\1.mlp.gate_proj
        blocks\.(\d)\.ffn\.w3         model.layers.\1.mlp.up_proj
        blocks\.(\d)\.ffn\.w2         model.layers.\1.mlp.down_proj
        ^tok_emb                      model.embed_tokens
        ^pos_emb                      model.position_embeddings
        ^norm                         model.norm
    """,
    "gpt words": r"""
        ^blocks         transformer.h
        norm1           ln_1
        norm2           ln_2
        tok_emb         transformer.wte
        pos_emb         transformer.wpe
        ^norm           transformer.ln_f
        attn\.out_proj  attn.c_proj
    """,
    "long words": r"""
        blocks\.(\d)  decoder.blocks.\1
        norm1         attn_norm
        norm2         mlp_norm
        tok_emb       token_embedding
        pos_emb       position_embedding
        ^norm         final_norm
        lm_head       head
        ffn           mlp
        w1            gate
        w3            up
        w2            down
    """,
    "short words": r"""
        blocks\.(\d)\.norm(\d)\.weight  h.\1.n\2.g
        blocks                          h
        attn\.(\w)_proj                 attn.\1
        attn\.out_proj                  attn.o
        tok_emb                         te
        pos_emb                         pe
        ffn                             ff
        ^norm\.weight                   lnf.g
    """,
    "microgpt words": r"""
        blocks\.(\d)\.attn\.(\w)_proj  layer\1.attn_w\2
        blocks\.(\d)\.attn\.out_proj   layer\1.attn_wo
        blocks\.(\d)\.ffn\.w(\d)       layer\1.mlp_fc\2
        blocks\.(\d)\.norm            layer\1.rms_
        tok_emb                        wte
        pos_emb                        wpe
        ^norm                          rms_f
    """,
    "rms words": r"""
        norm(\d)    rms\1
        ^norm       rms_final
        attn        self_attention
        ffn         feedforward
        tok_emb     embed
        pos_emb     pos_embedding
        (\w)_proj   \1_linear
        out_linear  out_proj
        lm_head     unembed
    """,
    "bare parameters": r"""
        pos_emb\.weight    pos_embed
        norm(\d)\.weight   norm\1.scale
    """,
    "gains named gamma": r"""
        norm(\d)\.weight   norm\1.gamma
        ^norm\.weight      final_norm.gamma
        tok_emb            embedding
    """,
}


def rules(table: str) -> list[tuple[str, str]]:
    return [(line.split()[0], line.split()[1]) for line in table.splitlines() if line.strip()]


class TestSpellings:
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_every_spelling_is_the_same_model(self, spelling: str, bias: bool) -> None:
        reference = identify(rms_gpt(bias=bias))
        assert reference.arch == "rms_gpt"
        assert_same(identify(renamed(rms_gpt(bias=bias), *rules(SPELLINGS[spelling]))), reference)

    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("name", ["qkv", "c_attn", "qkv_proj", "in_proj", "Wqkv", "to_qkv"])
    def test_fused_qkv_is_split(self, name: str, bias: bool) -> None:
        assert_same(identify(fused(rms_gpt(bias=bias), name)), identify(rms_gpt(bias=bias)))

    @pytest.mark.parametrize(
        ("up", "down"),
        [("w1", "w2"), ("fc1", "fc2"), ("c_fc", "c_proj"), ("up", "down"), ("0", "2"), ("net.0", "net.3"),
         ("up_proj", "down_proj"), ("fc_in", "fc_out"), ("linear1", "linear2")],
    )  # fmt: skip
    def test_plain_ffn_is_read_off_the_tensors(self, up: str, down: str) -> None:
        checkpoint = identify(renamed(rms_gpt(gated=False), ("w1", up), ("w2", down)))
        assert {layer.ffn_kind for layer in checkpoint.spec.layers} == {FfnKind.PLAIN}
        assert checkpoint.spec.act is Act.GELU_ERF
        assert_same(checkpoint, identify(rms_gpt(gated=False)))

    def test_w3_may_be_the_down_projection(self) -> None:
        """silu(w1 x) * w2 x, then w3: the shapes tell."""
        tensors = renamed(rms_gpt(), ("w2", "wd"), ("w3", "w2"), ("wd", "w3"))
        assert_same(identify(tensors), identify(rms_gpt()))

    def test_gate_and_up_may_be_fused(self) -> None:
        tensors = rms_gpt()
        for i in range(LAYERS):
            pair = [tensors.pop(f"blocks.{i}.ffn.{w}.weight") for w in ("w1", "w3")]
            tensors[f"blocks.{i}.ffn.gate_up_proj.weight"] = np.concatenate(pair)
        assert_same(identify(tensors), identify(rms_gpt()))

    def test_a_position_table_may_have_a_batch_dimension(self) -> None:
        tensors = rms_gpt()
        tensors["pos_emb"] = tensors.pop("pos_emb.weight")[None]
        assert_same(identify(tensors), identify(rms_gpt()))

    @pytest.mark.parametrize(
        "config",
        [
            {
                "d_model": DIM,
                "num_layers": LAYERS,
                "num_heads": 4,
                "ffn_dim": FFN,
                "block_size": CONTEXT,
                "tie_weights": True,
            },
            {"n_embd": DIM, "n_layer": LAYERS, "n_head": 4, "hidden_dim": FFN, "context_length": CONTEXT},
            {"hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": FFN},
            {"model": {"dim": DIM, "n_layers": LAYERS, "n_heads": 4, "d_ff": FFN}, "training": {"lr": 1e-3}},
            {"embed_dim": DIM, "depth": LAYERS, "heads": 4, "hidden_dim": DIM},
        ],
    )
    def test_config_keys_vary(self, config: dict[str, Any]) -> None:
        assert_same(identify(rms_gpt(), {**config, "norm": "rmsnorm"}), identify(rms_gpt()))


class TestLeftOut:
    def test_buffers_and_duplicates_are_reported(self) -> None:
        tensors = rms_gpt()
        square = np.tril(np.ones((CONTEXT, CONTEXT)))
        tensors |= {
            "blocks.0.attn.mask": square.astype(np.bool_), "blocks.1.attn.bias": square[None, None].astype(np.float32),
            "blocks.0.attn.masked_bias": np.float32(-1e4).reshape(()), "rope.inv_freq": np.ones(3, np.float32),
            "causal_mask": square.astype(np.uint8), "freqs_cos": np.ones((4, 4), np.float32),
        }  # fmt: skip
        checkpoint = identify(tensors)
        assert_same(checkpoint, identify(rms_gpt()))
        left = "\n".join(checkpoint.left_out)
        for name in (
            "attn.mask",
            "attn.bias",
            "masked_bias",
            "inv_freq",
            "causal_mask",
            "freqs_cos",
            "lm_head.weight: duplicate",
        ):
            assert name in left

    def test_another_head_is_kept_and_doubted_where_the_config_says_tied(self) -> None:
        tensors = rms_gpt()
        tensors["lm_head.weight"] = tensors["lm_head.weight"] + 1
        checkpoint = identify(tensors, {**CONFIG, "tie_weights": True})
        assert not checkpoint.spec.tied
        assert checkpoint.facts["tied"].origin == "assumed"

    def test_vocabulary_padding_is_trimmed(self) -> None:
        checkpoint = identify(rms_gpt(), {**CONFIG, "vocab_size": VOCAB - 3})
        assert checkpoint.spec.vocab == VOCAB - 3 == len(checkpoint.tensors["tok_embed"])
        assert checkpoint.spec.tied
        assert any("3 padding rows" in line for line in checkpoint.left_out)


class TestFacts:
    def test_origins_are_recorded(self) -> None:
        read = identify(rms_gpt(), {**CONFIG, "norm_eps": 1e-7, "activation": "silu"})
        assert {name: fact.origin for name, fact in read.facts.items()} == dict.fromkeys(
            ("heads", "norm", "norm_eps", "act"), "read"
        )
        given = identify(rms_gpt(), {}, heads=2, norm="rms", norm_eps=1e-7, act="gelu_tanh")
        assert {fact.origin for fact in given.facts.values()} == {"given"}
        assert given.spec.n_heads == 2
        assert given.spec.act is Act.GELU_TANH
        assumed = identify(rms_gpt(), {})
        assert {fact.origin for fact in assumed.facts.values()} == {"assumed"}
        assert all(fact.note for fact in assumed.facts.values())

    def test_probing_covers_what_is_undecided(self) -> None:
        tensors = {n: v for n, v in rms_gpt().items() if "pos_emb" not in n}
        options = archs.undecided(identify(tensors, {}))
        assert options[0] == {}
        assert {"heads": 2, "rope": "interleaved"} in options
        assert {"heads": 2} in options
        assert {"rope": "interleaved"} in options
        assert {"ternary": True} in options
        assert {"norm_eps": 1e-06} in options
        for change in options:  # each of them is a model
            assert identify(tensors, {}, **change).spec.dim == DIM
        assert archs.undecided(identify(rms_gpt(), {**CONFIG, "norm_eps": 1e-7, "act": "silu"})) == []

    def test_latent_ternary_weights_are_said_or_guessed_aloud(self) -> None:
        tensors = {n: v for n, v in rms_gpt().items() if "pos_emb" not in n}
        plain = identify(tensors, {"n_heads": 4})
        assert not plain.ternary
        assert "--arch bitlm" in plain.facts["ternary"].note
        for told in (
            identify(tensors, {"n_heads": 4}, arch="bitlm"),
            identify(tensors, {"n_heads": 4, "bitlinear": True}),
        ):
            assert told.arch == "bitlm"
            assert len(told.ternary) == 7 * LAYERS
            w, s = tensors["blocks.0.ffn.w1.weight"], told.ternary["layers.0.w_gate"]
            assert s == pytest.approx(np.abs(w).mean(), rel=1e-6)
            np.testing.assert_allclose(told.tensors["layers.0.w_gate"], np.clip(np.rint(w / s), -1, 1) * s)

    def test_weights_that_are_ternary_are_noticed_anywhere(self) -> None:
        tensors = rms_gpt()
        tensors["blocks.1.ffn.w2.weight"] = np.sign(tensors["blocks.1.ffn.w2.weight"]) * np.float32(0.37)
        assert identify(tensors).ternary == {"layers.1.w_down": pytest.approx(0.37)}

    def test_norm_inside_with_gains_is_refused(self) -> None:
        tensors = {n: v for n, v in rms_gpt().items() if "pos_emb" not in n}
        gains = {
            n.replace(".weight", ".norm.weight"): np.ones(v.shape[1], np.float32)
            for n, v in tensors.items()
            if "_proj" in n
        }
        checkpoint = identify(tensors | gains, {"n_heads": 4})
        assert checkpoint.spec.input_quant.name == "NORM_CLAMP"
        gains["blocks.0.attn.q_proj.norm.weight"][3] = 2
        with pytest.raises(CheckpointError, match="learned gains"):
            identify(tensors | gains, {"n_heads": 4})


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
    "wrong columns": (put("blocks.1.attn.out_proj.weight", lambda t: np.ones((9, 9), np.float32)), {}, r"out_proj\.weight has shape"),
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
            ({"rope_type": "linear"}, "factor = None"),
            ({"rope_type": "linear", "factor": -2}, "factor = -2"),
            ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor = None"),
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
        assert report["missing"] == report["left_over"] == []
        assert {"name": "norm.weight", "shape": [DIM], "dtype": "float32"} in report["tensors"]
        assert report["names"]["blocks.1.ffn.w2.weight"] == "layers.1.w_down"
        assert report["facts"]["heads"] == {"value": 4, "origin": "read", "note": ""}
        json.dumps(report)

    def test_it_shows_what_is_missing(self) -> None:
        report = archs.report(raw_of(renamed(rms_gpt(), ("q_proj", "quary_proj"))))
        assert report["left_over"] == ["blocks.0.attn.quary_proj.weight", "blocks.1.attn.quary_proj.weight"]
        assert report["missing"][0].startswith("layers.0.wq (perhaps blocks.0.attn.quary_proj.weight")
        assert "lacks" in report["error"]
        json.dumps(report)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_four_families_are_recognised(tmp_path: Path, family: str) -> None:
    if family in ("bitlm", "rms_gpt"):
        pytest.importorskip("torch")
    raw = loaders.load(str(families.write(family, tmp_path, real=True)))
    checkpoint = archs.identify(raw)
    parameters = sum(values.size for values in checkpoint.tensors.values())
    expected = {
        "tinytalk": ("gpt_neo", 3_410_560),
        "tinybuddy": ("llama", 83_856),
        "bitlm": ("bitlm", 998_784),
        "rms_gpt": ("rms_gpt", 2_577_744),
    }
    assert (checkpoint.arch, parameters) == expected[family]
    assert set(raw.tokenizer_files) & {"tokenizer_json", "tokenizer_model"}
    assert checkpoint.spec.norm_kind is (NormKind.LAYER if family == "tinytalk" else NormKind.RMS)
