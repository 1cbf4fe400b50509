"""Each model family in each input format and type, from checkpoint to tokens; and the sizes promised.

The checkpoints are seeded and small here; tests/parity/test_checkpoints.py has the real ones. `python
tests/bench/family_table.py` measures the table of the README with the same parts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tinyexport import pipeline
from tinyexport.archs import ArchOptions
from tinyexport.blob import reader
from tinyexport.runtime import Model
from tinyexport.verify import graph_comparison, oracle_comparison

sys.path.insert(0, str(Path(__file__).parents[1] / "py"))
import families

PRESETS = {"tinytalk": ("f32", "f16", "q8_0", "q4_0"), "bitlm": ("f32", "t2", "t1", "q8_0")}
PLAIN = ("f32", "f16", "q8_0", "q4_0")
ROOT = Path(__file__).parents[2]


def export(path: Path, preset: str, **options: object) -> bytes:
    """Quantise with every fact of the seeded families given, as a user would after the warnings."""
    heads = {"bitlm": 4, "rms_gpt": 4}.get(path.parent.name) if path.suffix == ".pt" else None
    source = pipeline.SourceOptions(str(path), arch=ArchOptions(heads=heads))
    return pipeline.quantize(source, pipeline.QuantizeOptions(preset=preset, force=True, **options)).data


@pytest.mark.parametrize("family", families.FAMILIES)
def test_family_in_every_type(family: str, tmp_path: Path) -> None:
    """Bit-equal to the oracle, the f32 graph equal to PyTorch, text comes out."""
    pytest.importorskip("torch")
    path = families.write(family, tmp_path / family)
    for preset in PRESETS.get(family, PLAIN):
        data = export(path, preset)
        content, model = reader.read(data), Model(data)
        ids = [int(i) for i in np.random.default_rng(3).integers(0, content.spec.vocab, min(40, content.spec.context))]
        assert oracle_comparison(data, content, ids).bit_equal, (family, preset)
        assert graph_comparison(content, ids).max_rel_err <= 1e-4, (family, preset)
        prompt = model.encode("a b", bos=bool(content.chat and content.chat.add_bos)) or [0]
        assert model.session().eval(prompt).shape == (1, content.spec.vocab)


@pytest.mark.parametrize(("preset", "most"), [("t1", 260_000), ("t2", 310_000)])
def test_tiny_tiny_stories_fits(preset: str, most: int, tmp_path: Path) -> None:
    """The true shape with the float16 embedding, tokenizer included."""
    path = families.write("bitlm", tmp_path / "bitlm", real=True)
    data = export(path, preset, embed="f16")
    spec = reader.read(data).spec
    assert (spec.dim, len(spec.layers), spec.vocab, spec.context) == (128, 5, 192, 512)
    print(f"tiny-tiny-stories {preset}: {len(data):,} bytes")
    assert len(data) <= most


@pytest.mark.parametrize("size", families.RMS_GPT_SIZES)
def test_rmsnorm_gpt_in_its_true_sizes(size: str, tmp_path: Path) -> None:
    """The position table decides the context; q4_0 holds 272 and 224 columns."""
    path = families.write("rms_gpt", tmp_path / "rms_gpt", real=True, size=size)
    data = export(path, "q4_0")
    spec, (vocab, dim, layers, heads, ffn) = reader.read(data).spec, families.RMS_GPT_SIZES[size]
    assert (spec.vocab, spec.dim, len(spec.layers), spec.n_heads) == (vocab, dim, layers, heads)
    assert spec.layers[0].ffn_dim == ffn and spec.context == 256
    assert np.isfinite(Model(data).session().eval([1, 2, 3])).all()


def test_example_checkpoint_is_in_the_shape_of_tinybuddy() -> None:
    source = pipeline.load_source(pipeline.SourceOptions(str(ROOT / "examples" / "tinybuddy")))
    tensors = source.checkpoint.tensors
    assert sum(t.size for t in tensors.values()) == 83_856
    assert source.checkpoint.facts["bos"].value is True
    assert len(source.checkpoint.left_out) == 2
