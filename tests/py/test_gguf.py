"""GGUF in and out: every type against the gguf package, lying headers, and the round trip of a model."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import families
import numpy as np
import pytest

from tinyexport import archs, gguf_out, loaders
from tinyexport.errors import CheckpointError, ConfigError, TinyError
from tinyexport.gguf_vocab import GGUFVocab

gguf = pytest.importorskip("gguf")
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize, quantize

READABLE = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")


def vocab_of(size: int) -> GGUFVocab:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *(f"▁w{i}" for i in range(size - 259))]
    types = [2, 3, 3] + [6] * 256 + [1] * (size - 259)
    return GGUFVocab("llama", tokens, types, [-float(i) for i in range(size)], bos=1, eos=2, unk=0, add_bos=True)


def write_one(path: Path, kind: Kind, data: np.ndarray, **fields: object) -> None:
    """A GGUF file with the tensor `w`; `data` is packed bytes for block types."""
    writer = gguf.GGUFWriter(str(path), str(fields.pop("arch", "llama")))
    writer.add_block_count(1)
    if kind in (Kind.F32, Kind.F16):
        writer.add_tensor("w", data)
    else:
        writer.add_tensor("w", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class TestReading:
    @pytest.mark.parametrize("name", READABLE)
    def test_each_type_equals_the_reference(self, tmp_path: Path, name: str) -> None:
        rng = np.random.default_rng(1)
        kind, values = Kind[name], rng.standard_normal((3, 512)).astype(np.float32)
        if name.endswith("_K"):  # no quantiser in Python: random blocks with sane scales
            block, size = gguf.GGML_QUANT_SIZES[kind]
            packed = rng.integers(0, 256, (3, 512 // block * size), dtype=np.uint8)
            packed = np.where(np.isfinite(dequantize(packed, kind)).all(), packed, packed & 0x3B)
        else:
            packed = quantize(values, kind)
        write_one(tmp_path / "m.gguf", kind, packed)
        got = loaders.load(str(tmp_path / "m.gguf")).tensors["w"]
        np.testing.assert_array_equal(got, dequantize(packed, kind).reshape(3, 512))
        assert got.dtype == np.float32

    def test_metadata_becomes_config_and_vocabulary(self, tmp_path: Path) -> None:
        checkpoint = archs.identify(loaders.load(str(families.write("tinybuddy", tmp_path))))
        gguf_out.write(checkpoint.spec, checkpoint.tensors, vocab_of(290), tmp_path / "m.gguf", name="buddy")
        raw = loaders.load(str(tmp_path / "m.gguf"))
        assert raw.config["model_type"] == "gguf:llama"
        assert raw.config["num_attention_heads"] == 4
        assert raw.config["bos_token_id"] == 1
        assert raw.gguf_tokenizer is not None
        assert raw.gguf_tokenizer["model"] == "llama"
        assert raw.gguf_tokenizer["tokens"][261] == "▁w2"
        assert raw.gguf_tokenizer["scores"][261] == -261.0
        assert raw.gguf_tokenizer["token_type"][3] == 6
        assert raw.gguf_tokenizer["add_bos_token"] is True

    def test_the_shared_file_has_the_logits_of_its_source(self, shared: Path) -> None:
        pytest.importorskip("torch")
        from tinyexport.reference.graph import torch_logits

        ours = archs.identify(loaders.load(str(shared / "checkpoints/stories260k-gguf/stories260k-f32.gguf")))
        source = archs.identify(loaders.load(str(shared / "checkpoints/stories260k")))
        assert not [name for name, fact in ours.facts.items() if fact.origin == "assumed"]
        for name, values in source.tensors.items():
            np.testing.assert_array_equal(ours.tensors[name], values)
        ids = np.random.default_rng(0).integers(0, 512, 64).tolist()
        np.testing.assert_array_equal(torch_logits(ours, ids), torch_logits(source, ids))

    def test_another_architecture_is_named(self, tmp_path: Path) -> None:
        write_one(tmp_path / "m.gguf", Kind.F32, np.ones((4, 4), np.float32), arch="mamba")
        with pytest.raises(ConfigError, match="gguf:mamba"):
            archs.identify(loaders.load(str(tmp_path / "m.gguf")))

    def test_rope_factors_divide_the_frequencies(self, tmp_path: Path) -> None:
        spec_file = families.write("tinybuddy", tmp_path)
        config = json.loads((spec_file / "config.json").read_text())
        config["rope_scaling"] = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 64}  # fmt: skip
        (spec_file / "config.json").write_text(json.dumps(config))
        checkpoint = archs.identify(loaders.load(str(spec_file)))
        gguf_out.write(checkpoint.spec, checkpoint.tensors, vocab_of(290), tmp_path / "m.gguf")
        back = archs.identify(loaders.load(str(tmp_path / "m.gguf")))
        np.testing.assert_allclose(back.spec.rope_freqs, checkpoint.spec.rope_freqs, rtol=1e-6)
        assert back.spec.rope_freqs[-1] < 10000.0 ** (-4 / 6) / 7  # the last pair really is slowed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("gguf")
    checkpoint = archs.identify(loaders.load(str(families.write("tinybuddy", folder))))
    gguf_out.write(checkpoint.spec, checkpoint.tensors, vocab_of(290), folder / "m.gguf", kind="q8_0")
    return (folder / "m.gguf").read_bytes()


class TestHostile:
    def read(self, path: Path, data: bytes) -> bool:
        """Whether the file loads; anything but a TinyError or taking long fails the test."""
        path.write_bytes(data)
        start = time.process_time()
        try:
            loaders.load(str(path))
            return True
        except TinyError as error:
            assert error.hint
            return False
        finally:
            assert time.process_time() - start < 5

    def test_a_file_cut_anywhere_is_refused(self, tmp_path: Path, whole: bytes) -> None:
        for length in (*range(0, 400), *range(400, len(whole), 997), len(whole) - 40):
            assert not self.read(tmp_path / "m.gguf", whole[:length])

    @pytest.mark.parametrize("lie", [1 << 63, (1 << 64) - 1, 1 << 40, 1 << 31, 1 << 24])
    def test_lying_counts_are_refused_at_once(self, tmp_path: Path, whole: bytes, lie: int) -> None:
        places = [8, 16, 24]  # tensors, fields, length of the first key
        places += [at for at in range(24, 600) if 3 < struct.unpack_from("<Q", whole, at)[0] < 300]
        assert len(places) > 10
        for at in places:
            self.read(tmp_path / "m.gguf", whole[:at] + struct.pack("<Q", lie) + whole[at + 8 :])
        for at in places[:3]:
            assert not self.read(tmp_path / "m.gguf", whole[:at] + struct.pack("<Q", lie) + whole[at + 8 :])

    def test_changed_bytes_never_crash(self, tmp_path: Path, whole: bytes) -> None:
        rng = np.random.default_rng(5)
        header_end = whole.index(b"blk.1.ffn_down.weight") + 64
        refused = 0
        for at in rng.integers(0, header_end, 300):
            damaged = bytearray(whole)
            damaged[at] = int(rng.integers(0, 256))
            refused += not self.read(tmp_path / "m.gguf", bytes(damaged))
        assert refused > 30

    @pytest.mark.parametrize(
        ("dims", "kind", "offset"),
        [
            ((1 << 62, 16), 0, 0),
            ((4, 4), 0, 1 << 62),
            ((0, 4), 0, 0),
            ((4, 4), 77, 0),
            ((4, 4), 8, 0),
            ((1 << 33, 1 << 33), 2, 0),
        ],
    )
    def test_lying_tensors_are_refused(self, tmp_path: Path, dims: tuple[int, int], kind: int, offset: int) -> None:
        info = struct.pack("<Q1sI2QIQ", 1, b"w", 2, *dims, kind, offset)
        data = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + info
        assert not self.read(tmp_path / "m.gguf", data.ljust(256, b"\0"))

    def test_nested_arrays_and_unknown_types_are_refused(self, tmp_path: Path) -> None:
        for kind, value in ((9, struct.pack("<IQ", 9, 1 << 60)), (13, b""), (9, struct.pack("<IQ", 8, 1 << 60))):
            field = struct.pack("<Q1sI", 1, b"a", kind) + value
            data = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + field
            assert not self.read(tmp_path / "m.gguf", data.ljust(512, b"\0"))


class TestWriting:
    @pytest.mark.parametrize("kind", gguf_out.TYPES)
    def test_a_model_comes_back(self, tmp_path: Path, kind: str) -> None:
        source = families.write_llama(tmp_path, np.random.default_rng(6), 290, 64, 2, 72, 32)
        checkpoint = archs.identify(loaders.load(str(source)))
        gguf_out.write(checkpoint.spec, checkpoint.tensors, vocab_of(290), tmp_path / "m.gguf", kind=kind)
        back = archs.identify(loaders.load(str(tmp_path / "m.gguf")))
        assert back.spec.layers == checkpoint.spec.layers
        np.testing.assert_allclose(back.spec.rope_freqs, checkpoint.spec.rope_freqs, rtol=1e-6)
        for name, values in checkpoint.tensors.items():
            if kind == "f32" or values.ndim == 1:
                want = values
            elif kind == "f16" or values.shape[1] % 32:
                want = values.astype(np.float16).astype(np.float32)
            else:
                want = dequantize(quantize(values, Kind[kind.upper()]), Kind[kind.upper()])
            np.testing.assert_array_equal(back.tensors[name], want, err_msg=name)

    @pytest.mark.parametrize("family", ["tinytalk", "rms_gpt"])
    def test_other_families_are_refused(self, tmp_path: Path, family: str) -> None:
        pytest.importorskip("torch")
        checkpoint = archs.identify(loaders.load(str(families.write(family, tmp_path))))
        with pytest.raises(CheckpointError, match="can not be a llama GGUF"):
            gguf_out.write(checkpoint.spec, checkpoint.tensors, vocab_of(270), tmp_path / "m.gguf")
        assert not list(tmp_path.glob("m.gguf*"))

    def test_nothing_is_left_of_a_failed_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        checkpoint = archs.identify(loaders.load(str(families.write("tinybuddy", tmp_path))))
        (tmp_path / "m.gguf").write_bytes(b"old")

        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(gguf_out, "_write_tensors", fail)
        with pytest.raises(KeyboardInterrupt):
            gguf_out.write(checkpoint.spec, checkpoint.tensors, vocab_of(290), tmp_path / "m.gguf")
        assert (tmp_path / "m.gguf").read_bytes() == b"old"
        assert [p.name for p in tmp_path.glob("*m.gguf*")] == ["m.gguf"]

    def test_unknown_types_and_too_many_tokens_are_refused(self, tmp_path: Path) -> None:
        checkpoint = archs.identify(loaders.load(str(families.write("tinybuddy", tmp_path))))
        with pytest.raises(ConfigError, match="q5"):
            gguf_out.write(checkpoint.spec, checkpoint.tensors, vocab_of(290), tmp_path / "m.gguf", kind="q5")
        with pytest.raises(ConfigError, match="300 tokens"):
            gguf_out.write(checkpoint.spec, checkpoint.tensors, vocab_of(300), tmp_path / "m.gguf")


class TestCommand:
    """`tinyexport gguf` from a checkpoint and from its blob."""

    def run(self, source: Path, out: Path, *arguments: str) -> int:
        """Bytes of the file that the command wrote."""
        from click.testing import CliRunner

        from tinyexport.commands.gguf import gguf as command

        result = CliRunner().invoke(command, [str(source), "-o", str(out), *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return out.stat().st_size

    @pytest.mark.parametrize("kind", ["f32", "q8_0"])
    def test_a_blob_and_its_checkpoint_give_the_same_model(self, tmp_path: Path, kind: str) -> None:
        from tinyexport import pipeline
        from tinyexport.blob import writer

        source = families.write_llama(tmp_path, np.random.default_rng(9), 290, 64, 2, 96, 32)
        blob = pipeline.quantize(pipeline.SourceOptions(str(source)), pipeline.QuantizeOptions(preset=kind))
        writer.write(tmp_path / "m.tlm", blob.data)
        sizes = [
            self.run(path, tmp_path / f"{n}.gguf", "--type", kind)
            for n, path in enumerate((source, tmp_path / "m.tlm"))
        ]
        assert sizes[0] == sizes[1]
        direct, through = (loaders.load(str(tmp_path / f"{n}.gguf")) for n in range(2))
        assert direct.gguf_tokenizer == through.gguf_tokenizer
        assert direct.gguf_tokenizer is not None
        assert direct.gguf_tokenizer["add_bos_token"] is True
        assert direct.gguf_tokenizer["model"] == "gpt2"
        a, b = archs.identify(direct), archs.identify(through)
        np.testing.assert_allclose(a.spec.rope_freqs, b.spec.rope_freqs, rtol=1e-6)
        for name, values in a.tensors.items():  # q8_0 again gives the codes that were there
            np.testing.assert_array_equal(b.tensors[name], values, err_msg=name)

    def test_the_vocabulary_survives_the_way_through_gguf(self, shared: Path, tmp_path: Path) -> None:
        from tinyexport import tok

        folder = shared / "checkpoints/stories260k"
        self.run(folder, tmp_path / "m.gguf", "--tokenizer", str(folder / "tokenizer.model"))
        raw = loaders.load(str(tmp_path / "m.gguf"))
        back, first = tok.load({}, gguf=raw.gguf_tokenizer), tok.load({"tokenizer_model": folder / "tokenizer.model"})
        assert (back.pieces[1:], back.bos, back.eos, back.unk) == (first.pieces[1:], first.bos, first.eos, first.unk)
        assert [(m.left, m.right, m.result) for m in back.merges] == [(m.left, m.right, m.result) for m in first.merges]

    def test_vocabularies_that_llama_cpp_lacks_are_refused(self, tmp_path: Path) -> None:
        from tinyexport import gguf_vocab, tok
        from tinyexport.errors import TokenizerError

        pytest.importorskip("sentencepiece")
        families.unigram(tmp_path / "t.model", 96, np.random.default_rng(1))
        with pytest.raises(TokenizerError, match="UNIGRAM vocabulary"):
            gguf_vocab.from_tokenizer(tok.load({"tokenizer_model": tmp_path / "t.model"}), True)


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_llama_cpp_prints_the_same_greedy_text(shared: Path, tmp_path: Path, kind: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    from tinyexport import gguf_vocab, tok

    folder = shared / "checkpoints/stories260k"
    raw = loaders.load(str(folder))
    checkpoint = archs.identify(raw)
    vocab = gguf_vocab.from_tokenizer(tok.load(raw.tokenizer_files), True)
    gguf_out.write(checkpoint.spec, checkpoint.tensors, vocab, tmp_path / "m.gguf", kind=kind)
    model = llama_cpp.Llama(str(tmp_path / "m.gguf"), n_ctx=512, n_threads=1, verbose=False)
    for case in json.loads((folder / "reference.json").read_text())["cases"]:
        assert model.tokenize(case["prompt"].encode(), add_bos=True) == case["prompt_ids"]
        tokens = model.generate(case["prompt_ids"], temp=0, top_k=1, repeat_penalty=1.0)
        assert [token for token, _ in zip(tokens, case["continuation_ids"], strict=False)] == case["continuation_ids"]
