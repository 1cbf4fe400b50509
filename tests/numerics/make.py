"""Writes the golden vectors of NUMERICS.md (rule 26) from the oracle.

    python tests/numerics/make.py

Floats are written as their IEEE bits, eight hexadecimal digits each. Inputs come from a generator that is stated
here, so that they never depend on a numpy version. A change of these files is a change of the contract.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinyexport import quant
from tinyexport.blob import writer
from tinyexport.blob.content import BlobContent, reading_order
from tinyexport.blob.schema import Act, FfnKind, InputQuant, NormKind, PosKind
from tinyexport.reference import oracle_math as om
from tinyexport.reference.oracle import Oracle
from tinyexport.reference.oracle_linear import Input, Linear
from tinyexport.reference.oracle_sample import Pcg32
from tinyexport.spec import LayerSpec, ModelSpec

HERE = Path(__file__).parent
F = np.float32


class Numbers:
    """Uniform floats from the PCG32 of rule 23."""

    def __init__(self, seed: int) -> None:
        self._rng = Pcg32(seed)

    def uniform(self, n: int, low: float = -1.0, high: float = 1.0) -> np.ndarray:
        u = np.array([self._rng.next() >> 8 for _ in range(n)]) / 2.0**24
        return (low + (high - low) * u).astype(F)

    def words(self, n: int) -> np.ndarray:
        return np.array([self._rng.next() for _ in range(n)], np.uint32)

    def spread(self, n: int) -> np.ndarray:
        """Both signs, magnitudes from 2^-40 to 2^40."""
        return (self.uniform(n) * np.exp2(np.rint(self.uniform(n, -40, 40)))).astype(F)


def to_hex(x: np.ndarray) -> str:
    return " ".join(f"{w:08x}" for w in np.ascontiguousarray(x).reshape(-1).view(np.uint32))


def from_hex(text: str) -> np.ndarray:
    return np.array([int(w, 16) for w in text.split()], np.uint32).view(F)


EDGES = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, -1e-40, 1e-30, 2.0**-100, 60.0, -60.0, 60.000004, -60.000004, 88.0], F
)
# name -> (function, inputs)
UNARY: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[], np.ndarray]]] = {
    "exp": (om.exp, lambda: np.concatenate([EDGES, Numbers(1).uniform(50, -62, 62)])),
    "log": (om.log, lambda: np.concatenate([F([1, 1.0000001, 1.5, 2, 3e38]), 1 + np.abs(Numbers(2).spread(50))])),
    "sqrt": (om.sqrt, lambda: np.concatenate([np.abs(EDGES), np.abs(Numbers(3).spread(50)), F([1e-45, 3.4e38])])),
    "sigmoid": (om.sigmoid, lambda: np.concatenate([EDGES, Numbers(4).uniform(50, -70, 70)])),
    "silu": (om.silu, lambda: np.concatenate([EDGES, Numbers(5).uniform(50, -20, 20)])),
    "gelu_tanh": (om.gelu_tanh, lambda: np.concatenate([EDGES, Numbers(6).uniform(50, -9, 9)])),
    "gelu_erf": (om.gelu_erf, lambda: np.concatenate([EDGES, Numbers(7).uniform(50, -9, 9)])),
    "relu": (om.relu, lambda: np.concatenate([EDGES, Numbers(8).spread(20)])),
    "relu2": (om.relu2, lambda: np.concatenate([EDGES, Numbers(9).spread(20)])),
}


def functions() -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, (function, inputs) in UNARY.items():
        x = inputs().astype(F)
        out[name] = {"x": to_hex(x), "y": to_hex(function(x))}
    turns = np.concatenate([np.arange(16, dtype=np.uint32) << np.uint32(28), Numbers(10).words(48)])
    sine, cosine = om.sin_cos(turns)
    out["sincos"] = {"turns": to_hex(turns), "sin": to_hex(sine), "cos": to_hex(cosine)}
    half = np.concatenate([EDGES, Numbers(11).spread(60), F([65504, 65519.996, 6.1e-5, 6e-8, 2.9e-8, 3e-8])])
    half = half[np.abs(half) < 65520]
    out["f16"] = {"x": to_hex(half), "y": to_hex(half.astype(np.float16).astype(F))}
    rng = Pcg32(42)
    out["pcg32"] = {"seed": 42, "stream": 54, "out": " ".join(f"{rng.next():08x}" for _ in range(12))}
    return out


def quantising() -> list[dict[str, Any]]:
    """Rule 5 and 6 over vectors, per block and whole, and rule 15."""
    cases = []
    numbers = Numbers(20)
    for n in (1, 16, 31, 32, 33, 48, 100):
        for scale in (1.0, 3e-33, 1e-9, 5e20):
            x = (numbers.uniform(n) * F(scale)).astype(F)
            codes, scales = Input(x[None], InputQuant.PLAIN, 0).blocks()
            whole, whole_scale = om.quant(x, 1e-5)
            k8, s8 = om.kv_codes(x, 127)
            k4, s4 = om.kv_codes(x, 7)
            cases.append(
                {
                    "x": to_hex(x),
                    "block_codes": codes.reshape(-1)[:n].astype(int).tolist(),
                    "block_scales": to_hex(scales),
                    "clamped_codes": whole.tolist(),
                    "clamped_scale": to_hex(whole_scale),
                    "kv_i8": {"codes": k8.tolist(), "scale": to_hex(s8)},
                    "kv_i4": {"codes": k4.tolist(), "scale": to_hex(s4)},
                }
            )
    return cases


def kernels() -> dict[str, Any]:
    """Linear layers of every type (two input vectors), and both norms."""
    numbers = Numbers(30)
    linear = []
    for name in quant.NAMES:
        for rows, cols in ((11, 40), (8, 32), (3, 77)):
            w = quant.quantise(name, numbers.uniform(rows * cols).reshape(rows, cols))
            x = numbers.uniform(2 * cols, -3, 3).reshape(2, cols)
            y = Linear(w)(Input(x, InputQuant.PLAIN, 0))
            packed = base64.b64encode(w.pack()).decode()
            linear.append(
                {"type": name, "rows": rows, "cols": cols, "scale": to_hex(F(w.scale)), "w": packed}
                | {"x": to_hex(x), "y": to_hex(y)}
            )
    norms = []
    for kind in NormKind:
        for n in (1, 7, 8, 48, 100):
            x, g, b = numbers.uniform(n, -2, 3), numbers.uniform(n), numbers.uniform(n)
            y = om.norm(x, 1e-5, kind is NormKind.LAYER, g, b)
            norms.append({"kind": kind.name, "x": to_hex(x), "g": to_hex(g), "b": to_hex(b), "y": to_hex(y)})
    return {"linear": linear, "norm": norms, "eps": to_hex(F(1e-5))}


def golden_content() -> BlobContent:
    """One tiny model that goes through most of the page: GQA, RoPE, a window, odd widths, every weight type."""
    spec = ModelSpec(
        dim=20,
        n_heads=4,
        head_dim=6,
        vocab=37,
        context=48,
        layers=(LayerSpec(2, 33, FfnKind.GATED), LayerSpec(1, 17, FfnKind.PLAIN, window=9)),
        norm_kind=NormKind.RMS,
        norm_eps=1e-5,
        pos_kind=PosKind.ROPE,
        act=Act.SILU,
        attn_scale=6**-0.5,
        rope_dims=6,
        rope_freqs=(1.0, 0.1, 0.01),
    )
    numbers = Numbers(40)
    skip = {"head_bias", "bq", "attn_sub_norm", "attn_norm_bias", "ffn_norm_bias", "final_norm_bias"}
    tensors = {}
    for i, (name, shape) in enumerate(reading_order(spec)):
        part = name.rpartition(".")[2]
        if part in skip or part == "rope_turns":
            continue
        values = numbers.uniform(int(np.prod(shape))).reshape(shape)
        kind = {"k_range": "f32", "k_feedback": "q4_0"}.get(part, quant.NAMES[i % 6] if len(shape) == 2 else "f32")
        if part == "k_range":
            values = np.stack([values[0], np.exp2(np.rint(values[1] * 3))])
        tensors[name] = quant.quantise(kind, values + F(1) if "norm" in part else values / F(2))
    return BlobContent(spec=spec, tensors=tensors)


def model() -> dict[str, Any]:
    content = golden_content()
    ids = [int(w) % content.spec.vocab for w in Numbers(41).words(40)]
    logits = {kv: Oracle(content, kv).eval(ids) for kv in ("f32", "f16", "i8", "i4")}
    blob = base64.b64encode(writer.build(content)).decode()
    last = {kv: to_hex(rows[[0, 8, 20, 39]]) for kv, rows in logits.items()}
    return {"blob": blob, "ids": ids, "positions": [0, 8, 20, 39], "logits": last}


FILES: dict[str, Callable[[], Any]] = {
    "functions.json": functions,
    "quant.json": quantising,
    "kernels.json": kernels,
    "model.json": model,
}

if __name__ == "__main__":
    for file, make in FILES.items():
        (HERE / file).write_text(json.dumps(make(), indent=1) + "\n")
