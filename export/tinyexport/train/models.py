"""The four families as trainable PyTorch modules, their config files, and how they are saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .recipe import ModelPart, Recipe, TrainError
from .tokenizer import Tokenizer


def llama_config(model: ModelPart, tok: Tokenizer) -> dict[str, Any]:
    """config.json of a Llama-style model, in the plain form that every reader knows."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "bos_token_id": tok.bos if tok.bos >= 0 else None,
        "eos_token_id": tok.eos,
        "head_dim": model.dim // model.heads,
        "hidden_act": "silu",
        "hidden_size": model.dim,
        "initializer_range": model.init_std,
        "intermediate_size": model.ffn_dim or 4 * model.dim,
        "max_position_embeddings": model.context,
        "mlp_bias": False,
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.kv_heads or model.heads,
        "rms_norm_eps": model.norm_eps,
        "rope_theta": model.rope_theta,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": tok.vocab,
    }


def gpt_neo_config(model: ModelPart, tok: Tokenizer) -> dict[str, Any]:
    """config.json of a GPT-Neo model: global and local layers take turns, no dropout."""
    return {
        "architectures": ["GPTNeoForCausalLM"],
        "model_type": "gpt_neo",
        "activation_function": "gelu_new",
        "attention_dropout": 0.0,
        "attention_types": _attention_types(model.layers),
        "bos_token_id": tok.bos if tok.bos >= 0 else tok.eos,
        "embed_dropout": 0.0,
        "eos_token_id": tok.eos,
        "hidden_size": model.dim,
        "initializer_range": model.init_std,
        "intermediate_size": model.ffn_dim or None,
        "layer_norm_epsilon": model.norm_eps,
        "max_position_embeddings": model.context,
        "num_heads": model.heads,
        "num_layers": model.layers,
        "resid_dropout": 0.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": tok.vocab,
        "window_size": model.window,
    }


def _attention_types(layers: int) -> list[Any]:
    """The pattern global, local, global, ... in GPT-Neo's run-length form."""
    types: list[Any] = [[["global", "local"], layers // 2]] if layers > 1 else []
    return types + ([[["global"], 1]] if layers % 2 else [])


def config_of(recipe: Recipe, tok: Tokenizer) -> dict[str, Any]:
    """The config that is saved beside (or inside) the checkpoint."""
    model = recipe.model
    if recipe.family == "llama":
        return llama_config(model, tok)
    if recipe.family == "gpt_neo":
        return gpt_neo_config(model, tok)
    config = _bitlm_config(model, tok) if recipe.family == "bitlm" else _rms_gpt_config(model, tok)
    return {**config.to_dict(), "add_bos": tok.bos >= 0, "eos_token_id": tok.eos}


def _bitlm_config(model: ModelPart, tok: Tokenizer) -> Any:
    from ..reference.bitlm import BitLMConfig

    return BitLMConfig(
        vocab_size=tok.vocab,
        dim=model.dim,
        n_layers=model.layers,
        n_heads=model.heads,
        n_kv_heads=model.kv_heads or model.heads,
        ffn_dim=model.ffn_dim or 4 * model.dim,
        max_seq_len=model.context,
        rope_theta=model.rope_theta,
        norm_eps=model.norm_eps,
    )


def _rms_gpt_config(model: ModelPart, tok: Tokenizer) -> Any:
    from ..reference.rms_gpt import RmsGptConfig

    return RmsGptConfig(
        vocab_size=tok.vocab,
        dim=model.dim,
        n_layers=model.layers,
        n_heads=model.heads,
        ffn_dim=model.ffn_dim or 4 * model.dim,
        max_seq_len=model.context,
        gated=model.ffn == "gated",
        act="silu" if model.ffn == "gated" else "gelu",
        norm_eps=model.norm_eps,
    )


def build(recipe: Recipe, tok: Tokenizer) -> Any:
    """A freshly initialised module of the recipe's family; call it with int64 ids [batch, positions]."""
    if recipe.family == "bitlm":
        from ..reference.bitlm import BitLM

        return BitLM(_bitlm_config(recipe.model, tok))
    if recipe.family == "rms_gpt":
        from ..reference.rms_gpt import RmsGpt

        return RmsGpt(_rms_gpt_config(recipe.model, tok))
    config = {k: v for k, v in config_of(recipe, tok).items() if k not in ("architectures", "torch_dtype")}
    return _transformers_model(recipe.family, config)


def _transformers_model(family: str, config: dict[str, Any]) -> Any:
    try:
        import transformers
    except ImportError:
        raise TrainError(
            f"the family {family} is trained through transformers, which is not installed",
            "pip install 'tinyexport[train]'",
        ) from None
    transformers.utils.logging.set_verbosity_error()
    if family == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    return transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(**config))


def logits_of(output: Any) -> Any:
    """The logits of a module's output, whether it is a tensor or a transformers result."""
    return getattr(output, "logits", output)


def parameter_count(model: Any) -> int:
    """Trained values, a tied head counted once."""
    return sum(p.numel() for p in model.parameters())


def _stored_tensors(recipe: Recipe, model: Any) -> dict[str, Any]:
    """What goes into the file: parameters in the wanted type; with `output.buffers` mask and head copy too."""
    import torch

    params = {name: p.detach().cpu() for name, p in model.named_parameters()}
    if recipe.output.dtype == "ternary":
        return _packed_ternary(params)
    dtype = getattr(torch, recipe.output.dtype)
    tensors = {name: p.to(dtype).contiguous() for name, p in params.items()}
    if recipe.output.buffers:
        tensors |= _buffers(recipe, tensors)
    return tensors


def _buffers(recipe: Recipe, tensors: dict[str, Any]) -> dict[str, Any]:
    """The causal mask of each layer, BOOL [context, context], and the tied head once more."""
    import torch

    context = recipe.model.context
    mask = torch.ones(context, context, dtype=torch.bool).tril()
    where = "transformer.h.{}.attn" if recipe.family == "gpt_neo" else "model.layers.{}.self_attn"
    found = {f"{where.format(layer)}.causal_mask": mask.clone() for layer in range(recipe.model.layers)}
    for name in ("model.embed_tokens.weight", "transformer.wte.weight", "tok_emb.weight"):
        if name in tensors:
            found["lm_head.weight"] = tensors[name].clone()
    return found


def _packed_ternary(params: dict[str, Any]) -> dict[str, Any]:
    """BitLinear weights [R, C] as uint8 [R/4, C] and `weight_scale`, in transformers' order; embedding float16.

    Row r + k R/4 stands in bits 2k and 2k+1 of row r, as value + 1.
    """
    import torch

    tensors: dict[str, Any] = {}
    for name, p in params.items():
        if p.dim() != 2 or "emb" in name:
            tensors[name] = p.half() if p.dim() == 2 else p
            continue
        scale = p.abs().mean().clamp(min=1e-5)
        codes = (p / scale).round().clamp(-1, 1) + 1
        parts = codes.to(torch.uint8).chunk(4)
        tensors[name] = parts[0] | parts[1] << 2 | parts[2] << 4 | parts[3] << 6
        tensors[f"{name}_scale"] = scale.reshape(1)
    return tensors


def write_checkpoint(recipe: Recipe, model: Any, config: dict[str, Any], path: Path) -> None:
    """Write the tensors to `path`: safetensors, or a .pt of {"model", "config"} as training scripts leave them."""
    import torch
    from safetensors.torch import save_file

    tensors = _stored_tensors(recipe, model)
    if recipe.output.format == "safetensors":
        save_file(tensors, str(path), metadata={"format": "pt"})
        return
    torch.save({"model": {f"_orig_mod.{name}": t for name, t in tensors.items()}, "config": config}, path)


def read_weights(folder: Path) -> dict[str, Any]:
    """The tensors of a finished run or a Hugging Face folder, by name; packed ternary ones as floats."""
    import torch
    from safetensors.torch import load_file

    if (folder / "model.safetensors").is_file():
        tensors = dict(load_file(str(folder / "model.safetensors")))
    else:
        path = folder / ("model.pt" if (folder / "model.pt").is_file() else "pytorch_model.bin")
        saved = torch.load(path, weights_only=True, map_location="cpu")
        tensors = {name.removeprefix("_orig_mod."): t for name, t in saved.get("model", saved).items()}
    for name in [n for n in tensors if f"{n}_scale" in tensors]:
        codes = torch.cat([tensors[name] >> shift & 3 for shift in (0, 2, 4, 6)])
        tensors[name] = (codes.float() - 1) * tensors.pop(f"{name}_scale")
    return tensors
