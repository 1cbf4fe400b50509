"""Weight types: equal to the gguf package where it has an answer, exact where the source was on a grid, round trips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyexport import quant
from tinyexport.blob.schema import TensorType, tensor_bytes
from tinyexport.errors import QuantError

SHAPES = [(1, 1), (5, 48), (9, 172), (16, 272), (3, 33), (7, 336), (8, 128), (13, 31)]


def random_floats(seed: int, rows: int, cols: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((rows, cols)) * np.exp(2 * rng.standard_normal((rows, 1)))
    w[rng.random((rows, cols)) < 0.1] = 0
    return w.astype(np.float32)


def gguf_parts(name: str, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes [rows, cols] and float16 scales [rows, blocks] of the gguf package."""
    import gguf

    kind = {"q4_0": gguf.GGMLQuantizationType.Q4_0, "q8_0": gguf.GGMLQuantizationType.Q8_0}[name]
    blocks = gguf.quants.quantize(w, kind).reshape(w.shape[0], w.shape[1] // 32, -1)
    scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0]
    body = blocks[..., 2:]
    if name == "q8_0":
        return body.view(np.int8).reshape(w.shape), scales
    nibbles = np.concatenate([body & 15, body >> 4], axis=-1).astype(np.int8) - 8
    return nibbles.reshape(w.shape), scales


@pytest.mark.parametrize("name", ["q4_0", "q8_0"])
@pytest.mark.parametrize("seed", range(4))
def test_codes_and_scales_equal_gguf(name: str, seed: int) -> None:
    w = random_floats(seed, 40, 256)
    ours = quant.quantise(name, w)
    codes, scales = gguf_parts(name, w)
    assert (ours.codes == codes).all()
    assert ours.scales is not None
    assert (ours.scales.view(np.uint16) == scales.view(np.uint16)).all()


@pytest.mark.parametrize("name", ["q4_0", "q8_0"])
@pytest.mark.parametrize("cols", [48, 172, 272, 5])
def test_a_short_last_block_follows_the_same_rule(name: str, cols: int) -> None:
    """As gguf quantises the same row with zeros after it."""
    w = random_floats(cols, 10, cols)
    padded = np.zeros((10, -(-cols // 32) * 32), np.float32)
    padded[:, :cols] = w
    codes, scales = gguf_parts(name, padded)
    ours = quant.quantise(name, w)
    assert (ours.codes == codes[:, :cols]).all()
    assert (ours.scales == scales).all()


def on_a_q4_grid(seed: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Values float16 scale * code with codes of magnitude at most `top`: not what absmax / -8 expects."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-top, min(top, 7) + 1, (20, 4, 32)).astype(np.float32)
    scales = (rng.random((20, 4, 1)) * rng.choice([-1, 1], (20, 4, 1))).astype(np.float16).astype(np.float32)
    return (codes * scales).reshape(20, 128), codes


@pytest.mark.parametrize("top", range(1, 9))
def test_weights_on_a_q4_0_grid_are_recovered(top: int) -> None:
    w, _ = on_a_q4_grid(top, top)
    assert (quant.quantise("q4_0", w).dequantise() == w).all()


def test_tinytalk_codes_are_recovered(shared: Path) -> None:
    from safetensors.numpy import load_file

    for name, w in load_file(shared / "checkpoints/tinytalk-pruned/model.safetensors").items():
        if w.dtype == np.float16:
            w = w.astype(np.float32)
            assert (quant.quantise("q4_0", w).dequantise() == w).all(), name


@pytest.mark.parametrize("name", quant.NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_pack_and_unpack_are_inverse(name: str, shape: tuple[int, int]) -> None:
    t = quant.quantise(name, random_floats(1, *shape))
    data = t.pack()
    assert len(data) == t.nbytes == tensor_bytes(t.kind, *shape)
    back = quant.unpack(t.kind, data, *shape, t.scale)
    assert (back.codes == t.codes).all()
    assert (back.dequantise() == t.dequantise()).all()
    assert back.pack() == data


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(quant.NAMES), st.integers(1, 20), st.integers(1, 70), st.randoms(use_true_random=False))
def test_any_bytes_are_refused_or_canonical(name: str, rows: int, cols: int, random) -> None:
    """What unpack accepts, pack gives back."""
    kind = quant.get(name).kind
    data = random.randbytes(tensor_bytes(kind, rows, cols))
    try:
        t = quant.unpack(kind, data, rows, cols, 1.0)
    except QuantError:
        return
    assert t.pack() == data


def test_a_q4_0_tile_is_laid_out_as_the_page_says() -> None:
    """BLOB.md: scales block-major, 8 rows a block; low nibble row 2g as value + 8, high nibble row 2g+1 signed."""
    codes = np.arange(-8, 8, dtype=np.int8)[np.arange(8 * 48).reshape(8, 48) % 16]
    scales = np.arange(1, 17, dtype=np.float16).reshape(8, 2)
    data = np.frombuffer(quant.QTensor(TensorType.Q4_0, 8, 48, codes=codes, scales=scales).pack(), np.uint8)
    assert len(data) == 2 * 16 + 4 * 48
    assert data[:16].view(np.float16).tolist() == scales[:, 0].tolist()
    row2, row3 = codes[2], codes[3]
    group1 = data[32 + 48 : 32 + 96]
    assert ((group1 & 15).astype(int) - 8 == row2).all()
    assert ((group1.view(np.int8) >> 4) == row3).all()


def test_t1_bytes_are_the_ceiling_of_256_v_over_243() -> None:
    digits = np.array(np.meshgrid(*[[-1, 0, 1]] * 5, indexing="ij")).reshape(5, -1).astype(np.int8)
    data = quant.QTensor(TensorType.T1, 5, 243, codes=digits).pack()
    assert list(data[:243]) == [-(-256 * v // 243) for v in range(243)]


@pytest.mark.parametrize("name", ["t2", "t1"])
def test_ternary_values_survive_and_latent_weights_are_rounded(name: str) -> None:
    rng = np.random.default_rng(5)
    exact = (rng.integers(-1, 2, (20, 50)) * np.float32(0.037)).astype(np.float32)
    for scale in (None, 0.037):
        assert (quant.quantise(name, exact, scale=scale).dequantise() == exact).all()
    latent = rng.standard_normal((20, 50)).astype(np.float32)
    t = quant.quantise(name, latent)
    assert t.scale == pytest.approx(np.abs(latent).mean())
    assert (t.codes == np.clip(np.rint(latent / np.float32(t.scale)), -1, 1)).all()


def test_weights_that_can_not_be_held_are_refused() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        for name in quant.NAMES:
            with pytest.raises(QuantError, match="NaN or Inf"):
                quant.quantise(name, np.array([[1.0, bad]], np.float32))
    for name, value in (("f16", 65520.0), ("q8_0", 9e6), ("q4_0", 6e5)):
        with pytest.raises(QuantError, match="too large for float16"):
            quant.quantise(name, np.array([[value, 1.0]], np.float32))
    with pytest.raises(QuantError, match="the weights are not"):
        quant.quantise("t2", np.array([[1.0, 0.5]], np.float32), scale=1.0)
    with pytest.raises(QuantError, match="65537 columns"):
        quant.quantise("t1", np.zeros((1, 65537), np.float32))
    with pytest.raises(QuantError, match="unknown weight type"):
        quant.get("q5_1")


def test_zeros_and_tiny_values_do_no_harm() -> None:
    for name in quant.NAMES:
        assert (quant.quantise(name, np.zeros((3, 40), np.float32)).dequantise() == 0).all()
        tiny = np.full((2, 40), 1e-42, np.float32)
        assert (np.abs(quant.quantise(name, tiny).dequantise()) <= 1e-6).all()
