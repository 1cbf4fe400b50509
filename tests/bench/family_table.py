"""Measures the README's table: family x input format x type, blob bytes and perplexity against fp32.

    python tests/bench/family_table.py [--json]

fp32 is the f32 blob with an f32 KV cache, which the tests hold to PyTorch within 1e-4 of the logit range; the other
rows use the default i8 cache. Trained checkpoints come from ../shared and examples/; "seeded" rows have random weights
of the true shape, whose perplexity only tells that the type did no harm.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
sys.path[:0] = [str(ROOT / "tests" / "py")]
import families

from tinyexport import measure, pipeline
from tinyexport.archs import ArchOptions
from tinyexport.runtime import Model

PLAIN, TERNARY = ("f16", "q8_0", "q4_0"), ("t2", "t1", "q8_0")
MAX_TOKENS = 6000


@dataclass
class Case:
    """A checkpoint and what to measure it on."""

    family: str
    source: str
    path: Path
    types: tuple[str, ...]
    text: Path | None = None
    documents: str | None = None
    heads: int | None = None


@dataclass
class Row:
    """One line of the table."""

    family: str
    source: str
    type: str
    bytes: int
    perplexity: float
    fp32: float


def cases(folder: Path) -> Iterator[Case]:
    """Every checkpoint that is here."""
    chat, stories = SHARED / "text" / "chat-val.txt.xz", SHARED / "text" / "tinystories-valid.txt.xz"
    real = SHARED / "checkpoints"
    if real.is_dir():
        yield Case("GPT-Neo (TinyTalk)", "HF directory, float16", real / "tinytalk-pruned", PLAIN, chat)
        yield Case("Llama (stories260K)", "HF directory", real / "stories260k", PLAIN, stories, "\n\n")
        gguf = real / "stories260k-gguf" / "stories260k-f32.gguf"
        yield Case("Llama (stories260K)", "GGUF F32", gguf, ("q4_0",), stories, "\n\n")
        yield Case("BitNet b1.58", "safetensors, float", real / "bitnet-stories-1m", TERNARY, stories, "\n\n")
        yield Case("BitNet b1.58", "safetensors, packed", real / "bitnet-stories-1m-packed", TERNARY, stories, "\n\n")
        example = ROOT / "examples"
        yield Case("Llama (TinyBuddy)", "model.safetensors alone", example / "tinybuddy" / "model.safetensors", PLAIN,
                   stories, "\n\n")  # fmt: skip
        for name, types in (("tiny-tiny-stories", TERNARY), ("smalltalk", PLAIN)):
            if list((example / name).glob("*.safetensors")) + list((example / name).glob("*.pt")):
                yield Case(f"example {name}", "as committed", example / name, types, stories, "\n\n")
    bitlm = families.write("bitlm", folder / "bitlm", real=True)
    yield Case("BitLM (tiny-tiny-stories)", ".pt, seeded", bitlm, ("t2", "t1"), heads=4)
    for size in families.RMS_GPT_SIZES:
        path = families.write("rms_gpt", folder / f"rms{size}", real=True, size=size)
        yield Case(f"RMSNorm GPT {size.upper()}", ".pt, seeded", path, ("q8_0", "q4_0"), heads=4)


def export(case: Case, preset: str) -> bytes:
    """The blob of a case."""
    source = pipeline.SourceOptions(str(case.path), arch=ArchOptions(heads=case.heads))
    embed = "f16" if preset in ("t2", "t1") else None
    return pipeline.quantize(source, pipeline.QuantizeOptions(preset=preset, embed=embed, force=True)).data


def perplexity(case: Case, data: bytes, kv: str) -> float:
    """Perplexity on the case's text, or on the package's sample text."""
    model = Model(data)
    path = case.text or ROOT / "export" / "tinyexport" / "sample.txt"
    text = pipeline.read_text(path)
    size = model.spec.context
    if case.documents:
        windows = measure.document_windows(model, text, case.documents, size, 60)
    else:
        windows = measure.stream_windows(measure.encode_stream(model, text)[:MAX_TOKENS], size)
    return measure.score_windows(measure.session_logits(model.session(kv=kv)), windows).perplexity


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            fp32 = perplexity(case, export(case, "f32"), "f32")
            for kind in case.types:
                data = export(case, kind)
                rows.append(Row(case.family, case.source, kind, len(data), perplexity(case, data, "i8"), fp32))
    if as_json:
        print(json.dumps([asdict(r) for r in rows]))
        return
    print("| family | input | type | bytes | perplexity | fp32 | |\n|---|---|---|---|---|---|---|")
    for r in rows:
        change = f"{r.perplexity / r.fp32 - 1:+.1%}"
        print(f"| {r.family} | {r.source} | {r.type} | {r.bytes:,} | {r.perplexity:.3f} | {r.fp32:.3f} | {change} |")


if __name__ == "__main__":
    main()
