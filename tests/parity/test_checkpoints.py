"""Real checkpoints from end to end: what issue after issue promised of them, measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tinyexport import measure, pipeline, quant
from tinyexport.archs import ArchOptions
from tinyexport.blob import reader
from tinyexport.runtime import Model
from tinyexport.verify import graph_comparison, oracle_comparison


def blob(path: Path, preset: str, **options: object) -> bytes:
    """Quantise a checkpoint the way the command does."""
    source = pipeline.SourceOptions(str(path), arch=ArchOptions())
    return pipeline.quantize(source, pipeline.QuantizeOptions(preset=preset, **options)).data


def document_score(data: bytes, shared: Path, kv: str = "i8", stories: int = 100) -> measure.TextScore:
    """The stories as DATA.md scores them."""
    model = Model(data)
    text = pipeline.read_text(shared / "text" / "tinystories-sample.txt.xz")
    windows = measure.document_windows(model, text, "<|endoftext|>", model.spec.context, stories)
    return measure.score_windows(measure.session_logits(model.session(kv=kv)), windows)


def agreement(data: bytes, reference: Path) -> list[tuple[float, bool]]:
    """(margin, argmax equal) at every step, teacher-forced along reference.json."""
    steps = []
    session = Model(data).session()
    for case in json.loads(reference.read_text())["cases"]:
        ids = case["prompt_ids"] + case["continuation_ids"]
        session.rewind(0)
        logits = session.eval(ids[:-1], want="all")[len(case["prompt_ids"]) - 1 :]
        best = logits.argmax(-1)
        pairs = zip(case["margins"], best, case["continuation_ids"], strict=True)
        steps += [(margin, int(ours) == theirs) for margin, ours, theirs in pairs]
    return steps


def share(steps: list[tuple[float, bool]], margin: float) -> float:
    """Share of equal argmaxes among the steps with a larger margin."""
    chosen = [equal for m, equal in steps if m > margin]
    assert len(chosen) > 20
    return sum(chosen) / len(chosen)


@pytest.fixture(scope="module")
def data(shared: Path) -> bytes:
    """TinyTalk at q4_0."""
    return blob(shared / "checkpoints" / "tinytalk-pruned", "q4_0")


class TestTinyTalk:
    def test_the_source_codes_are_recovered(self, shared: Path, data: bytes) -> None:
        source = pipeline.load_source(pipeline.SourceOptions(str(shared / "checkpoints" / "tinytalk-pruned")))
        tensors = reader.read(data).tensors
        packed = [name for name, t in tensors.items() if t.kind.name == "Q4_0"]
        assert len(packed) == 49
        for name in packed:
            assert np.array_equal(tensors[name].dequantise(), source.checkpoint.tensors[name]), name

    def test_sizes(self, data: bytes) -> None:
        content = reader.read(data)
        assert len(data) <= 2_200_000
        assert content.tokenizer is not None and len(content.tokenizer) <= 125_000

    def test_teacher_forced(self, shared: Path, data: bytes) -> None:
        steps = agreement(data, shared / "checkpoints" / "tinytalk-pruned" / "reference.json")
        assert share(steps, 0.25) == 1
        assert share(steps, 0.05) >= 0.99

    def test_perplexity(self, shared: Path, data: bytes) -> None:
        model = Model(data)
        text = pipeline.read_text(shared / "text" / "chat-val.txt.xz")
        windows = measure.stream_windows(measure.encode_stream(model, text), 256)
        score = measure.score_windows(measure.session_logits(model.session()), windows)
        assert score.tokens == 32_099
        assert abs(score.perplexity / 30.851 - 1) < 0.005, score.perplexity

    def test_chat_facts(self, data: bytes) -> None:
        chat = reader.read(data).chat
        assert chat is not None
        assert (chat.user_prefix, chat.reply_prefix, chat.turn_end) == ("User: ", "\nBot:", "<|endoftext|>\n")
        assert math.isclose(chat.temperature, 0.7, rel_tol=1e-6) and chat.top_k == 40
        assert chat.stop_ids == (14_018,)

    def test_greedy_reply(self, data: bytes) -> None:
        model = Model(data)
        ids = model.encode("User: hey, how are you?\nBot:")
        session, reply = model.session(), []
        while len(reply) < 40:
            ids = [int(session.eval(ids)[0].argmax())]
            if ids[0] in model.stop_ids:
                break
            reply += ids
        assert model.decode(reply).decode() == " I'm good, thanks for asking. How about you?"


class TestStories260k:
    def test_f32_equals_pytorch(self, shared: Path) -> None:
        pytest.importorskip("torch")
        from tinyexport.reference.graph import torch_logits

        path = shared / "checkpoints" / "stories260k"
        source = pipeline.load_source(pipeline.SourceOptions(str(path)))
        session = Model(blob(path, "f32")).session(kv="f32")
        ids, logits = [1], []
        for _ in range(256):
            logits.append(session.eval(ids[-1:])[0])
            ids.append(int(logits[-1].argmax()))
        theirs = torch_logits(source.checkpoint, ids[:-1])
        ours = np.stack(logits)
        assert (ours.argmax(-1) == theirs.argmax(-1)).sum() == 256
        assert np.abs(ours - theirs).max() <= 1e-4 * (theirs.max() - theirs.min())

    def test_q8_0_perplexity(self, shared: Path) -> None:
        score = document_score(blob(shared / "checkpoints" / "stories260k", "q8_0"), shared)
        assert score.tokens == 37_089
        assert abs(score.perplexity / 4.098 - 1) < 0.01, score.perplexity

    def test_q4_0_holds_172_columns(self, shared: Path) -> None:
        data = blob(shared / "checkpoints" / "stories260k", "q4_0")
        down = reader.read(data).tensors["layers.0.w_down"]
        assert (down.kind.name, down.cols) == ("Q4_0", 172)
        score = document_score(data, shared, stories=20)
        print(f"stories260k q4_0: perplexity {score.perplexity:.3f} on 20 stories")
        assert score.perplexity < 5.2

    def test_gguf_gives_the_same_logits(self, shared: Path) -> None:
        pytest.importorskip("gguf")
        folder = shared / "checkpoints"
        ids = list(range(1, 200))
        ours, theirs = (
            Model(blob(p, "f32")).session(kv="f32").eval(ids, want="all")
            for p in (folder / "stories260k", folder / "stories260k-gguf" / "stories260k-f32.gguf")
        )
        assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@pytest.mark.parametrize("preset", ["t2", "t1"])
@pytest.mark.parametrize("name", ["bitnet-stories-1m", "bitnet-stories-1m-packed"])
class TestBitNet:
    def test_perplexity_and_argmax(self, shared: Path, name: str, preset: str) -> None:
        data = blob(shared / "checkpoints" / name, preset)
        stories = 100 if preset == "t2" else 20
        score = document_score(data, shared, stories=stories)
        if stories == 100:
            assert score.tokens == 37_089
            assert abs(score.perplexity / 4.410 - 1) < 0.005, score.perplexity
        steps = agreement(data, shared / "checkpoints" / "bitnet-stories-1m" / "reference.json")
        assert share(steps, 0.5) == 1
        assert share(steps, 0.1) >= 0.97


def test_ternary_values_do_not_change(shared: Path) -> None:
    source = pipeline.load_source(pipeline.SourceOptions(str(shared / "checkpoints" / "bitnet-stories-1m")))
    for preset in ("t2", "t1"):
        tensors = reader.read(blob(shared / "checkpoints" / "bitnet-stories-1m", preset)).tensors
        for name, tensor in tensors.items():
            if tensor.kind.name in ("T2", "T1"):
                assert np.array_equal(tensor.dequantise(), source.checkpoint.tensors[name]), name


@pytest.mark.parametrize("preset", ["f32", "f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("name", ["tinytalk-pruned", "stories260k"])
def test_oracle_and_graph(shared: Path, name: str, preset: str) -> None:
    """(a1) and (a2) for every type of a float checkpoint."""
    pytest.importorskip("torch")
    data = blob(shared / "checkpoints" / name, preset)
    content = reader.read(data)
    ids = list(np.random.default_rng(7).integers(3, content.spec.vocab, 72))
    assert oracle_comparison(data, content, ids).bit_equal
    assert graph_comparison(content, ids).max_rel_err <= 1e-4


@pytest.mark.parametrize("preset", ["t2", "t1"])
def test_oracle_and_graph_ternary(shared: Path, preset: str) -> None:
    pytest.importorskip("torch")
    data = blob(shared / "checkpoints" / "bitnet-stories-1m", preset)
    content = reader.read(data)
    ids = list(np.random.default_rng(8).integers(3, content.spec.vocab, 72))
    assert oracle_comparison(data, content, ids).bit_equal
    assert graph_comparison(content, ids).max_rel_err <= 1e-4


def test_ternary_asked_of_another_model(shared: Path) -> None:
    from tinyexport.errors import QuantError

    path = shared / "checkpoints" / "stories260k"
    with pytest.raises(QuantError, match="not trained as ternary"):
        blob(path, "t2")
    assert len(blob(path, "t2", force=True)) > 0


def test_quant_registry_is_complete() -> None:
    for kind in ("f32", "f16", "q8_0", "q4_0", "t2", "t1"):
        weight = np.sign(np.random.default_rng(1).normal(size=(5, 48))).astype(np.float32)
        assert quant.quantise(kind, weight).dequantise().shape == (5, 48)
