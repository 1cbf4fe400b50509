"""GGUF files: tensors dequantised to float32, metadata as config, the vocabulary as a dict."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from .gguf_header import HINT, GGUFHeader, TensorInfo, parse_header
from .raw import RawCheckpoint, bfloat16_bits

# (name, bytes a block, elements a block) of the types read without the gguf package
_PLAIN: dict[int, tuple[str, Any]] = {0: ("F32", "<f4"), 1: ("F16", "<f2"), 28: ("F64", "<f8"), 30: ("BF16", "<u2")}


def read_gguf(path: Path, raw: RawCheckpoint) -> None:
    """Add tensors, config and vocabulary of a GGUF file to `raw`; CheckpointError when it lies."""
    data = np.memmap(path, np.uint8, "r")
    try:
        header = parse_header(data.data)
        for info in header.tensors:
            values, kind = _tensor(data, header.data_start, info)
            raw.add(info.name, values, kind)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error.message}", error.hint) from None
    raw.config = _config(header)
    raw.gguf_tokenizer = _tokenizer(header.fields)


def _tensor(data: np.ndarray, start: int, info: TensorInfo) -> tuple[np.ndarray, str]:
    count = math.prod(info.shape)
    name, block, block_bytes = _type(info)
    if count == 0 or info.shape[-1] % block:
        raise CheckpointError(f"tensor {info.name} has a shape {info.shape} that {name} can not hold", HINT)
    size = count // block * block_bytes
    begin = start + info.offset
    if begin + size > len(data):
        raise CheckpointError(f"tensor {info.name} reaches beyond the end of the file", HINT)
    stored = data[begin : begin + size].tobytes()
    if info.kind in _PLAIN:
        values = np.frombuffer(stored, _PLAIN[info.kind][1]).reshape(info.shape)
        return bfloat16_bits(values) if name == "BF16" else values, name
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    rows = np.frombuffer(stored, np.uint8).reshape(*info.shape[:-1], -1)
    try:
        return dequantize(rows, GGMLQuantizationType(info.kind)).reshape(info.shape), name
    except NotImplementedError:
        raise CheckpointError(
            f"tensor {info.name} has type {name}, which can not be dequantised here", "convert the file to F16 or Q8_0"
        ) from None


def _type(info: TensorInfo) -> tuple[str, int, int]:
    """Name, elements and bytes of a block of the tensor's type."""
    if info.kind in _PLAIN:
        name, code = _PLAIN[info.kind]
        return name, 1, np.dtype(code).itemsize
    try:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError:
        raise CheckpointError("quantised GGUF tensors need the gguf package", "pip install tinyexport[gguf]") from None
    try:
        kind = GGMLQuantizationType(info.kind)
    except ValueError:
        raise CheckpointError(f"tensor {info.name} has the unknown type {info.kind}", HINT) from None
    return (kind.name, *GGML_QUANT_SIZES[kind])


def _config(header: GGUFHeader) -> dict[str, Any]:
    """Config keys as a Llama config.json has them; absent ones stay absent."""
    fields = header.fields
    arch = fields.get("general.architecture")
    if not isinstance(arch, str):
        raise CheckpointError("the GGUF header names no architecture", HINT)
    keys = {
        "hidden_size": "embedding_length", "num_hidden_layers": "block_count",
        "intermediate_size": "feed_forward_length", "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv", "max_position_embeddings": "context_length",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon", "rope_theta": "rope.freq_base",
        "rope_dims": "rope.dimension_count", "head_dim": "attention.key_length", "vocab_size": "vocab_size",
        "sliding_window": "attention.sliding_window",
    }  # fmt: skip
    config: dict[str, Any] = {"hidden_act": "silu"} if arch == "llama" else {}  # what the architecture defines
    config |= {key: fields[f"{arch}.{name}"] for key, name in keys.items() if f"{arch}.{name}" in fields}
    scaling = fields.get(f"{arch}.rope.scaling.type")
    if scaling not in (None, "none"):
        config["rope_scaling"] = {"rope_type": scaling, "factor": fields.get(f"{arch}.rope.scaling.factor")}
    bos, eos = fields.get("tokenizer.ggml.bos_token_id"), fields.get("tokenizer.ggml.eos_token_id")
    return {
        "model_type": f"gguf:{arch}", **config, "name": fields.get("general.name", ""),
        **({"bos_token_id": bos} if bos is not None else {}), **({"eos_token_id": eos} if eos is not None else {}),
    }  # fmt: skip


def _tokenizer(fields: dict[str, Any]) -> dict[str, Any] | None:
    """The vocabulary with short keys: model, tokens, scores, token_type, merges, bos_token_id..."""
    prefix = "tokenizer.ggml."
    out = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    if "tokens" not in out:
        return None
    if not isinstance(out["tokens"], list) or not all(isinstance(t, str) for t in out["tokens"]):
        raise CheckpointError("the GGUF vocabulary is not a list of strings", HINT)
    for key in ("scores", "token_type"):
        if key in out and (not isinstance(out[key], list) or len(out[key]) != len(out["tokens"])):
            raise CheckpointError(f"the GGUF vocabulary has {len(out['tokens'])} tokens and other {key}", HINT)
    if "chat_template" in {k.removeprefix("tokenizer.") for k in fields}:
        out["chat_template"] = fields["tokenizer.chat_template"]
    return out
