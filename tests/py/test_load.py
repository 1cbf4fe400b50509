"""Loaders: every format gives the stored values, every damaged or hostile file a clear error."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import families
import numpy as np
import pytest

from tinyexport import loaders
from tinyexport.errors import CheckpointError, ConfigError, TinyError, TokenizerError

torch = pytest.importorskip("torch")
from safetensors.torch import save_file


def sample_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    floats = torch.randn(5, 7, generator=generator)
    return {
        "f32": floats,
        "f16": floats.half(),
        "bf16": floats.bfloat16(),
        "f16_subnormal": torch.tensor([6e-8, -6e-8, 0.0, 65504.0]).half(),
        "mask": torch.tril(torch.ones(4, 4)).bool(),
        "steps": torch.arange(3),
        "packed": torch.arange(6, dtype=torch.uint8),
    }


def assert_exact(raw: loaders.RawCheckpoint, tensors: dict[str, torch.Tensor]) -> None:
    assert set(raw.tensors) == set(tensors)
    for name, tensor in tensors.items():
        want = tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
        assert raw.tensors[name].dtype == want.dtype
        np.testing.assert_array_equal(raw.tensors[name], want)


class TestSafetensors:
    def test_every_type_is_read_exactly(self, tmp_path: Path) -> None:
        save_file(sample_tensors(), tmp_path / "model.safetensors")
        raw = loaders.load(str(tmp_path / "model.safetensors"))
        assert_exact(raw, sample_tensors())
        assert raw.stored["bf16"] == "BF16"
        assert len(raw.sources["model.safetensors"]) == 64

    def test_shards_are_joined(self, tmp_path: Path) -> None:
        tensors = sample_tensors()
        names, where = list(tensors), {}
        for number, part in enumerate((names[:3], names[3:])):
            save_file({n: tensors[n] for n in part}, tmp_path / f"model-{number}.safetensors")
            where.update(dict.fromkeys(part, f"model-{number}.safetensors"))
        index = tmp_path / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": where}))
        assert_exact(loaders.load(str(tmp_path)), tensors)
        assert_exact(loaders.load(str(index)), tensors)
        (tmp_path / "model-1.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"model-1\.safetensors, which is not there"):
            loaders.load(str(tmp_path))

    @pytest.mark.parametrize(
        "index", ["", "[]", '{"weight_map": 3}', '{"weight_map": {}}', '{"weight_map": {"a": "../b"}}']
    )
    def test_a_broken_index_is_refused(self, tmp_path: Path, index: str) -> None:
        (tmp_path / "model.safetensors.index.json").write_text(index)
        with pytest.raises(CheckpointError):
            loaders.load(str(tmp_path))

    def test_a_file_cut_anywhere_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        save_file(sample_tensors(), path)
        whole = path.read_bytes()
        for length in (*range(0, 600, 7), *range(len(whole) - 40, len(whole))):
            path.write_bytes(whole[:length])
            with pytest.raises(CheckpointError):
                loaders.load(str(path))

    def test_a_changed_header_is_an_error_or_harmless(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        save_file(sample_tensors(), path)
        whole = path.read_bytes()
        rng = np.random.default_rng(2)
        refused = 0
        for at in rng.integers(0, 500, 200):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << int(rng.integers(0, 8))
            path.write_bytes(damaged)
            try:
                loaders.load(str(path))
            except TinyError as error:
                assert error.hint
                refused += 1
        assert refused > 100

    def test_an_unsupported_type_is_named(self, tmp_path: Path) -> None:
        save_file({"w": torch.ones(4).to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match="tensor w has type F8_E4M3"):
            loaders.load(str(tmp_path / "model.safetensors"))


class TestPyTorch:
    @pytest.mark.parametrize("legacy", [False, True])
    def test_every_type_is_read_exactly(self, tmp_path: Path, legacy: bool) -> None:
        torch.save(sample_tensors(), tmp_path / "m.pt", _use_new_zipfile_serialization=not legacy)
        assert_exact(loaders.load(str(tmp_path / "m.pt")), sample_tensors())

    @pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
    @pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict"])
    def test_wrappers_are_unwrapped(self, tmp_path: Path, prefix: str, key: str) -> None:
        tensors = sample_tensors()
        wrapped = {prefix + name: t for name, t in tensors.items()}
        other = {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "step": 5, "config": {"n_heads": 4}}
        torch.save({key: wrapped, **other}, tmp_path / "m.pt")
        raw = loaders.load(str(tmp_path / "m.pt"))
        assert_exact(raw, tensors)
        assert raw.config == {"n_heads": 4}
        assert any(line.startswith("optimizer:") for line in raw.left_out)

    def test_pytorch_model_bin_in_a_directory(self, tmp_path: Path) -> None:
        torch.save(sample_tensors(), tmp_path / "pytorch_model.bin")
        (tmp_path / "training_args.bin").write_bytes(b"x")
        assert_exact(loaders.load(str(tmp_path)), sample_tensors())

    def test_a_pickle_is_never_executed(self, tmp_path: Path) -> None:
        witness = tmp_path / "executed"

        class Payload:
            def __reduce__(self) -> tuple[object, tuple[Path]]:
                return Path.touch, (witness,)

        for number, value in enumerate(({"w": torch.ones(2), "x": Payload()}, Payload())):
            for legacy in (False, True):
                path = tmp_path / f"{number}{legacy}.pt"
                torch.save(value, path, _use_new_zipfile_serialization=not legacy)
                with pytest.raises(CheckpointError, match="more than tensors") as caught:
                    loaders.load(str(path))
                assert "state_dict()" in caught.value.hint
        assert not witness.exists()

    def test_other_objects_are_refused_with_a_hint(self, tmp_path: Path) -> None:
        torch.save({"model": {"w": torch.ones(2)}, "args": argparse.Namespace(a=1)}, tmp_path / "m.pt")
        with pytest.raises(CheckpointError, match="more than tensors"):
            loaders.load(str(tmp_path / "m.pt"))

    @pytest.mark.parametrize("value", [{}, {"epoch": 3}, [1, 2], 7, {"model": {"model": {}}}, "text"])
    def test_a_file_without_tensors_is_refused(self, tmp_path: Path, value: object) -> None:
        torch.save(value, tmp_path / "m.pt")
        with pytest.raises(CheckpointError, match="no state dict"):
            loaders.load(str(tmp_path / "m.pt"))

    def test_a_tensor_larger_than_its_file_is_refused(self, tmp_path: Path) -> None:
        torch.save({"w": torch.ones(1).expand(1 << 20, 1 << 20)}, tmp_path / "m.pt")
        with pytest.raises(CheckpointError, match="more elements than the file holds"):
            loaders.load(str(tmp_path / "m.pt"))

    def test_mappings_that_refer_to_each_other_are_walked_once(self, tmp_path: Path) -> None:
        nested: dict[str, object] = {"leaf": 1}
        for _ in range(40):
            nested = {str(i): nested for i in range(40)}
        torch.save({"w": torch.ones(2), "config": nested}, tmp_path / "m.pt")
        raw = loaders.load(str(tmp_path / "m.pt"))
        assert set(raw.tensors) == {"w"}
        assert len(str(raw.config)) < 1_000_000

    @pytest.mark.parametrize("make", [lambda: torch.ones(3).to_sparse(), lambda: torch.ones(3, dtype=torch.complex64)])
    def test_odd_tensors_are_refused(self, tmp_path: Path, make: object) -> None:
        torch.save({"w": make()}, tmp_path / "m.pt")  # type: ignore[operator]
        with pytest.raises(CheckpointError, match="not a plain dense tensor"):
            loaders.load(str(tmp_path / "m.pt"))

    def test_names_that_fall_together_are_refused(self, tmp_path: Path) -> None:
        torch.save({"_orig_mod.w": torch.ones(2), "w": torch.zeros(2)}, tmp_path / "m.pt")
        with pytest.raises(CheckpointError, match="w twice"):
            loaders.load(str(tmp_path / "m.pt"))

    def test_cut_files_are_refused(self, tmp_path: Path) -> None:
        torch.save(sample_tensors(), tmp_path / "m.pt")
        whole = (tmp_path / "m.pt").read_bytes()
        for length in range(0, len(whole), max(len(whole) // 60, 1)):
            (tmp_path / "m.pt").write_bytes(whole[:length])
            with pytest.raises(CheckpointError):
                loaders.load(str(tmp_path / "m.pt"))


class TestFilesBeside:
    def make(self, folder: Path, *names: str) -> None:
        for name in names:
            if name.endswith(".pt"):
                torch.save({"w": torch.ones(2)}, folder / name)
            else:
                (folder / name).write_text(json.dumps({"from": name}))

    def test_common_prefix_decides(self, tmp_path: Path) -> None:
        sizes = ("10m", "7m", "5m", "2.5m")
        self.make(tmp_path, *(f"x_{s}_{n}" for s in sizes for n in ("final_model.pt", "tokenizer.json", "config.json")))
        for size in sizes:
            raw = loaders.load(str(tmp_path / f"x_{size}_final_model.pt"))
            assert raw.config["from"] == f"x_{size}_config.json"
            assert raw.tokenizer_files["tokenizer_json"].name == f"x_{size}_tokenizer.json"

    def test_plain_names_fit_any_model(self, tmp_path: Path) -> None:
        self.make(tmp_path, "a.pt", "b.pt", "config.json", "tokenizer.json", "generation_config.json")
        raw = loaders.load(str(tmp_path / "a.pt"))
        assert raw.config == {"from": "config.json"}
        assert raw.generation_config == {"from": "generation_config.json"}
        assert raw.tokenizer_files["tokenizer_json"].name == "tokenizer.json"

    def test_tokenizers_may_lie_in_a_folder_of_their_own(self, tmp_path: Path) -> None:
        """models/ and tokenizers/ side by side, as the RMSNorm GPTs are published."""
        for folder, name in (("models", "final_model.pt"), ("tokenizers", "tokenizer.json")):
            (tmp_path / folder).mkdir()
            self.make(tmp_path / folder, *(f"t_{size}_{name}" for size in ("10m", "7m", "5m", "2_5m")))
        for size in ("10m", "7m", "5m", "2_5m"):
            raw = loaders.load(str(tmp_path / "models" / f"t_{size}_final_model.pt"))
            assert raw.tokenizer_files["tokenizer_json"] == tmp_path / "tokenizers" / f"t_{size}_tokenizer.json"
        with pytest.raises(CheckpointError, match="several models") as caught:
            loaders.load(str(tmp_path))
        assert str(tmp_path / "models") in caught.value.hint

    def test_tags_of_the_model_card_are_read(self, tmp_path: Path) -> None:
        self.make(tmp_path, "a.pt")
        for text, tags in (
            ("---\nlicense: mit\ntags:\n- 1-bit\n- BitNet\nlanguage:\n- en\n---\ntags:\n- no\n", ["1-bit", "bitnet"]),
            ("---\ntags: [tiny, 'bitnet']\n---\n", ["tiny", "bitnet"]),
            ("# no front matter\ntags:\n- bitnet\n", []),
            ("---\ntags:\n- never closed\n", []),
            ("", []),
        ):
            (tmp_path / "README.md").write_text(text)
            assert loaders.load(str(tmp_path / "a.pt")).tags == tags

    def test_one_config_may_describe_several_sizes(self, tmp_path: Path) -> None:
        self.make(tmp_path, "t_2.5m_model.pt", "t_5m_model.pt")
        sizes = {"2.5M": {"n_heads": 2}, "5M": {"n_heads": 5}}
        (tmp_path / "config.json").write_text(json.dumps({"models": sizes}))
        assert loaders.load(str(tmp_path / "t_2.5m_model.pt")).config["n_heads"] == 2
        assert loaders.load(str(tmp_path / "t_5m_model.pt")).config["n_heads"] == 5

    def test_ambiguity_is_an_error_that_names_the_candidates(self, tmp_path: Path) -> None:
        self.make(tmp_path, "a.pt", "b.pt", "x_tokenizer.json", "y_tokenizer.json")
        with pytest.raises(ConfigError, match=r"x_tokenizer\.json, y_tokenizer\.json"):
            loaders.load(str(tmp_path / "a.pt"))
        raw = loaders.load(str(tmp_path / "a.pt"), tokenizer=str(tmp_path / "y_tokenizer.json"))
        assert raw.tokenizer_files["tokenizer_json"].name == "y_tokenizer.json"
        with pytest.raises(CheckpointError, match=r"several models: a\.pt, b\.pt"):
            loaders.load(str(tmp_path))

    def test_another_models_config_is_left_alone(self, tmp_path: Path) -> None:
        self.make(tmp_path, "a.pt", "b.pt", "b_config.json", "tokenizer.json")
        raw = loaders.load(str(tmp_path / "a.pt"))
        assert raw.config == {}
        assert raw.left_out == ["b_config.json: belongs to another model by its name; --config takes it"]
        assert loaders.load(str(tmp_path / "b.pt")).config == {"from": "b_config.json"}

    def test_overrides_win_and_must_exist(self, tmp_path: Path) -> None:
        self.make(tmp_path, "a.pt", "config.json", "tokenizer.json")
        (tmp_path / "other").mkdir()
        self.make(tmp_path / "other", "mine.json", "tokenizer.json")
        raw = loaders.load(
            str(tmp_path / "a.pt"), config=str(tmp_path / "other/mine.json"), tokenizer=str(tmp_path / "other")
        )
        assert raw.config == {"from": "mine.json"}
        assert raw.tokenizer_files["tokenizer_json"] == tmp_path / "other/tokenizer.json"
        with pytest.raises(ConfigError, match="no config file"):
            loaders.load(str(tmp_path / "a.pt"), config=str(tmp_path / "none.json"))
        with pytest.raises(TokenizerError, match="no tokenizer"):
            loaders.load(str(tmp_path / "a.pt"), tokenizer=str(tmp_path / "none"))

    def test_vocab_json_and_merges_belong_together(self, tmp_path: Path) -> None:
        self.make(tmp_path, "a.pt", "vocab.json", "merges.txt")
        for given in (None, str(tmp_path / "vocab.json")):
            found = loaders.load(str(tmp_path / "a.pt"), tokenizer=given).tokenizer_files
            assert {kind: path.name for kind, path in found.items()} == {
                "vocab_json": "vocab.json", "merges_txt": "merges.txt"
            }  # fmt: skip

    @pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\x00", "[" * 100_000])
    def test_a_broken_config_is_an_error(self, tmp_path: Path, text: str) -> None:
        self.make(tmp_path, "a.pt")
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ConfigError):
            loaders.load(str(tmp_path / "a.pt"))


class TestPaths:
    @pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "m.bin", "m.gguf", "m.txt"])
    @pytest.mark.parametrize("content", [b"", b"hello, this is not a model\n" * 9, b"\x80\x02}q\x00."])
    def test_what_is_no_checkpoint_is_refused(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            loaders.load(str(tmp_path / name))
        assert caught.value.hint

    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="holds no weights"):
            loaders.load(str(tmp_path))

    def test_a_missing_path_is_refused(self) -> None:
        with pytest.raises(CheckpointError, match="there is no checkpoint"):
            loaders.load("/nowhere/model.safetensors")

    def test_a_repo_id_asks_for_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(CheckpointError, match="needs huggingface_hub") as caught:
            loaders.load("TheREZOR/TinyTalk")
        assert "tinyexport[hub]" in caught.value.hint

    def test_a_repo_id_is_fetched(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        hub = pytest.importorskip("huggingface_hub")
        families.write("tinybuddy", tmp_path)
        asked = []

        def fetch(repo: str, **_: object) -> str:
            asked.append(repo)
            return str(tmp_path)

        monkeypatch.setattr(hub, "snapshot_download", fetch)
        assert loaders.load("TheREZOR/TinyTalk").config["model_type"] == "llama"
        assert asked == ["TheREZOR/TinyTalk"]

    def test_a_failed_fetch_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hub = pytest.importorskip("huggingface_hub")

        def fail(*_: object, **__: object) -> str:
            raise OSError("no network")

        monkeypatch.setattr(hub, "snapshot_download", fail)
        with pytest.raises(CheckpointError, match="no network"):
            loaders.load("TheREZOR/TinyTalk")

    def test_torch_is_asked_for_only_by_pt_files(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        families.write("tinybuddy", tmp_path)
        torch.save({"w": torch.ones(2)}, tmp_path / "m.pt")
        monkeypatch.setitem(sys.modules, "torch", None)
        assert loaders.load(str(tmp_path / "model.safetensors")).tensors
        with pytest.raises(CheckpointError, match="torch is not installed"):
            loaders.load(str(tmp_path / "m.pt"))
