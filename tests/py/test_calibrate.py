"""`quantize --calibrate`: the same format, chosen better."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tinyexport import measure, pipeline, quant
from tinyexport.blob import writer
from tinyexport.blob.content import BlobContent
from tinyexport.blob.schema import Act, FfnKind, NormKind, PosKind
from tinyexport.calibrate.forward import Forward
from tinyexport.calibrate.kv import feedback, smooth
from tinyexport.calibrate.rounding import RowProblem, round_rows
from tinyexport.cli import cli
from tinyexport.errors import ConfigError
from tinyexport.pipeline import QuantizeOptions, SourceOptions
from tinyexport.policy import make_policy
from tinyexport.reference import oracle_math as om
from tinyexport.reference.graph import torch_logits
from tinyexport.reference.oracle import Oracle
from tinyexport.runtime import Model, Sampler, generate
from tinyexport.spec import Checkpoint, LayerSpec, ModelSpec, tensor_names

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


# ---- --kv-smooth ---------------------------------------------------------------------------------


def logits_of(content: BlobContent, ids: list[int], kv: str) -> np.ndarray:
    return Model(writer.build(content)).session(kv=kv).eval(ids, want="all")


@pytest.mark.parametrize("preset", ["f32", "q4_0"])
@pytest.mark.parametrize("pos_kind", [PosKind.ROPE, PosKind.LEARNED])
@pytest.mark.parametrize("kv_heads", [8, 4])
def test_smoothing_leaves_the_function_and_helps_a_4_bit_cache(kv_heads: int, pos_kind: PosKind, preset: str) -> None:
    spec = ModelSpec(
        dim=64, n_heads=8, head_dim=8, vocab=64, context=64, layers=(LayerSpec(kv_heads, 64, FfnKind.GATED),) * 2,
        norm_kind=NormKind.RMS, norm_eps=1e-5, pos_kind=pos_kind, act=Act.SILU, attn_scale=0.35,
        rope_dims=8 if pos_kind is PosKind.ROPE else 0,
        rope_freqs=(1.0, 0.1, 0.01, 0.001) if pos_kind is PosKind.ROPE else (),
    )  # fmt: skip
    tensors = {}
    for name, shape in tensor_names(spec):
        if is_extra(name):
            continue
        tensors[name] = rng.standard_normal(shape).astype(np.float32) / (8 if len(shape) > 1 else 1)
        if name.endswith("wk"):  # uneven channels are what the scales are for
            tensors[name] *= np.tile([8, 1, 1, 0.2, 8, 0.5, 1, 0.2], kv_heads)[:, None].astype(np.float32)
        if name.endswith("wv"):
            tensors[name] *= np.repeat([4, 0.3], 4 * kv_heads)[:, None].astype(np.float32)
    checkpoint = Checkpoint(spec, tensors, "test")
    policy = make_policy(preset, None, None, ())
    plain = BlobContent(spec, pipeline.quantise(checkpoint, policy, pipeline.no_progress))
    folded = dataclasses.replace(plain, tensors=smooth(checkpoint, plain.tensors, rng.integers(0, 64, (8, 64))))
    ids = [int(i) for i in rng.integers(0, 64, 60)]
    want = logits_of(plain, ids, "f32")
    span = want.max() - want.min()
    assert ("layers.0.bk" in folded.tensors) == (pos_kind is PosKind.LEARNED)
    assert ("layers.0.k_range" in folded.tensors) == (pos_kind is PosKind.ROPE)
    assert np.abs(logits_of(folded, ids, "f32") - want).mean() < (1e-5 if preset == "f32" else 4e-3) * span
    before, after = (np.abs(logits_of(c, ids, "i4") - want).mean() for c in (plain, folded))
    assert after < 0.8 * before, (before, after)
    unfed = {name: t for name, t in folded.tensors.items() if not name.endswith("k_feedback")}
    unfed_content = dataclasses.replace(folded, tensors=unfed)
    for kv in ("f32", "i8"):  # feedback belongs to the 4-bit cache alone
        assert np.array_equal(logits_of(folded, ids, kv), logits_of(unfed_content, ids, kv))
    assert not np.array_equal(logits_of(folded, ids, "i4"), logits_of(unfed_content, ids, "i4"))
    for content in (folded, unfed_content):
        assert np.array_equal(Oracle(content, "i4").eval(ids), logits_of(content, ids, "i4"))


def test_the_float_graph_needs_neither_tensor() -> None:
    """`verify` compares with PyTorch on the dequantised weights; what evens out the keys cancels there."""
    pytest.importorskip("torch")
    source = pipeline.load_source(SourceOptions(str(BUDDY)))
    plain = pipeline.make_content(source, QuantizeOptions(preset="f32"))
    checkpoint = source.checkpoint
    content = dataclasses.replace(
        plain, tensors=smooth(checkpoint, plain.tensors, rng.integers(0, checkpoint.spec.vocab, (4, 64)))
    )
    assert {"layers.0.k_range", "layers.0.k_feedback"} <= content.tensors.keys()
    ids = [1, 40, 77, 300, 12, 9]
    theirs = torch_logits(Checkpoint(content.spec, pipeline.float_tensors(content), ""), ids)
    ours = logits_of(pipeline.float_content(content), ids, "f32")
    assert np.abs(ours - theirs).max() < 1e-4 * (theirs.max() - theirs.min())


def test_feedback_turns_the_error_away_from_the_queries() -> None:
    heads, d = 3, 8
    rng = np.random.default_rng(6)
    mix = rng.standard_normal((heads, 2, d))
    q = np.einsum("nhr,hrd->nhd", rng.standard_normal((500, heads, 2)), mix) + 0.2 * rng.standard_normal(
        (500, heads, d)
    )
    metric = np.einsum("nhi,nhj->hij", q, q, dtype=np.float64) / len(q)
    x = rng.standard_normal((2000, heads * d)).astype(np.float32)

    def error(weights: np.ndarray | None) -> float:
        codes, scales = om.kv_codes(x, 7, weights)
        e = (x - codes * scales[:, None]).reshape(-1, heads, d)
        return float(np.einsum("nhi,hij,nhj->", e, metric, e))

    assert error(feedback(metric).dequantise()) < 0.5 * error(None)


def is_extra(name: str) -> bool:
    """Tensors that no model needs."""
    part = name.rpartition(".")[2]
    return "bias" in part or "sub_norm" in part or part.startswith(("b", "k_"))


def test_ternary_weights_stay() -> None:
    spec = ModelSpec(
        dim=32, n_heads=4, head_dim=8, vocab=16, context=16, layers=(LayerSpec(4, 32, FfnKind.PLAIN),),
        norm_kind=NormKind.RMS, norm_eps=1e-5, pos_kind=PosKind.NONE, act=Act.RELU, attn_scale=0.35,
    )  # fmt: skip
    tensors = {
        name: np.sign(rng.standard_normal(shape)).astype(np.float32)
        for name, shape in tensor_names(spec)
        if not is_extra(name)
    }
    checkpoint = Checkpoint(spec, tensors, "test")
    packed = pipeline.quantise(checkpoint, make_policy("t2", None, None, ()), pipeline.no_progress)
    out = smooth(checkpoint, packed, rng.integers(0, 16, (2, 16)))
    assert {name: out[name] for name in packed} == packed
    assert out.keys() - packed.keys() == {"layers.0.k_range", "layers.0.k_feedback"}


def test_tinytalk_loses_little_to_a_4_bit_cache(shared: Path) -> None:
    source = SourceOptions(str(shared / "checkpoints" / "tinytalk-pruned"))
    stories = shared / "text" / "tinystories-valid.txt.xz"
    chat = pipeline.read_text(shared / "text" / "chat-val.txt.xz")
    loss = {}
    for name, text in {"plain": None, "smooth": stories}.items():
        model = Model(pipeline.quantize(source, QuantizeOptions(kv_smooth=text)).data)
        windows = measure.stream_windows(model.encode(chat, special=True), model.context)[:12]
        i8, i4 = (
            measure.score_windows(measure.session_logits(model.session(kv=kv)), windows).nll for kv in ("i8", "i4")
        )
        loss[name] = i4 - i8
    assert loss["smooth"] < min(0.03, 0.4 * loss["plain"]), loss


def test_stories260k_wins_back_most_of_what_a_4_bit_cache_takes(shared: Path) -> None:
    source = SourceOptions(str(shared / "checkpoints" / "stories260k"))
    text = pipeline.read_text(shared / "text" / "tinystories-sample.txt.xz")
    loss = {}
    for name, smoothing in {"plain": None, "smooth": shared / "text" / "tinystories-valid.txt.xz"}.items():
        model = Model(pipeline.quantize(source, QuantizeOptions(preset="q8_0", kv_smooth=smoothing)).data)
        windows = measure.document_windows(model, text, "<|endoftext|>", model.context, 10)
        i8, i4 = (
            measure.score_windows(measure.session_logits(model.session(kv=kv)), windows).nll for kv in ("i8", "i4")
        )
        loss[name] = i4 - i8
    assert loss["smooth"] < 0.25 * loss["plain"], loss
