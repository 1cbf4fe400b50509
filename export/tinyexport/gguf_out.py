"""GGUF export for the Llama family: what llama.cpp's `llama` architecture can hold.

Tensors take llama.cpp's names and its interleaved RoPE order. Rows whose length is not a multiple
of 32 stay float16 where q8_0 or q4_0 was asked for, because GGUF blocks can not be short.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .archs.rope import interleaved_rows
from .blob.schema import Act, FfnKind, InputQuant, NormKind, PosKind
from .errors import CheckpointError, ConfigError
from .files import replacing
from .gguf_vocab import UNUSED, GGUFVocab
from .spec import LINEAR_TENSORS, ModelSpec, layer_name

TYPES = ("f32", "f16", "q8_0", "q4_0")
_BLOCK = 32
_TURN = 2 * 2 * np.pi / 2**32  # radians of two 32-bit turns
_PARTS = {
    "attn_norm": "attn_norm.weight", "wq": "attn_q.weight", "bq": "attn_q.bias", "wk": "attn_k.weight",
    "bk": "attn_k.bias", "wv": "attn_v.weight", "bv": "attn_v.bias", "wo": "attn_output.weight",
    "bo": "attn_output.bias", "ffn_norm": "ffn_norm.weight", "w_gate": "ffn_gate.weight", "b_gate": "ffn_gate.bias",
    "w_up": "ffn_up.weight", "b_up": "ffn_up.bias", "w_down": "ffn_down.weight", "b_down": "ffn_down.bias",
}  # fmt: skip
_GLOBAL = {"tok_embed": "token_embd.weight", "final_norm": "output_norm.weight", "head": "output.weight"}


def refusal(spec: ModelSpec, tensors: dict[str, np.ndarray]) -> str | None:
    """Why this model is not one of the Llama family; None when it is."""
    reasons = (
        (spec.norm_kind is not NormKind.RMS, "its norm is not RMSNorm"),
        (spec.pos_kind is not PosKind.ROPE, "its positions are not RoPE"),
        (spec.act is not Act.SILU, "its activation is not SiLU"),
        (any(layer.ffn_kind is not FfnKind.GATED for layer in spec.layers), "its feed-forward part is not gated"),
        (any(layer.window for layer in spec.layers), "it has local attention windows"),
        (spec.input_quant is not InputQuant.PLAIN, "its linear layers quantise their input as BitNet does"),
        (abs(spec.attn_scale * spec.head_dim**0.5 - 1) > 1e-6, "its attention scores are not scaled by 1/sqrt(head)"),
        (len({(layer.n_kv_heads, layer.ffn_dim) for layer in spec.layers}) > 1, "its layers differ in size"),
    )
    extra = [n for n in tensors if n not in _GLOBAL and n.rsplit(".", 1)[-1] not in _PARTS]
    return next((why for bad, why in reasons if bad), f"it has {extra[0]}" if extra else None)


def write(
    spec: ModelSpec, tensors: dict[str, np.ndarray], vocab: GGUFVocab, path: Path, *, kind: str = "f32", name: str = ""
) -> None:
    """Write canonical float32 `tensors` as GGUF to `path`, aside first.

    `kind` is one of TYPES and applies to matrices. CheckpointError when the model is not of the
    Llama family, ConfigError for an unknown type or a vocabulary of another size.
    """
    why = refusal(spec, tensors)
    if why is not None:
        raise CheckpointError(f"this model can not be a llama GGUF: {why}", "GGUF export is for the Llama family")
    if kind not in TYPES:
        raise ConfigError(f"the GGUF type {kind!r} is not known", f"known: {', '.join(TYPES)}")
    if len(vocab.tokens) > spec.vocab:
        raise ConfigError(f"{len(vocab.tokens)} tokens do not fit {spec.vocab} rows", "name the right tokenizer")
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise ConfigError("GGUF export needs the gguf package", "pip install tinyexport[gguf]") from None
    with replacing(path) as aside:
        writer = GGUFWriter(str(aside), "llama")
        _write_facts(writer, spec, name or path.stem, kind)
        _write_vocab(writer, vocab, spec.vocab)
        _write_tensors(writer, spec, tensors, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _write_facts(writer: Any, spec: ModelSpec, name: str, kind: str) -> None:
    from gguf import LlamaFileType

    layer = spec.layers[0]
    writer.add_name(name)
    writer.add_block_count(len(spec.layers))
    writer.add_context_length(spec.context)
    writer.add_embedding_length(spec.dim)
    writer.add_feed_forward_length(layer.ffn_dim)
    writer.add_head_count(spec.n_heads)
    writer.add_head_count_kv(layer.n_kv_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_layer_norm_rms_eps(spec.norm_eps)
    writer.add_rope_dimension_count(spec.rope_dims)
    writer.add_rope_freq_base(rope_theta(spec))
    writer.add_vocab_size(spec.vocab)
    file_types = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0"}
    writer.add_file_type(LlamaFileType[file_types[kind]])


def rope_theta(spec: ModelSpec) -> float:
    """The base of which the second frequency is a power, to six digits; 10000 for a single pair."""
    if len(spec.rope_freqs) < 2:
        return 10000.0
    return float(f"{(spec.rope_freqs[1] / spec.rope_freqs[0]) ** (-spec.rope_dims / 2):.6g}")


def _write_vocab(writer: Any, vocab: GGUFVocab, rows: int) -> None:
    spare = range(len(vocab.tokens), rows)
    writer.add_tokenizer_model(vocab.model)
    writer.add_token_list([*vocab.tokens, *(f"<unused_{i}>" for i in spare)])
    writer.add_token_types([*vocab.types, *(UNUSED for _ in spare)])
    if vocab.model == "llama":
        writer.add_token_scores([*vocab.scores, *(0.0 for _ in spare)])
        writer.add_add_space_prefix(vocab.add_space_prefix)
    else:
        writer.add_tokenizer_pre(vocab.pre)
        writer.add_token_merges(vocab.merges)
    for value, add in ((vocab.bos, writer.add_bos_token_id), (vocab.eos, writer.add_eos_token_id),
                       (vocab.unk, writer.add_unk_token_id)):  # fmt: skip
        if value is not None:
            add(value)
    writer.add_add_bos_token(vocab.add_bos)
    writer.add_add_eos_token(False)


def _write_tensors(writer: Any, spec: ModelSpec, tensors: dict[str, np.ndarray], kind: str) -> None:
    factors = _rope_factors(spec)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    for canonical, name in _GLOBAL.items():
        if canonical in tensors:
            _add(writer, name, tensors[canonical], kind if canonical != "final_norm" else "f32")
    for i in range(len(spec.layers)):
        for part, name in _PARTS.items():
            values = tensors.get(layer_name(i, part))
            if values is None:
                continue
            if part in ("wq", "wk", "bq", "bk"):
                values = interleaved_rows(values, spec.head_dim, spec.rope_dims)
            _add(writer, f"blk.{i}.{name}", values, kind if part in LINEAR_TENSORS else "f32")


def _rope_factors(spec: ModelSpec) -> np.ndarray | None:
    """Divisors that bring the plain frequencies of `rope_theta` to the spec's; None when all are one.

    A blob holds frequencies as 32-bit turns: what differs by less than two of these is equal.
    """
    plain = np.array([rope_theta(spec) ** (-2 * i / spec.rope_dims) for i in range(spec.rope_dims // 2)])
    freqs = np.array(spec.rope_freqs)
    if np.all(np.abs(plain - freqs) < np.maximum(_TURN, 1e-5 * plain)):
        return None
    return (plain / freqs).astype(np.float32)


def _add(writer: Any, name: str, values: np.ndarray, kind: str) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    values = np.ascontiguousarray(values, np.float32)
    if kind in ("q8_0", "q4_0") and values.shape[-1] % _BLOCK:
        kind = "f16"
    if kind == "f32":
        writer.add_tensor(name, values)
    elif kind == "f16":
        writer.add_tensor(name, values.astype(np.float16))
    else:
        packed_type = GGMLQuantizationType[kind.upper()]
        writer.add_tensor(name, quantize(values, packed_type), raw_dtype=packed_type)
