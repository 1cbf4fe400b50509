"""llama2.c .bin files, versions 0, 1 and 2, against the same weights in a Llama state dict."""

from __future__ import annotations

import struct
from pathlib import Path

import families
import numpy as np
import pytest

from tinyexport import archs, loaders
from tinyexport.errors import CheckpointError

torch = pytest.importorskip("torch")
from tinyexport.reference.graph import torch_logits

DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT, GROUP = 32, 48, 2, 4, 2, 40, 24, 16
MATRICES = (
    "attention.wq",
    "attention.wk",
    "attention.wv",
    "attention.wo",
    "feed_forward.w1",
    "feed_forward.w2",
    "feed_forward.w3",
)


def weights(tied: bool) -> dict[str, np.ndarray]:
    """A Llama under Meta's names."""
    rng = np.random.default_rng(3)
    kv = DIM // HEADS * KV_HEADS
    rows = dict(zip(MATRICES, (DIM, kv, kv, DIM, HIDDEN, DIM, HIDDEN), strict=True))
    out = {"tok_embeddings.weight": families.linear(rng, VOCAB, DIM), "norm.weight": families.gain(rng, DIM)}
    for i in range(LAYERS):
        for name in MATRICES:
            columns = HIDDEN if name.endswith("w2") else DIM
            out[f"layers.{i}.{name}.weight"] = families.linear(rng, rows[name], columns)
        out[f"layers.{i}.attention_norm.weight"] = families.gain(rng, DIM)
        out[f"layers.{i}.ffn_norm.weight"] = families.gain(rng, DIM)
    out["output.weight"] = out["tok_embeddings.weight"] if tied else families.linear(rng, VOCAB, DIM)
    return out


def stacked(w: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    return [w[f"layers.{i}.{name}.weight"] for i in range(LAYERS)]


def encode(w: dict[str, np.ndarray], version: int, tied: bool, scales_last: bool = False) -> bytes:
    """The file as llama2.c's exporter lays it out."""
    sizes = (DIM, HIDDEN, LAYERS, HEADS, KV_HEADS)
    head = [] if tied else [w["output.weight"]]
    norms = [*stacked(w, "attention_norm"), *stacked(w, "ffn_norm"), w["norm.weight"]]
    matrices = [w["tok_embeddings.weight"], *(m for name in MATRICES for m in stacked(w, name)), *head]
    if version == 0:
        order = [w["tok_embeddings.weight"], *stacked(w, "attention_norm")]
        order += [m for name in MATRICES[:4] for m in stacked(w, name)] + stacked(w, "ffn_norm")
        order += [m for name in MATRICES[4:] for m in stacked(w, name)] + [w["norm.weight"]]
        order += [np.zeros((CONTEXT, DIM // HEADS), np.float32), *head]
        return struct.pack("<7i", *sizes, VOCAB if tied else -VOCAB, CONTEXT) + b"".join(m.tobytes() for m in order)
    out = struct.pack("<II7iB", 0x616B3432, version, *sizes, VOCAB, CONTEXT, tied)
    out += struct.pack("<i", GROUP) if version == 2 else b""
    out = out.ljust(256, b"\0") + b"".join(n.tobytes() for n in norms)
    if version == 1:
        return out + b"".join(m.tobytes() for m in matrices)
    codes, scales = zip(*(quantised(m) for m in matrices), strict=True)
    pairs = [*codes, *scales] if scales_last else [part for pair in zip(codes, scales, strict=True) for part in pair]
    return out + b"".join(part.tobytes() for part in pairs)


def quantised(m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    groups = m.reshape(-1, GROUP)
    scale = np.abs(groups).max(1, keepdims=True) / np.float32(127)
    return np.rint(groups / scale).astype(np.int8), scale.astype(np.float32)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("version", [0, 1])
def test_float_versions_give_the_weights(tmp_path: Path, version: int, tied: bool) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(encode(weights(tied), version, tied))
    raw = loaders.load(str(path))
    assert raw.format == "llama2c"
    want = weights(tied)
    for name, values in raw.tensors.items():
        np.testing.assert_array_equal(values, want[name])
    assert set(want) - set(raw.tensors) == ({"output.weight"} if tied else set())
    checkpoint = archs.identify(raw)
    assert checkpoint.spec.tied is tied
    assert (checkpoint.spec.n_heads, checkpoint.spec.layers[0].n_kv_heads, checkpoint.spec.context) == (4, 2, CONTEXT)
    assert not [name for name, fact in checkpoint.facts.items() if fact.origin == "assumed"]


@pytest.mark.parametrize("scales_last", [False, True])
@pytest.mark.parametrize("tied", [True, False])
def test_int8_version_gives_the_dequantised_weights(tmp_path: Path, tied: bool, scales_last: bool) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(encode(weights(tied), 2, tied, scales_last))
    raw = loaders.load(str(path))
    for name, values in raw.tensors.items():
        want = weights(tied)[name]
        if want.ndim == 2:
            codes, scale = quantised(want)
            want = (codes * scale).reshape(want.shape)
        np.testing.assert_array_equal(values, want)


def test_rope_pairs_are_those_of_llama2c(tmp_path: Path) -> None:
    """The same model through a state dict with interleaved pairs and a straightforward forward pass."""
    w = weights(True)
    (tmp_path / "model.bin").write_bytes(encode(w, 0, True))
    ids = list(np.random.default_rng(0).integers(0, VOCAB, CONTEXT))
    got = torch_logits(archs.identify(loaders.load(str(tmp_path / "model.bin"))), ids)
    want = plain_forward({n: torch.from_numpy(v.copy()) for n, v in w.items()}, torch.tensor(ids)).numpy()
    assert np.abs(got - want).max() < 1e-5 * np.ptp(want)


def plain_forward(w: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """Llama with complex-number RoPE over neighbouring elements."""
    n, size = len(ids), DIM // HEADS
    angles = torch.outer(torch.arange(n), 10000.0 ** (-torch.arange(0, size, 2) / size))
    turn = torch.polar(torch.ones_like(angles), angles)[:, None]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[name + ".weight"]

    def rotated(x: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(-2)

    x = w["tok_embeddings.weight"][ids]
    for i in range(LAYERS):
        at = f"layers.{i}."
        q, k, v = (
            (norm(x, at + "attention_norm") @ w[f"{at}attention.{p}.weight"].T).unflatten(-1, (-1, size))
            for p in ("wq", "wk", "wv")
        )
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, 1) for t in (rotated(k), v))
        scores = torch.einsum("qhd,khd->hqk", rotated(q), k) / size**0.5
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), float("-inf")).softmax(-1)
        x = x + torch.einsum("hqk,khd->qhd", scores, v).flatten(1) @ w[f"{at}attention.wo.weight"].T
        y = norm(x, at + "ffn_norm")
        gated = torch.nn.functional.silu(y @ w[f"{at}feed_forward.w1.weight"].T) * (
            y @ w[f"{at}feed_forward.w3.weight"].T
        )
        x = x + gated @ w[f"{at}feed_forward.w2.weight"].T
    return norm(x, "norm") @ w["output.weight"].T


def test_a_config_beside_is_another_files(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(encode(weights(True), 0, True))
    for name in ("config.json", "mine.json"):
        (tmp_path / name).write_text('{"rope_theta": 77.0}')
    assert loaders.load(str(tmp_path / "model.bin")).config["rope_theta"] == 10000.0
    given = loaders.load(str(tmp_path / "model.bin"), config=str(tmp_path / "mine.json"))
    assert given.config["rope_theta"] == 77.0


def test_the_tokenizer_beside_is_found(tmp_path: Path) -> None:
    for name in ("stories_model.bin", "tok512.bin"):
        (tmp_path / name).write_bytes(encode(weights(True), 0, True))
    raw = loaders.load(str(tmp_path / "stories_model.bin"))
    assert raw.tokenizer_files["tokenizer_bin"].name == "tok512.bin"


@pytest.mark.parametrize("version", [0, 1, 2])
def test_wrong_lengths_and_headers_are_refused(tmp_path: Path, version: int) -> None:
    whole = encode(weights(True), version, True)
    path = tmp_path / "model.bin"
    for data in (whole[:-1], whole + b"\0", whole[:100], whole[:10]):
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            loaders.load(str(path))
    rng = np.random.default_rng(4)
    for at in range(0, 28 if version == 0 else 41):
        damaged = bytearray(whole)
        damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        if version == 0 or at < 32:  # the context and the flags after it may stay valid
            with pytest.raises(CheckpointError):
                loaders.load(str(path))
