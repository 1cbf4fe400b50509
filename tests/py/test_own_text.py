"""The text that a model writes itself when an export needs one: the same each time, in the form of its talk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tinyexport import own_text, pipeline
from tinyexport.blob import writer
from tinyexport.cli import cli
from tinyexport.pipeline import OWN, QuantizeOptions, SourceOptions
from tinyexport.runtime import Model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CHATTY, STORY = SourceOptions(str(EXAMPLES / "smalltalk")), SourceOptions(str(EXAMPLES / "tinybuddy"))


def blob(source: SourceOptions, **chat: object) -> bytes:
    """The example, with this changed in its chat facts."""
    content = pipeline.make_content(pipeline.load_source(source), QuantizeOptions())
    assert content.chat is not None
    return writer.build(dataclasses.replace(content, chat=dataclasses.replace(content.chat, **chat)))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_text, "TOKENS", 1024)


def written(data: bytes) -> np.ndarray:
    return own_text.write(data, pipeline.no_progress)


def test_the_same_each_time_and_windows_differ() -> None:
    data = blob(STORY)
    first = written(data)
    model = Model(data)
    assert np.array_equal(first, written(data))
    assert first.shape == (1024 // min(256, model.context), min(256, model.context))
    assert len(np.unique(first, axis=0)) == len(first)


def test_stories_begin_as_the_model_was_trained() -> None:
    model = Model(data := blob(STORY))
    rows = written(data)
    assert model.bos is not None and (rows[:, 0] == model.bos).all()
    ends = np.isin(rows[:, :-1], model.stop_ids)
    assert (rows[:, 1:][ends] == model.bos).all()


def test_dialogues_have_both_sides() -> None:
    model = Model(data := blob(CHATTY))
    chat = model.chat
    assert chat is not None and chat.user_prefix
    for row in written(data):
        text = model.decode(row.tolist()).decode("utf-8", "replace")
        user, reply = chat.user_prefix.rstrip(" "), chat.reply_prefix
        assert text.startswith(user)
        assert text.count(reply) >= text.count(user) - 1 >= 1


@pytest.mark.parametrize("chat", [{"user_prefix": " "}, {"reply_prefix": ""}, {"stop_ids": ()}, {"turn_end": ""}])
def test_empty_templates_do_no_harm(chat: dict[str, object]) -> None:
    assert written(blob(CHATTY, **chat)).shape[0] > 1


def test_a_certified_head_needs_no_text(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["quantize", STORY.path, "--head", "certified", "-o", str(tmp_path / "m.tlm")], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert "a text that the model wrote itself" in done.output
    assert Model(tmp_path / "m.tlm").content.head is not None


def test_a_text_wins_and_alone_is_refused(tmp_path: Path) -> None:
    given = tmp_path / "given.txt"
    model = Model(data := blob(STORY))
    given.write_bytes(b"\n".join(model.decode(row) for row in written(data).tolist()))
    arguments = ["quantize", STORY.path, "--json", "-o", str(tmp_path / "m.tlm"), "--head-text", str(given)]
    assert CliRunner().invoke(cli, arguments).exit_code == 2
    done = CliRunner().invoke(cli, [*arguments, "--head", "certified"], catch_exceptions=False)
    assert json.loads(done.stdout)["bytes"] == (tmp_path / "m.tlm").stat().st_size
    assert not QuantizeOptions(head="certified", head_text=given).own_text
    own = pipeline.quantize(STORY, QuantizeOptions(head="certified")).data
    assert own != (tmp_path / "m.tlm").read_bytes()


def test_calibration_and_smoothing_take_it_too() -> None:
    result = pipeline.quantize(STORY, QuantizeOptions(calibrate=OWN, kv_smooth=OWN))
    assert any(name.endswith("k_feedback") for name in result.content.tensors)
    assert result.data != blob(STORY)
