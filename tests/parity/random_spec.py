"""Random models from a seed: any shape, any mixture of types, that the format can hold.

`random_model(seed)` is deterministic. Most models are tiny, so that many fit a test run; a few are wide or have a
large vocabulary.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from tinyexport import quant
from tinyexport.blob.content import BlobContent, reading_order
from tinyexport.blob.schema import Act, FfnKind, InputQuant, NormKind, PosKind, TensorType
from tinyexport.calibrate.head import Head, certify
from tinyexport.kv import KV_TYPES, kv_kinds
from tinyexport.quant import QTensor
from tinyexport.spec import OPTIONAL_TENSORS, LayerSpec, ModelSpec

MATRIX_TYPES = quant.NAMES
ALWAYS = frozenset({"pos_embed", "head", "w_gate"})  # optional in general, given where a random spec has them


@dataclass(frozen=True)
class RandomModel:
    """A model and the way to run it."""

    seed: int
    content: BlobContent
    kv: str
    context: int
    ids: np.ndarray


def random_model(seed: int) -> RandomModel:
    rng = np.random.default_rng(seed)
    spec = random_spec(rng)
    content = BlobContent(spec=spec, tensors=random_tensors(spec, rng))
    context = int(rng.integers(1, spec.context + 1))
    work = spec.dim * len(spec.layers)
    longest = (130 if work < 60 else 70 if work < 200 else 20) if spec.vocab < 1000 else 20
    n = int(rng.integers(1, min(context, longest) + 1))
    ids = rng.integers(0, spec.vocab, n)
    kinds = kv_kinds(str(rng.choice(KV_TYPES)), (layer.n_kv_heads for layer in spec.layers))
    return RandomModel(seed, content, str(rng.choice(kinds)), context, ids)


def certified(content: BlobContent, rng: np.random.Generator) -> BlobContent:
    """The same model with a certified head, made for hidden states that this model does not have."""
    spec = content.spec
    rows = content.tensors["tok_embed" if spec.tied else "head"].dequantise()
    bias = content.tensors["head_bias"].dequantise()[0] if "head_bias" in content.tensors else np.zeros(spec.vocab)
    states = rng.standard_normal((200, spec.dim)).astype(np.float32) * rng.uniform(0.1, 3, spec.dim).astype(np.float32)
    kind = TensorType(rng.choice([TensorType.Q4_0, TensorType.Q8_0]))
    head = certify(Head(rows, bias.astype(np.float32), kind), states)
    tensors = {name: t for name, t in content.tensors.items() if name not in ("head", "head_bias")}
    return dataclasses.replace(content, spec=dataclasses.replace(spec, tied=False), tensors=tensors, head=head)


def random_spec(rng: np.random.Generator) -> ModelSpec:
    size = _size(rng)
    heads, kv_divisors = _heads(rng)
    head_dim = max(1, int(size / heads * rng.uniform(0.5, 1.5)))
    pos = PosKind(rng.integers(0, 3))
    if pos is PosKind.ROPE and head_dim < 2:
        head_dim = 2
    rope_dims = 2 * int(rng.integers(1, head_dim // 2 + 1)) if pos is PosKind.ROPE else 0
    if rope_dims and rng.random() < 0.7:
        rope_dims = head_dim // 2 * 2
    theta = float(rng.choice([100.0, 10000.0, 500000.0]))
    return ModelSpec(
        dim=size,
        n_heads=heads,
        head_dim=head_dim,
        vocab=_vocab(rng, size),
        context=int(rng.choice([1, 7, 16, 33, 64, 97, 130])),
        layers=tuple(_layer(rng, kv_divisors, size) for _ in range(_layers(rng, size))),
        norm_kind=NormKind(rng.integers(0, 2)),
        norm_eps=float(rng.choice([1e-5, 1e-6, 1e-3])),
        pos_kind=pos,
        act=Act(rng.integers(0, 5)),
        attn_scale=float(rng.choice([1.0, head_dim**-0.5])),
        rope_dims=rope_dims,
        rope_freqs=tuple(theta ** (-2 * i / rope_dims) for i in range(rope_dims // 2)),
        input_quant=InputQuant(rng.choice([0, 0, 1, 2])),
        tied=bool(rng.random() < 0.5),
    )


def _size(rng: np.random.Generator) -> int:
    if rng.random() < 0.1:
        return int(rng.integers(200, 401))
    return int(rng.choice([8, 15, 16, 17, 24, 31, 32, 33, 40, 48, 64, 65, int(rng.integers(8, 100))]))


def _heads(rng: np.random.Generator) -> tuple[int, list[int]]:
    heads = int(rng.choice([1, 2, 3, 4, 5, 6, 8]))
    return heads, [k for k in range(1, heads + 1) if heads % k == 0]


def _vocab(rng: np.random.Generator, size: int) -> int:
    draw = rng.random()
    if draw < 0.03 and size < 70:
        return int(rng.integers(5_000, 60_001))
    if draw < 0.08 and size < 101:
        return int(rng.integers(500, 5_000))
    return int(rng.integers(2, 120))


def _layers(rng: np.random.Generator, size: int) -> int:
    return int(rng.choice([1, 1, 1, 2, 2, 3, 4])) if size > 40 else int(rng.choice([1, 1, 1, 2, 2, 3, 5, 12]))


def _layer(rng: np.random.Generator, kv_divisors: list[int], size: int) -> LayerSpec:
    return LayerSpec(
        n_kv_heads=int(rng.choice(kv_divisors)),
        ffn_dim=int(rng.integers(1, 4 * size)),
        ffn_kind=FfnKind(rng.integers(0, 2)),
        window=int(rng.choice([0, 0, 1, 5, 16, 31, 33, 64])),
    )


def random_tensors(spec: ModelSpec, rng: np.random.Generator) -> dict[str, QTensor]:
    """Every required tensor, each optional part in about half of the models, one type or a mixture."""
    present = {part: rng.random() < 0.5 for part in sorted(OPTIONAL_TENSORS)}
    for norm in ("attn_norm", "ffn_norm", "final_norm"):
        present[norm] = rng.random() < 0.9
        present[f"{norm}_bias"] &= present[norm]
    one_type = str(rng.choice(MATRIX_TYPES)) if rng.random() < 0.7 else None
    tensors = {}
    for name, shape in reading_order(spec):
        part = name.rpartition(".")[2]
        if part == "rope_turns" or (part in OPTIONAL_TENSORS - ALWAYS and not present[part]):
            continue
        if len(shape) == 1:
            tensors[name] = quant.quantise("f32", _vector(part, shape[0], rng))
        elif part in ("k_range", "k_feedback"):
            tensors[name] = random_keys(part, shape, rng)
        elif part == "pos_embed":
            tensors[name] = quant.quantise("f32", rng.standard_normal(shape).astype(np.float32))
        else:
            tensors[name] = random_matrix(one_type or str(rng.choice(MATRIX_TYPES)), *shape, rng)
    return tensors


def random_keys(part: str, shape: tuple[int, ...], rng: np.random.Generator) -> QTensor:
    """What evens out the keys: any centre and scale; feedback that now and then runs into the ends of the codes."""
    noise = rng.standard_normal(shape).astype(np.float32)
    if part == "k_feedback":
        return quant.quantise("q4_0", noise * np.float32(rng.choice([0.3, 3])))
    return quant.quantise("f32", np.stack([noise[0], np.exp(noise[1])]))


def _vector(part: str, n: int, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(n) * 0.2
    return (noise if part.startswith("b") or part.endswith("bias") else 1 + noise).astype(np.float32)


def random_matrix(name: str, rows: int, cols: int, rng: np.random.Generator) -> QTensor:
    """About unit output for unit input; sometimes with rows of zeros, or very uneven rows."""
    if name in ("t2", "t1"):
        kind = quant.get(name).kind
        codes = rng.integers(-1, 2, (rows, cols)).astype(np.int8)
        return QTensor(kind, rows, cols, codes=codes, scale=float(np.float32(1.2 / np.sqrt(cols))))
    w = rng.standard_normal((rows, cols)) / np.sqrt(cols)
    draw = rng.random()
    if draw < 0.1:
        w[rng.random(rows) < 0.3] = 0
    elif draw < 0.2:
        w *= np.exp(rng.standard_normal((rows, 1)))
    return quant.quantise(name, w.astype(np.float32))


def packed_types(content: BlobContent) -> set[TensorType]:
    """Types that occur among the matrices."""
    return {t.kind for t in content.tensors.values()}
