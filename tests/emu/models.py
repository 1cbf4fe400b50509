"""Models of the emulator tests: TinyBuddy from the repository, and what is made from it; real ones where they are."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import cycle
from pathlib import Path

import numpy as np

from tinyexport import quant
from tinyexport.blob.content import BlobContent, ChatSpec, reading_order
from tinyexport.blob.reader import read
from tinyexport.blob.schema import Act, ChatKind, FfnKind, InputQuant, NormKind, PosKind
from tinyexport.blob.writer import build
from tinyexport.cli import cli
from tinyexport.spec import OPTIONAL_TENSORS, LayerSpec, ModelSpec

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "emu"
SMALL_PARTS = ("attn_norm", "ffn_norm", "final_norm", "pos_embed", "w_gate", "bq", "b_up")


def exported(checkpoint: Path, *options: str) -> bytes:
    """The blob of a checkpoint, made once a version of the exporter."""
    OUT.mkdir(parents=True, exist_ok=True)
    source = hashlib.sha256()
    for path in [*sorted((ROOT / "export").rglob("*.py")), *sorted(checkpoint.glob("*"))]:
        source.update(path.read_bytes())
    out = OUT / f"{checkpoint.name}{''.join(options)}.{source.hexdigest()[:12]}.tlm"
    if not out.exists():
        cli.main(["quantize", str(checkpoint), *options, "-o", str(out)], standalone_mode=False)
    return out.read_bytes()


@lru_cache
def tinybuddy() -> bytes:
    """The bundled model: a story model with BOS, 1024 tokens, context 128."""
    return exported(ROOT / "examples" / "tinybuddy")


def changed(blob: bytes, change: Callable[[BlobContent], BlobContent]) -> bytes:
    """A blob with other content."""
    return build(change(read(blob)))


@lru_cache
def talker(stops: tuple[str, ...] = ("\nUser:",), max_tokens: int = 12) -> bytes:
    """TinyBuddy with a template of turns, so that it holds a (senseless) conversation."""
    chat = ChatSpec(
        kind=ChatKind.TURNS,
        add_bos=True,
        user_prefix="User: ",
        reply_prefix="\nBot:",
        turn_end="\n",
        stop_ids=(0,),
        stop_strings=stops,
        temperature=0.8,
        top_k=40,
        max_tokens=max_tokens,
    )
    return changed(tinybuddy(), lambda content: dataclasses.replace(content, chat=chat))


def _spec(llama: bool, dim: int, vocab: int, layers: int, context: int) -> ModelSpec:
    head = dim // 2
    layer = LayerSpec(
        n_kv_heads=1 if llama else 2,
        ffn_dim=dim + 9,
        ffn_kind=FfnKind.GATED if llama else FfnKind.PLAIN,
        window=0 if llama else 16,
    )
    return ModelSpec(
        dim=dim,
        n_heads=2,
        head_dim=head,
        vocab=vocab,
        context=context,
        layers=(layer,) * layers,
        norm_kind=NormKind.RMS if llama else NormKind.LAYER,
        norm_eps=1e-5,
        pos_kind=PosKind.ROPE if llama else PosKind.LEARNED,
        act=Act.SILU if llama else Act.GELU_TANH,
        attn_scale=head**-0.5,
        rope_dims=head if llama else 0,
        rope_freqs=tuple(10000.0 ** (-2 * i / head) for i in range(head // 2)) if llama else (),
        input_quant=InputQuant.PLAIN,
        tied=True,
    )


def _tensors(spec: ModelSpec, seed: int, kinds: Sequence[str]) -> dict[str, quant.QTensor]:
    """Random tensors; the matrices take the kinds in turn."""
    rng, tensors = np.random.default_rng(seed), {}
    matrices = cycle(kinds)
    for name, shape in reading_order(spec):
        part = name.rpartition(".")[2]
        if part in ("rope_turns", "head") or (part in OPTIONAL_TENSORS and part not in SMALL_PARTS):
            continue
        w = rng.standard_normal(shape).astype(np.float32)
        vector = len(shape) == 1 or part == "pos_embed"
        tensors[name] = (
            quant.quantise("f32", w) if vector else quant.quantise(next(matrices), w / np.float32(spec.dim**0.5))
        )
    return tensors


def small(seed: int, kind: str, dim: int = 16) -> bytes:
    """A random model of a few KB without a tokenizer: Llama-like for even seeds, GPT-like for odd ones."""
    spec = _spec(seed % 2 == 0, dim, vocab=24, layers=1, context=48)
    info = {"name": f"small {kind} {seed}"}
    return build(BlobContent(spec=spec, tensors=_tensors(spec, seed, (kind,)), info=info))


def mixed(seed: int) -> bytes:
    """A model with a matrix of every type: those of the self-check at boot."""
    llama = seed % 2 == 0
    spec = _spec(llama, dim=16 if llama else 8, vocab=20, layers=1, context=32)
    kinds = (
        ("q8_0", "q4_0", "t2", "t1", "f16", "q4_0", "q8_0") if llama else ("q4_0", "q8_0", "f32", "q4_0", "t1", "q8_0")
    )
    return build(BlobContent(spec=spec, tensors=_tensors(spec, seed, kinds)))
