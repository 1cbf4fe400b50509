"""Seeded checkpoints in the shape of each model family, written the way they are found in the wild.

`write(family, folder)` gives the path to hand to the exporter. `real=True` uses the true sizes.
The weights are random but well scaled, so that logits differ clearly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tinyexport.quant import QTensor, quantise
from tinyexport.spec import ModelSpec, layer_name

FAMILIES = ("tinytalk", "tinybuddy", "bitlm", "rms_gpt")
RMS_GPT_SIZES = {  # name: vocab, dim, layers, heads, ffn
    "10m": (2000, 384, 4, 4, 1536),
    "7m": (1500, 224, 8, 4, 896),
    "5m": (1000, 384, 2, 4, 1536),
    "2.5m": (512, 272, 2, 4, 1088),
}
Arrays = dict[str, np.ndarray]


def write(family: str, folder: Path, *, real: bool = False, seed: int = 0, size: str = "2.5m") -> Path:
    """Write one checkpoint of the family with config and tokenizer; `size` is for rms_gpt."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    if family == "rms_gpt":
        return _write_rms_gpt(folder, rng, real, size)
    return {"tinytalk": _write_tinytalk, "tinybuddy": _write_tinybuddy, "bitlm": _write_bitlm}[family](
        folder, rng, real
    )


def linear(rng: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    """A matrix whose products keep the scale of their input."""
    return (rng.standard_normal((rows, cols)) / np.sqrt(cols)).astype(np.float32)


def gain(rng: np.random.Generator, n: int) -> np.ndarray:
    """A norm's gain around one."""
    return (1 + 0.1 * rng.standard_normal(n)).astype(np.float32)


def shift(rng: np.random.Generator, n: int) -> np.ndarray:
    """A small bias."""
    return (0.1 * rng.standard_normal(n)).astype(np.float32)


def _write_tinytalk(folder: Path, rng: np.random.Generator, real: bool) -> Path:
    """GPT-Neo directory: pruned GPT-2 vocabulary, float16 matrices, alternating windows."""
    vocab, dim, layers, heads, context, window = (14019, 128, 8, 16, 256, 256) if real else (300, 32, 4, 4, 48, 12)
    t: Arrays = {"transformer.wte.weight": linear(rng, vocab, dim), "transformer.wpe.weight": linear(rng, context, dim)}
    for i in range(layers):
        at = f"transformer.h.{i}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            t[f"{at}attn.attention.{part}.weight"] = linear(rng, dim, dim)
        t[f"{at}attn.attention.out_proj.bias"] = shift(rng, dim)
        t[f"{at}mlp.c_fc.weight"], t[f"{at}mlp.c_fc.bias"] = linear(rng, 4 * dim, dim), shift(rng, 4 * dim)
        t[f"{at}mlp.c_proj.weight"], t[f"{at}mlp.c_proj.bias"] = linear(rng, dim, 4 * dim), shift(rng, dim)
        for norm in ("ln_1", "ln_2"):
            t[f"{at}{norm}.weight"], t[f"{at}{norm}.bias"] = gain(rng, dim), shift(rng, dim)
    t["transformer.ln_f.weight"], t["transformer.ln_f.bias"] = gain(rng, dim), shift(rng, dim)
    t = {name: v.astype(np.float16) if v.ndim == 2 else v for name, v in t.items()}
    config = {
        "model_type": "gpt_neo", "architectures": ["GPTNeoForCausalLM"], "activation_function": "gelu_new",
        "attention_types": [[["global", "local"], layers // 2]], "hidden_size": dim, "num_layers": layers,
        "num_heads": heads, "intermediate_size": None, "max_position_embeddings": context, "window_size": window,
        "vocab_size": vocab, "layer_norm_epsilon": 1e-5, "bos_token_id": vocab - 1, "eos_token_id": vocab - 1,
    }  # fmt: skip
    _save_safetensors(folder, t, config)
    byte_bpe(folder / "tokenizer.json", vocab, rng, specials_last=["<|endoftext|>"])
    special = "<|endoftext|>"
    _json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "GPT2TokenizerFast", "bos_token": special, "eos_token": special, "unk_token": special},
    )
    return folder


def _write_tinybuddy(folder: Path, rng: np.random.Generator, real: bool) -> Path:
    """TinyBuddy; BOS is prepended."""
    sizes = (1024, 48, 1, 192, 128) if real else (290, 24, 2, 40, 32)
    return write_llama(folder, rng, *sizes)


def write_llama(
    folder: Path,
    rng: np.random.Generator,
    vocab: int,
    dim: int,
    layers: int,
    ffn: int,
    context: int,
    heads: int = 4,
    kv_heads: int = 2,
) -> Path:
    """A Llama directory with a BOOL mask buffer and a duplicate of the tied head."""
    t = _llama_tensors(rng, vocab, dim, layers, dim // heads * kv_heads, ffn)
    t["lm_head.weight"] = t["model.embed_tokens.weight"].copy()
    t["model.causal_mask"] = np.tril(np.ones((context, context), np.bool_))
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": dim,
        "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "max_position_embeddings": context, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": True, "vocab_size": vocab, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    _save_safetensors(folder, t, config)
    byte_bpe(folder / "tokenizer.json", vocab, rng, specials_first=["<pad>", "<s>", "</s>"])
    _json(
        folder / "tokenizer_config.json",
        {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "add_bos_token": True},
    )
    return folder


def _llama_tensors(rng: np.random.Generator, vocab: int, dim: int, layers: int, kv_dim: int, ffn: int) -> Arrays:
    t: Arrays = {"model.embed_tokens.weight": linear(rng, vocab, dim), "model.norm.weight": gain(rng, dim)}
    for i in range(layers):
        at = f"model.layers.{i}."
        for part, rows in (("q", dim), ("k", kv_dim), ("v", kv_dim), ("o", dim)):
            t[f"{at}self_attn.{part}_proj.weight"] = linear(rng, rows, dim)
        t[f"{at}mlp.gate_proj.weight"], t[f"{at}mlp.up_proj.weight"] = linear(rng, ffn, dim), linear(rng, ffn, dim)
        t[f"{at}mlp.down_proj.weight"] = linear(rng, dim, ffn)
        t[f"{at}input_layernorm.weight"], t[f"{at}post_attention_layernorm.weight"] = gain(rng, dim), gain(rng, dim)
    return t


def _write_bitlm(folder: Path, rng: np.random.Generator, real: bool) -> Path:
    """tiny-tiny-stories: a .pt with ckpt['model'] and `_orig_mod.` names, latent BitLinear weights, unigram pieces."""
    vocab, dim, layers, heads, ffn, context = (192, 128, 5, 4, 336, 512) if real else (96, 32, 2, 4, 36, 40)
    t: Arrays = {"tok_emb.weight": linear(rng, vocab, dim), "norm.weight": gain(rng, dim)}
    for i in range(layers):
        at = f"layers.{i}."
        for part in ("wq", "wk", "wv", "wo"):
            t[f"{at}attn.{part}.weight"] = linear(rng, dim, dim)
        t[f"{at}ffn.w1.weight"], t[f"{at}ffn.w3.weight"] = linear(rng, ffn, dim), linear(rng, ffn, dim)
        t[f"{at}ffn.w2.weight"] = linear(rng, dim, ffn)
        t[f"{at}attn_norm.weight"], t[f"{at}ffn_norm.weight"] = gain(rng, dim), gain(rng, dim)
    t["head.weight"] = t["tok_emb.weight"]
    config = {
        "model_type": "bitlm", "vocab_size": vocab, "dim": dim, "n_layers": layers, "n_heads": heads,
        "ffn_dim": ffn, "max_seq_len": context, "norm_eps": 1e-5, "rope_theta": 10000.0, "act": "silu",
    }  # fmt: skip
    path = folder / "tts_model.pt"
    save_pt(path, {"model": {f"_orig_mod.{name}": v for name, v in t.items()}, "config": config, "step": 7})
    unigram(folder / "tts_tokenizer.model", vocab, rng)
    return path


def _write_rms_gpt(folder: Path, rng: np.random.Generator, real: bool, size: str) -> Path:
    """A bare .pt state dict among files with a common prefix, as the four published models lie."""
    vocab, dim, layers, heads, ffn = RMS_GPT_SIZES[size] if real else (280, 24, 2, 4, 44)
    context = 256 if real else 40
    t = rms_gpt_tensors(rng, vocab, dim, layers, ffn, context)
    stem = f"tinystories_{size}"
    path = folder / f"{stem}_final_model.pt"
    save_pt(path, t)
    _json(
        folder / f"{stem}_config.json",
        {"vocab_size": vocab, "dim": dim, "n_layers": layers, "n_heads": heads, "ffn_dim": ffn,
         "max_seq_len": context, "tie_weights": True, "norm": "rmsnorm"},
    )  # fmt: skip
    byte_bpe(folder / f"{stem}_tokenizer.json", vocab, rng, specials_first=["<pad>", "<eos>", "<bos>", "<unk>"])
    return path


def rms_gpt_tensors(rng: np.random.Generator, vocab: int, dim: int, layers: int, ffn: int, context: int) -> Arrays:
    """A gated RMSNorm GPT with separate q, k, v, no biases and a duplicate head."""
    t: Arrays = {"tok_emb.weight": linear(rng, vocab, dim), "pos_emb.weight": linear(rng, context, dim)}
    for i in range(layers):
        at = f"blocks.{i}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            t[f"{at}attn.{part}.weight"] = linear(rng, dim, dim)
        t[f"{at}ffn.w1.weight"], t[f"{at}ffn.w3.weight"] = linear(rng, ffn, dim), linear(rng, ffn, dim)
        t[f"{at}ffn.w2.weight"] = linear(rng, dim, ffn)
        t[f"{at}norm1.weight"], t[f"{at}norm2.weight"] = gain(rng, dim), gain(rng, dim)
    t["norm.weight"] = gain(rng, dim)
    t["lm_head.weight"] = t["tok_emb.weight"]
    return t


def fitted_keys(spec: ModelSpec) -> dict[str, QTensor]:
    """What `--kv-smooth` adds to a model, all ones."""
    out = {}
    for i, layer in enumerate(spec.layers):
        ones = np.ones((spec.head_dim, layer.n_kv_heads * spec.head_dim), np.float32)
        out |= {
            layer_name(i, "k_range"): quantise("f32", ones[:2]),
            layer_name(i, "k_feedback"): quantise("q4_0", ones),
        }
    return out


def save_pt(path: Path, value: dict[str, Any]) -> None:
    """torch.save with arrays as tensors; arrays that are the same object share storage, as tied heads do."""
    import torch

    made: dict[int, torch.Tensor] = {}

    def convert(item: Any) -> Any:
        if isinstance(item, np.ndarray):
            return made.setdefault(id(item), torch.from_numpy(item.copy()))
        return {k: convert(v) for k, v in item.items()} if isinstance(item, dict) else item

    torch.save(convert(value), path)


def byte_bpe(
    path: Path,
    vocab: int,
    rng: np.random.Generator,
    specials_first: list[str] | None = None,
    specials_last: list[str] | None = None,
) -> None:
    """A byte-level BPE tokenizer.json with exactly `vocab` pieces; merges are drawn at random."""
    first, last = specials_first or [], specials_last or []
    pieces = _byte_characters()
    known, merges = set(pieces), []
    # Frequent bytes: letters after an optional space, so that merges apply to ordinary text.
    pool = [c for c in pieces if c.isascii() and c.isalpha()] + ["Ġ"]
    while len(first) + len(pieces) + len(last) < vocab:
        left, right = (str(pool[i]) for i in rng.integers(0, len(pool), 2))
        if left + right not in known and len(left + right) <= 8 and "Ġ" not in right:
            known.add(left + right)
            pieces.append(left + right)
            if len(left + right) <= 3:  # long pieces would rarely combine within the limit
                pool.append(left + right)
            merges.append([left, right])
    ids = {piece: i for i, piece in enumerate([*first, *pieces, *last])}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    _json(
        path,
        {
            "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": level,
            "post_processor": None, "decoder": level,
            "added_tokens": [{"id": ids[s], "content": s, **flags} for s in [*first, *last]],
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": ids,
                      "merges": merges},
        },
    )  # fmt: skip


def _byte_characters() -> list[str]:
    """The 256 printable characters that byte-level BPE uses for bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def unigram(path: Path, vocab: int, rng: np.random.Generator) -> None:
    """A SentencePiece unigram model of `vocab` pieces, trained on seeded words."""
    import io

    import sentencepiece

    syllables = [a + b for a in "bdfgklmnprstw" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = ["".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(400)]
    lines = [" ".join(rng.choice(words, 12)) for _ in range(300)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=vocab, model_type="unigram",
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, character_coverage=1.0, num_threads=1, minloglevel=2,
    )  # fmt: skip
    path.write_bytes(model.getvalue())


def _save_safetensors(folder: Path, tensors: Arrays, config: dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _json(folder / "config.json", config)


def _json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), "utf-8")
