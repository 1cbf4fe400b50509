"""Small blobs for the C tests: together they have every weight type, norm, position kind, activation and knob."""

from __future__ import annotations

import dataclasses

import numpy as np

from tinyexport import quant
from tinyexport.blob.content import BlobContent, ChatSpec, reading_order
from tinyexport.blob.schema import Act, ChatKind, FfnKind, InputQuant, NormKind, PosKind, TensorType
from tinyexport.blob.writer import build
from tinyexport.calibrate.head import Head, certify
from tinyexport.spec import LayerSpec, ModelSpec

PLAIN, GATED = FfnKind.PLAIN, FfnKind.GATED
CHAT = ChatSpec(
    kind=ChatKind.TURNS,
    stop_ids=(3, 7),
    user_prefix="User: ",
    reply_prefix="\nBot:",
    turn_end="\n",
    stop_strings=("User:", "\n\n"),
    temperature=0.7,
    top_k=40,
    max_tokens=50,
)
INFO = {"arch": "test", "licence": "MIT", "name": "a small model"}


def spec(**knobs: object) -> ModelSpec:
    values: dict[str, object] = {
        "dim": 48,
        "n_heads": 4,
        "head_dim": 12,
        "vocab": 101,
        "context": 100,
        "layers": (LayerSpec(2, 80, GATED), LayerSpec(4, 65, PLAIN, window=21)),
        "norm_kind": NormKind.RMS,
        "norm_eps": 1e-5,
        "pos_kind": PosKind.ROPE,
        "act": Act.SILU,
        "attn_scale": 12**-0.5,
        "rope_dims": 12,
        "rope_freqs": tuple(100.0 ** (-i / 6) for i in range(6)),
    }
    return ModelSpec(**(values | knobs))  # type: ignore[arg-type]


def no_rope(kind: PosKind) -> dict[str, object]:
    return {"pos_kind": kind, "rope_dims": 0, "rope_freqs": ()}


SPECS: dict[str, tuple[ModelSpec, tuple[str, ...]]] = {
    "llama": (spec(tied=False), ("q4_0",)),
    "gpt": (
        spec(norm_kind=NormKind.LAYER, act=Act.GELU_TANH, attn_scale=1.0, tied=True, **no_rope(PosKind.LEARNED)),
        ("q8_0",),
    ),
    "ternary": (spec(input_quant=InputQuant.NORM_CLAMP, act=Act.RELU2, tied=False), ("t1", "t2")),
    "mixed": (
        spec(input_quant=InputQuant.CLAMP, act=Act.GELU_ERF, head_dim=13, rope_dims=8, rope_freqs=(1.0, 0.5, 0.1, 0.0)),
        ("q4_0", "t2", "f32", "q8_0", "f16", "t1"),
    ),
    "float": (spec(act=Act.RELU, **no_rope(PosKind.NONE)), ("f16", "f32")),
}


def tensors(model: ModelSpec, types: tuple[str, ...], rng: np.random.Generator) -> dict[str, quant.QTensor]:
    """Random weights: matrices take the types in turn."""
    out = {}
    for i, (name, shape) in enumerate(reading_order(model)):
        if name == "rope_turns":
            continue
        noise = rng.standard_normal(shape).astype(np.float32)
        if len(shape) == 1:
            gain = 0.0 if name.endswith("bias") or ".b" in name else 1.0
            out[name] = quant.quantise("f32", (gain + 0.2 * noise).astype(np.float32))
        elif name.endswith("k_range"):
            out[name] = quant.quantise("f32", np.stack([noise[0], np.exp(noise[1])]))
        elif name.endswith("k_feedback"):
            out[name] = quant.quantise("q4_0", noise)
        elif name == "pos_embed":
            out[name] = quant.quantise("f32", noise)
        else:
            kind = types[i % len(types)]
            scale = np.float32(shape[1] ** -0.5)
            codes = np.clip(np.rint(noise), -1, 1) if kind in ("t1", "t2") else noise
            out[name] = quant.quantise(kind, (codes * scale).astype(np.float32))
    return out


def content(name: str) -> BlobContent:
    """One of SPECS with weights, chat section and info."""
    model, types = SPECS[name]
    rng = np.random.default_rng(sorted(SPECS).index(name))
    return BlobContent(spec=model, tensors=tensors(model, types, rng), chat=CHAT, info=INFO)


def blob(name: str) -> bytes:
    return build(content(name))


def tiny() -> bytes:
    """A blob of a few KB, for tests that go over every byte."""
    model = spec(dim=8, n_heads=2, head_dim=4, vocab=9, layers=(LayerSpec(1, 8, GATED),), **no_rope(PosKind.NONE))
    weights = tensors(model, ("q4_0", "t1", "f16"), np.random.default_rng(0))
    return build(BlobContent(spec=model, tensors=weights, chat=CHAT, info=INFO))


def certified(vocab: int = 19) -> bytes:
    """A small blob whose head has three stages, the last one narrow."""
    model = spec(dim=36, n_heads=2, head_dim=4, vocab=vocab, layers=(LayerSpec(1, 8, PLAIN),), **no_rope(PosKind.NONE))
    rng = np.random.default_rng(0)
    weights = tensors(model, ("q4_0",), rng)
    rows, states = weights["tok_embed"].dequantise(), rng.standard_normal((300, 36)).astype(np.float32)
    head = certify(Head(rows, weights.pop("head_bias").codes[0], TensorType.Q4_0), states)
    return build(BlobContent(spec=dataclasses.replace(model, tied=False), tensors=weights, head=head))
