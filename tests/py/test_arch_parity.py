"""Every architecture: what is identified computes the logits of the model that was saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyexport import archs, loaders
from tinyexport.archs import ArchOptions
from tinyexport.blob.schema import InputQuant

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from tinyexport.archs.ternary import from_latent
from tinyexport.reference.bitlm import BitLM, BitLMConfig
from tinyexport.reference.graph import torch_logits
from tinyexport.reference.rms_gpt import RmsGpt, RmsGptConfig

TOLERANCE = 1e-5  # of the range of the logits

LLAMA = {
    "vocab_size": 61, "hidden_size": 48, "intermediate_size": 52, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
GPT = {"vocab_size": 61, "bos_token_id": 60, "eos_token_id": 60}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_neo with a binding window": ("GPTNeo", GPT | {
        "hidden_size": 40, "num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]],
        "window_size": 7, "max_position_embeddings": 64}),
    "gpt_neo with another ffn width": ("GPTNeo", GPT | {
        "hidden_size": 24, "num_layers": 3, "num_heads": 3, "attention_types": [[["local"], 1], [["global"], 2]],
        "window_size": 5, "intermediate_size": 28, "activation_function": "relu", "max_position_embeddings": 64}),
    "gpt2": ("GPT2LMHead", GPT | {"n_embd": 40, "n_layer": 3, "n_head": 4, "n_positions": 64}),
    "gpt2 unscaled, untied, gelu": ("GPT2LMHead", GPT | {
        "n_embd": 24, "n_layer": 2, "n_head": 2, "n_positions": 64, "n_inner": 56, "activation_function": "gelu",
        "scale_attn_weights": False, "tie_word_embeddings": False}),
    "llama": ("Llama", LLAMA),
    "llama tied with theta": ("Llama", LLAMA | {
        "tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 700.0}}),
    "llama with biases and wide heads": ("Llama", LLAMA | {
        "attention_bias": True, "mlp_bias": True, "head_dim": 12, "hidden_act": "gelu_pytorch_tanh"}),
    "llama with linear rope": ("Llama", LLAMA | {
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0}}),
    "llama with llama3 rope": ("Llama", LLAMA | {"rope_parameters": LLAMA3}),
    "llama with dynamic rope": ("Llama", LLAMA | {
        "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1000.0}}),
    "llama without gqa, relu": ("Llama", LLAMA | {"num_key_value_heads": 6, "hidden_act": "relu"}),
    "mistral": ("Mistral", LLAMA | {"sliding_window": 6}),
    "qwen2": ("Qwen2", LLAMA | {"tie_word_embeddings": True}),
    "qwen2 with windows": ("Qwen2", LLAMA | {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "bitnet": ("BitNet", LLAMA | {"hidden_act": "relu2"}),
}  # fmt: skip


def randomise(model: Any) -> Any:
    """Norms and biases away from one and zero, so that a lost one shows."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.3 if parameter.ndim == 1 else 1.5 / parameter.shape[-1] ** 0.5
            noise = torch.randn(parameter.shape, generator=generator) * spread
            parameter.copy_(noise + (parameter if parameter.ndim == 1 else 0))
    return model.eval()


def logits_of(model: Any, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        out = model(torch.tensor([ids]))
    return (out.logits if hasattr(out, "logits") else out)[0].float().numpy()


def assert_equal(path: Path, model: Any, options: ArchOptions | None = None, tolerance: float = TOLERANCE) -> Any:
    ids = np.random.default_rng(8).integers(0, 40, 40).tolist()
    checkpoint = archs.identify(loaders.load(str(path)), options)
    want, got = logits_of(model, ids), torch_logits(checkpoint, ids)
    assert np.abs(got - want).max() <= tolerance * np.ptp(want)
    return checkpoint


@pytest.mark.parametrize("case", CASES)
def test_transformers_models(tmp_path: Path, case: str) -> None:
    kind, settings = CASES[case]
    config = getattr(transformers, f"{kind.removesuffix('LMHead')}Config")(**settings)
    model_class = getattr(transformers, f"{kind}Model" if kind.endswith("LMHead") else f"{kind}ForCausalLM")
    model = randomise(model_class._from_config(config, attn_implementation="eager"))
    model.save_pretrained(tmp_path)
    options = ArchOptions(ternary=False) if kind == "BitNet" else None  # random floats, not latent ones
    checkpoint = assert_equal(tmp_path, model, options)
    assert not [name for name, fact in checkpoint.facts.items() if fact.origin == "assumed"]


def test_older_configs_and_bin_files(tmp_path: Path) -> None:
    """rope_theta and rope_scaling at the top level, as transformers 4 wrote them, and pytorch_model.bin."""
    config = transformers.LlamaConfig(**LLAMA, rope_parameters=LLAMA3)
    model = randomise(transformers.LlamaForCausalLM(config))
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    old = {**LLAMA, "model_type": "llama", "rope_theta": 500.0, "hidden_act": "silu", "tie_word_embeddings": False}
    old |= {"rms_norm_eps": 1e-6, "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_theta"}}
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert_equal(tmp_path, model)


def test_gpt2_names_without_a_prefix_and_with_masks(tmp_path: Path) -> None:
    model = randomise(transformers.GPT2LMHeadModel(transformers.GPT2Config(**CASES["gpt2"][1])))
    state = {name.removeprefix("transformer."): t for name, t in model.state_dict().items() if name != "lm_head.weight"}
    for i in range(3):
        state[f"h.{i}.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
        state[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(state, tmp_path / "pytorch_model.bin")
    model.config.save_pretrained(tmp_path)
    checkpoint = assert_equal(tmp_path, model)
    assert len(checkpoint.left_out) == 6


def test_latent_bitnet_is_made_ternary(tmp_path: Path) -> None:
    """Float weights of a BitNet that quantises online: the model computes with their ternary form."""
    config = transformers.BitNetConfig(**LLAMA)
    model = randomise(transformers.BitNetForCausalLM(config))
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["quantization_config"] = {
        "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                scale = 1.0 / module.weight.abs().mean().clamp(min=1e-5)
                module.weight.copy_((module.weight * scale).round().clamp(-1, 1) / scale)
    checkpoint = assert_equal(tmp_path, model)
    assert checkpoint.spec.input_quant is InputQuant.CLAMP
    assert len(checkpoint.ternary) == len(checkpoint.ternary_latent) == 7 * 3
    assert checkpoint.facts["ternary"].origin == "read"


@pytest.mark.parametrize("linear_class", ["autobitlinear", "bitlinear"])
def test_packed_bitnet_equals_its_float_form(tmp_path: Path, linear_class: str) -> None:
    """AutoBitLinear multiplies by weight_scale, BitLinear divides by it."""
    config = transformers.BitNetConfig(**{**LLAMA, "intermediate_size": 60})
    model = randomise(transformers.BitNetForCausalLM(config))
    state = {}
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if "_proj" not in name:
                state[name] = weight
                continue
            values, scale = from_latent(weight.numpy())
            model.get_parameter(name).copy_(torch.from_numpy(values))
            codes = torch.from_numpy(np.rint(values / scale)).to(torch.int8)
            state[name] = transformers.integrations.bitnet.pack_weights(codes)
            stored = scale if linear_class == "autobitlinear" else 1 / scale
            state[name.replace("weight", "weight_scale")] = torch.tensor([stored])
    from safetensors.torch import save_file

    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    saved = config.to_dict() | {"quantization_config": {"quant_method": "bitnet", "linear_class": linear_class}}
    (tmp_path / "config.json").write_text(json.dumps(saved, default=str))
    checkpoint = assert_equal(tmp_path, model)
    assert len(checkpoint.ternary) == 7 * 3
    for name, scale in checkpoint.ternary.items():
        assert set(np.unique(checkpoint.tensors[name])) <= {np.float32(-scale), np.float32(0), np.float32(scale)}


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_rms_gpt_reference(tmp_path: Path, gated: bool, bias: bool) -> None:
    act = "silu" if gated else "gelu"
    config = RmsGptConfig(61, 48, 3, 4, 100, 64, gated=gated, bias=bias, act=act, tie_weights=bias)
    model = randomise(RmsGpt(config))
    torch.save(model.state_dict(), tmp_path / "m.pt")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    checkpoint = assert_equal(tmp_path / "m.pt", model)
    assert checkpoint.spec.context == 64
    assert checkpoint.spec.tied is bias


@pytest.mark.parametrize("inside", [True, False])
def test_bitlm_reference(tmp_path: Path, inside: bool) -> None:
    config = BitLMConfig(
        vocab_size=61, dim=32, n_layers=2, n_kv_heads=2, ffn_dim=36, max_seq_len=64, norm_inside=inside
    )
    model = randomise(BitLM(config))
    state = {f"_orig_mod.{name}": t for name, t in model.state_dict().items()}
    torch.save({"model": state, "config": config.to_dict()}, tmp_path / "m.pt")
    checkpoint = assert_equal(tmp_path / "m.pt", model)
    assert checkpoint.arch == "bitlm"
    assert len(checkpoint.ternary) == 7 * 2
    assert checkpoint.spec.input_quant is (InputQuant.NORM_CLAMP if inside else InputQuant.PLAIN)


def test_bitlm_gradients_reach_the_latent_weights() -> None:
    model = BitLM(BitLMConfig(vocab_size=20, dim=16, n_layers=1, ffn_dim=20, input_quant="per_token"))
    model(torch.arange(8)[None]).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_shape_of_tiny_tiny_stories() -> None:
    assert sum(p.numel() for p in BitLM(BitLMConfig()).parameters()) == 998_784


@pytest.mark.parametrize(
    "name", ["tinytalk-pruned", "stories260k", "stories260k-gguf", "bitnet-stories-1m", "bitnet-stories-1m-packed"]
)
def test_real_checkpoints_continue_as_their_references(shared: Path, name: str) -> None:
    """Greedy ids, the first five logits and every margin of reference.json."""
    folder = shared / "checkpoints" / name
    checkpoint = archs.identify(loaders.load(str(folder)))
    source = name.removesuffix("-gguf").removesuffix("-packed")
    cases = json.loads((shared / "checkpoints" / source / "reference.json").read_text())["cases"]
    assert len(cases) == 5
    for case in cases:
        prompt, ids = len(case["prompt_ids"]), case["continuation_ids"]
        logits = torch_logits(checkpoint, case["prompt_ids"] + ids)[prompt - 1 : -1]
        assert logits.argmax(-1).tolist() == ids
        for token, value in case["first_logits_top5"]:
            assert abs(logits[0, token] - value) < 1e-4 * np.ptp(logits[0])


def test_packed_and_float_bitnet_hold_the_same_weights(shared: Path) -> None:
    packed, floats = (
        archs.identify(loaders.load(str(shared / "checkpoints" / name)))
        for name in ("bitnet-stories-1m-packed", "bitnet-stories-1m")
    )
    assert packed.ternary == floats.ternary
    assert len(packed.ternary) == 56
    for name, values in floats.tensors.items():
        np.testing.assert_array_equal(packed.tensors[name], values)
