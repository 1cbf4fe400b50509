"""(a1) on trained models: 64 positions, every weight type, every KV type, every backend of this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_parity import backends, same_bits

from tinyexport.pipeline import QuantizeOptions, SourceOptions, quantize
from tinyexport.reference.oracle import Oracle
from tinyexport.runtime import Model

ROOT = Path(__file__).resolve().parents[2]
TEXT = "Once upon a time there was a little dog. User: hey, how are you? Bot: I'm good, thanks for asking. " * 3
FLOAT_TYPES = ("f32", "f16", "q8_0", "q4_0")
SHARED = [(name, kind) for name in ("tinytalk-pruned", "stories260k") for kind in FLOAT_TYPES]
SHARED += [("bitnet-stories-1m", "t2"), ("bitnet-stories-1m", "t1")]


def check(folder: Path, kind: str, kv_types: tuple[str, ...]) -> None:
    made = quantize(SourceOptions(str(folder)), QuantizeOptions(preset=kind))
    model = Model(made.data)
    ids = model.encode(TEXT)[:64]
    assert len(ids) == 64
    for kv in kv_types:
        expected = Oracle(made.content, kv).eval(ids)
        for backend in backends():
            got = model.session(kv=kv, backend=backend).eval(ids, want="all")
            assert same_bits(got, expected), f"{folder.name} {kind} {kv} {backend}"
            assert np.isfinite(got).all()


@pytest.mark.parametrize("kind", FLOAT_TYPES)
def test_the_example_model(kind: str) -> None:
    check(ROOT / "examples" / "tinybuddy", kind, ("f32", "f16", "i8", "i4"))


@pytest.mark.parametrize(("name", "kind"), SHARED)
def test_shared_checkpoints(shared: Path, name: str, kind: str) -> None:
    check(shared / "checkpoints" / name, kind, ("i8",) if "f" in kind else ("f32", "i8", "i4"))
