"""`quantize --calibrate`: the same format, chosen better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tinyexport import measure, pipeline, quant
from tinyexport.calibrate.forward import Forward
from tinyexport.calibrate.rounding import RowProblem, round_rows
from tinyexport.cli import cli
from tinyexport.errors import ConfigError
from tinyexport.pipeline import QuantizeOptions, SourceOptions
from tinyexport.reference.graph import torch_logits
from tinyexport.runtime import Model, Sampler, generate

ROOT = Path(__file__).resolve().parents[2]
BUDDY = ROOT / "examples" / "tinybuddy"
rng = np.random.default_rng(5)


def correlated(tokens: int, cols: int) -> np.ndarray:
    """Inputs whose columns move together, as those of a model do."""
    return (rng.standard_normal((tokens, cols // 4)) @ rng.standard_normal((cols // 4, cols))).astype(np.float32)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (5, 32), (8, 48), (3, 172)])
def test_outputs_come_closer_in_every_shape(rows: int, cols: int) -> None:
    w = rng.standard_normal((rows, cols)).astype(np.float32)
    x = correlated(400, cols) if cols > 4 else rng.standard_normal((400, cols)).astype(np.float32)
    moments = x.T @ x / len(x) + 0.01 * np.eye(cols, dtype=np.float32)
    naive = quant.quantise("q4_0", w)
    better = round_rows(naive, w, moments)
    assert quant.unpack(better.kind, better.pack(), rows, cols, 1.0).pack() == better.pack()

    def error(t: quant.QTensor) -> float:
        d = (w - t.dequantise()).astype(np.float64)
        return float(((d @ moments) * d).sum())

    assert error(better) <= error(naive)
    if cols >= 48:
        assert error(better) < 0.5 * error(naive)


def test_no_step_raises_the_error() -> None:
    x = correlated(400, 64)
    problem = RowProblem(
        rng.standard_normal((6, 64)).astype(np.float32), x.T @ x / len(x) + 0.01 * np.eye(64, dtype=np.float32)
    )
    losses = [problem.loss]
    for _ in range(3):
        problem.sweep_codes()
        losses.append(problem.loss)
        problem.fit_scales()
        losses.append(problem.loss)
    assert all(after <= before * 1.001 for before, after in zip(losses[:-1], losses[1:], strict=True))


def test_zero_rows_and_zero_columns_stay_zero() -> None:
    w = np.zeros((4, 64), np.float32)
    w[0, :32] = rng.standard_normal(32)
    out = round_rows(quant.quantise("q4_0", w), w, np.eye(64, dtype=np.float32)).dequantise()
    assert not out[1:].any()
    assert not out[0, 32:].any()


def test_the_numpy_pass_is_the_graph_of_pytorch() -> None:
    pytest.importorskip("torch")
    source = pipeline.load_source(SourceOptions(str(BUDDY)))
    ids = np.array([[1, 40, 77, 300, 12, 9], [1, 5, 6, 7, 8, 9]]) % source.checkpoint.spec.vocab
    weights, forward = source.checkpoint.tensors, Forward(source.checkpoint.spec, source.checkpoint.tensors)
    x = forward.embed(weights["tok_embed"], ids)
    for i in range(len(source.checkpoint.spec.layers)):
        x = x + forward.attention(i, x, lambda name, h: h @ weights[name].T)
        x = x + forward.ffn(i, x, lambda name, h: h @ weights[name].T)
    head = weights["tok_embed" if source.checkpoint.spec.tied else "head"]
    ours = forward.norm("final_norm", x) @ head.T
    for row, logits in zip(ids, ours, strict=True):
        theirs = torch_logits(source.checkpoint, [int(i) for i in row])
        assert np.abs(logits - theirs).max() < 1e-4 * (theirs.max() - theirs.min())


def own_words(model: Model, count: int, seed: int) -> list[list[int]]:
    """What the float model itself says: text that needs no file."""
    session, out = model.session(kv="f32"), []
    for i in range(count):
        session.rewind(0)
        sampler = Sampler(temperature=1.0, top_k=0, seed=seed + i)
        steps = generate(session, sampler, [model.bos or 0], model.context - 1, stop_ids=())
        out.append([model.bos or 0] + [step.id for step in steps])
    return out


def test_a_calibrated_example_is_nearer_to_its_original(tmp_path: Path) -> None:
    source = SourceOptions(str(BUDDY))
    original = Model(pipeline.quantize(source, QuantizeOptions(preset="f32")).data)
    (tmp_path / "a.txt").write_bytes(b"\n".join(original.decode(ids) for ids in own_words(original, 60, seed=100)))
    held_back = own_words(original, 10, seed=1)
    kl = {}
    for name, calibrate in {"naive": None, "calibrated": tmp_path / "a.txt"}.items():
        model = Model(pipeline.quantize(source, QuantizeOptions(calibrate=calibrate)).data)
        ours, theirs = (measure.session_logits(m.session(kv="f32")) for m in (model, original))
        score = measure.score_windows(ours, held_back, against=theirs)
        kl[name] = score.kl_sum / score.tokens
    assert kl["calibrated"] < 0.75 * kl["naive"], kl


def test_weights_on_the_grid_stay_and_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(pipeline.read_text(ROOT / "export" / "tinyexport" / "sample.txt"))
    source = pipeline.load_source(SourceOptions(str(BUDDY)))
    for name in source.checkpoint.tensors:
        if name.endswith(("wq", "w_up")):
            source.checkpoint.tensors[name] = quant.quantise("q4_0", source.checkpoint.tensors[name]).dequantise()
    options = QuantizeOptions(calibrate=tmp_path / "a.txt")
    first, second = (pipeline.make_content(source, options).tensors for _ in range(2))
    for name, tensor in first.items():
        assert tensor.pack() == second[name].pack()
        if name.endswith(("wq", "w_up")):
            assert np.array_equal(tensor.dequantise(), source.checkpoint.tensors[name])


@pytest.mark.parametrize("text", ["", "a", "once upon a time"])
def test_a_text_too_short_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ConfigError, match="calibration text has"):
        pipeline.quantize(SourceOptions(str(BUDDY)), QuantizeOptions(calibrate=tmp_path / "a.txt"))


def test_the_command_line_says_what_calibration_is_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    run = CliRunner().invoke(cli, ["quantize", str(BUDDY), "--q8_0", "--calibrate", str(tmp_path / "a.txt")])
    assert run.exit_code == 2
    assert "--calibrate is for q4_0" in run.output


def test_half_of_the_loss_of_stories260k_comes_back(shared: Path) -> None:
    """Held back: calibrated on validation stories, measured on stories of the training split."""
    source = SourceOptions(str(shared / "checkpoints" / "stories260k"))
    text = pipeline.read_text(shared / "text" / "tinystories-sample.txt.xz")
    nll = {}
    for name, options in {
        "f32": QuantizeOptions(preset="f32"),
        "naive": QuantizeOptions(),
        "calibrated": QuantizeOptions(calibrate=shared / "text" / "tinystories-valid.txt.xz"),
    }.items():
        model = Model(pipeline.quantize(source, options).data)
        windows = measure.document_windows(model, text, "<|endoftext|>", model.context, 20)
        nll[name] = measure.score_windows(measure.session_logits(model.session()), windows).perplexity
    assert nll["naive"] - nll["calibrated"] >= 0.5 * (nll["naive"] - nll["f32"]), nll
