"""Recognition: the spellings of RMSNorm GPT, what is left out, and where facts came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
from bare import CONFIG, CONTEXT, DIM, FFN, LAYERS, VOCAB, assert_same, fused, identify, raw_of, renamed, rms_gpt

from tinyexport import archs, loaders
from tinyexport.archs import ArchOptions
from tinyexport.archs.ternary import looks_latent
from tinyexport.blob.schema import Act, FfnKind, NormKind, PosKind
from tinyexport.errors import CheckpointError, ConfigError
from tinyexport.spec import LINEAR_TENSORS

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


def trained_through_ste(rng: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    """Latent weights after gradient steps on ||X (ternary(W) - T)||^2, taken as if ternary() were the identity."""
    weight, target = rng.standard_normal((rows, cols)), rng.standard_normal((rows, cols))
    for _ in range(150):
        scale = np.abs(weight).mean()
        ternary = np.clip(np.rint(weight / scale), -1, 1) * scale
        x = rng.standard_normal((cols, 2 * cols))
        weight -= 0.03 * ((ternary - target) @ x) @ x.T / (2 * cols)
    return weight.astype(np.float32)


class TestPublished:
    """What the published tiny models look like, as far as their pages tell."""

    def test_a_model_with_code_of_its_own_is_guessed_aloud(self, tmp_path: Path) -> None:
        raw = loaders.load(str(families.write("tinybuddy", tmp_path)))
        reference = archs.identify(raw)
        raw.config["model_type"] = "tinybuddy"
        with pytest.raises(ConfigError, match="'tinybuddy' is not known"):
            archs.identify(raw)
        raw.config["auto_map"] = {"AutoModelForCausalLM": "modeling_tinybuddy.TinyBuddyForCausalLM"}
        guessed = archs.identify(raw)
        assert_same(guessed, reference)
        assert guessed.facts["arch"].origin == "assumed"
        assert "brings its own code" in guessed.facts["arch"].note

    def test_a_twist_in_the_config_is_refused(self, tmp_path: Path) -> None:
        raw = loaders.load(str(families.write("tinybuddy", tmp_path)))
        raw.config["embedding_multiplier"] = 12.0
        with pytest.raises(ConfigError, match="embedding_multiplier"):
            archs.identify(raw)

    def test_tags_tell_that_a_bare_state_dict_is_ternary(self) -> None:
        """tiny-tiny-stories: `w` for the gains of norms, no config, the tag bitnet on its card."""
        tensors = {n: v for n, v in rms_gpt().items() if "pos_emb" not in n}
        named = renamed(tensors, (r"norm(\d?)\.weight", r"norm\1.w"))
        raw = raw_of(named, {"d_model": DIM, "d_ff": FFN, "n_heads": 4})
        assert archs.identify(raw).arch == "llama"
        raw.tags = ["tiny", "bitnet"]
        checkpoint = archs.identify(raw)
        assert checkpoint.arch == "bitlm"
        assert len(checkpoint.ternary) == 7 * LAYERS
        assert checkpoint.facts["ternary"].origin == "read"
        assert not archs.identify(raw, ArchOptions(ternary=False)).ternary

    def test_latent_weights_are_known_by_their_crowding(self) -> None:
        """Steps of a straight-through estimator towards a random target leave weights at the rounding threshold."""
        rng = np.random.default_rng(2)
        tensors = {n: v for n, v in rms_gpt().items() if "pos_emb" not in n}
        for name in tensors:
            if "_proj" in name or "ffn" in name:
                tensors[name] = trained_through_ste(rng, *tensors[name].shape)
        guessed = identify(tensors, {"n_heads": 4})
        assert guessed.arch == "bitlm"
        assert guessed.facts["ternary"].origin == "assumed"
        assert {"ternary": False} in archs.undecided(guessed)
        assert {"ternary": True} not in archs.undecided(guessed)
        assert not identify(tensors, {"n_heads": 4}, ternary=False).ternary
        assert identify(tensors, {"n_heads": 4}, arch="llama").arch == "llama"

    @pytest.mark.parametrize("draw", ["standard_normal", "uniform", "laplace", "logistic"])
    def test_ordinary_weights_do_not_look_latent(self, draw: str) -> None:
        rng = np.random.default_rng(3)
        weights = getattr(rng, draw)(size=(64, 64)) - (0.5 if draw == "uniform" else 0.0)
        assert not looks_latent([weights])

    def test_trained_float_models_do_not_look_latent(self, shared: Path) -> None:
        for name in ("tinytalk-pruned", "stories260k"):
            tensors = archs.identify(loaders.load(str(shared / "checkpoints" / name))).tensors
            assert not looks_latent([v for n, v in tensors.items() if n.rsplit(".", 1)[-1] in LINEAR_TENSORS])

    def test_positions_without_a_table_are_doubted(self) -> None:
        tensors = {n: v for n, v in rms_gpt().items() if "pos_emb" not in n}
        guessed = identify(tensors, {"n_heads": 4, "norm": "rms"})
        assert guessed.facts["positions"].origin == "assumed"
        assert {"positions": "sinusoidal"} in archs.undecided(guessed)
        buffered = identify(tensors | {"rope.inv_freq": np.ones(3, np.float32)}, {"n_heads": 4})
        assert buffered.facts["positions"].origin == "read"
        fixed = identify(tensors, {"n_heads": 4, "max_seq_len": 9}, positions="sinusoidal").tensors["pos_embed"]
        assert fixed.shape == (9, DIM)
        angle = 5 / 1e4 ** (2 / DIM)
        np.testing.assert_allclose(fixed[5, 2:4], [np.sin(angle), np.cos(angle)], 1e-6)
        assert identify(tensors, {"n_heads": 4}, positions="none").spec.pos_kind is PosKind.NONE


def test_gpt_neo_is_known_by_its_names_and_its_windows_are_doubted(tmp_path: Path) -> None:
    raw = loaders.load(str(families.write("tinytalk", tmp_path)))
    told = archs.identify(raw)
    raw.config = {"num_heads": 4}
    guessed = archs.identify(raw)
    assert guessed.arch == "gpt_neo"
    assert guessed.spec.attn_scale == told.spec.attn_scale == 1.0
    assert [layer.window for layer in guessed.spec.layers] == [0, 256, 0, 256]
    assert guessed.facts["window"].origin == "assumed"
    assert {layer.window for layer in archs.identify(raw, ArchOptions(window=0)).spec.layers} == {0}


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
