"""The models that tests/bench/peers.py compares engines on, each in every engine's own format.

Trained checkpoints come from ../shared where it is; else, and for the shapes A to D, weights are seeded: speed does not
depend on their values.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "checkpoints"
sys.path[:0] = [str(ROOT / "tests" / "py")]
import families

from tinyexport import gguf_out, gguf_vocab, pipeline
from tinyexport.archs.rope import interleaved_rows
from tinyexport.spec import ModelSpec, layer_name

CONTEXT = 512


@dataclass(frozen=True)
class Shape:
    """A Llama: vocabulary, width, layers, feed-forward width, heads, kv heads."""

    vocab: int
    dim: int
    layers: int
    ffn: int
    heads: int
    kv_heads: int


SHAPES = {
    "stories260K": Shape(512, 64, 5, 172, 8, 4),
    "A": Shape(12064, 128, 8, 512, 16, 16),
    "B": Shape(512, 272, 2, 1088, 4, 4),
    "C": Shape(1000, 384, 2, 1536, 4, 4),
    "D": Shape(2000, 384, 4, 1536, 4, 4),
}
TINYTALK = "TinyTalk"


@dataclass(frozen=True)
class Files:
    """One model on disk; None where an engine has no such architecture."""

    name: str
    seeded: bool
    checkpoint: Path
    blob: Path
    gguf: Path | None
    llama2c: Path | None


def build(name: str, folder: Path) -> Files:
    """Makes the files of a model in `folder`, which may hold them already."""
    real = SHARED / ("tinytalk-pruned" if name == TINYTALK else name.lower())
    source = real if real.is_dir() else folder / f"{name}.checkpoint"
    if not source.is_dir():
        _seeded(name, source)
    neo = name == TINYTALK
    files = Files(
        name,
        not real.is_dir(),
        source,
        folder / f"{name}.q4_0.tlm",
        None if neo else folder / f"{name}.q4_0.gguf",
        None if neo else folder / f"{name}.bin",
    )
    options = pipeline.SourceOptions(str(source))
    if not files.blob.exists():
        blob = pipeline.quantize(options, pipeline.QuantizeOptions(preset="q4_0", force=True))
        files.blob.write_bytes(blob.data)
    if files.gguf and files.llama2c and not (files.gguf.exists() and files.llama2c.exists()):
        loaded = pipeline.load_source(options)
        spec, tensors = loaded.checkpoint.spec, loaded.checkpoint.tensors
        vocab = gguf_vocab.from_tokenizer(loaded.tokenizer, True)
        gguf_out.write(spec, tensors, vocab, files.gguf, kind="q4_0", name=name)
        files.llama2c.write_bytes(_llama2c(spec, tensors))
    return files


def _seeded(name: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    if name == TINYTALK:
        families.write("tinytalk", folder, real=True)
        return
    s = SHAPES[name]
    families.write_llama(folder, rng, s.vocab, s.dim, s.layers, s.ffn, CONTEXT, s.heads, s.kv_heads)


def _llama2c(spec: ModelSpec, tensors: dict[str, np.ndarray]) -> bytes:
    """llama2.c's first format: header, then all float matrices, layers of a kind side by side; tied head."""
    layer = spec.layers[0]
    header = struct.pack(
        "<7i", spec.dim, layer.ffn_dim, len(spec.layers), spec.n_heads, layer.n_kv_heads, spec.vocab, spec.context
    )

    def stacked(part: str) -> bytes:
        matrices = [tensors[layer_name(i, part)] for i in range(len(spec.layers))]
        if part in ("wq", "wk"):
            matrices = [interleaved_rows(m, spec.head_dim, spec.rope_dims) for m in matrices]
        return b"".join(np.ascontiguousarray(m, np.float32).tobytes() for m in matrices)

    parts = [np.ascontiguousarray(tensors["tok_embed"], np.float32).tobytes()]
    parts += [stacked(part) for part in ("attn_norm", "wq", "wk", "wv", "wo", "ffn_norm", "w_gate", "w_down", "w_up")]
    parts += [tensors["final_norm"].astype(np.float32).tobytes(), bytes(4 * spec.context * spec.head_dim)]
    return header + b"".join(parts)
