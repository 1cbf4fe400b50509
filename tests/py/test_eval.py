"""`tinyexport eval`: metrics by hand, the command, and the report in a real browser."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tinyexport import pipeline
from tinyexport.blob import reader, writer
from tinyexport.cli import cli
from tinyexport.errors import ConfigError, TinyError
from tinyexport.evaluate import confidence, metrics, render, svg
from tinyexport.evaluate.contenders import Contender
from tinyexport.pipeline import QuantizeOptions, SourceOptions
from tinyexport.runtime import Model

ROOT = Path(__file__).resolve().parents[2]
BUDDY = ROOT / "examples" / "tinybuddy"
SAMPLE = ROOT / "export" / "tinyexport" / "sample.txt"


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("blob") / "buddy.tlm"
    path.write_bytes(pipeline.quantize(SourceOptions(str(BUDDY)), QuantizeOptions()).data)
    return path


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["eval", *map(str, args)])


@pytest.mark.parametrize("types", ["{", "[1]", "7", '"x"', "[" * 9999])
def test_types_that_another_program_wrote(blob: Path, types: str) -> None:
    content = reader.read(blob.read_bytes())
    other = writer.build(dataclasses.replace(content, info={**content.info, "types": types}))
    assert Contender("x", Model(other), False).types == "?"


# ---- the metrics ---------------------------------------------------------------------------------


def test_repetition_looks_back_nine_tokens() -> None:
    assert metrics.repetition_rate([1, 2, 3]) == 0
    assert metrics.repetition_rate([1, 1, 1, 1]) == 0.75
    assert metrics.repetition_rate([0, *range(1, 9), 0]) == 0.1
    assert metrics.repetition_rate([0, *range(1, 10), 0]) == 0


def test_coherence_ends_where_a_trigram_comes_again() -> None:
    assert metrics.coherence_length([1, 2, 3, 4, 1, 2, 3, 9]) == 4
    assert metrics.coherence_length([5, 5, 5, 5]) == 1
    assert metrics.coherence_length([1, 2, 3, 4]) == 4
    assert metrics.coherence_length([1, 2]) == 2


def test_the_nine_metrics_of_one_sample() -> None:
    m = metrics.measure([7, 8, 7, 9], [math.log(p) for p in (0.5, 0.25, 0.5, 1.0)], first_s=0.5, total_s=2.0)
    assert (m.ttft_ms, m.latency_ms, m.tokens, m.tokens_per_s) == (500, 2000, 4, 2)
    assert m.perplexity == pytest.approx(2.0)
    assert m.token_probability == pytest.approx(0.5625)
    assert (m.repetition_rate, m.coherence_length, m.vocabulary_diversity) == (0.25, 4, 0.75)


def test_an_empty_reply_has_no_perplexity_and_spoils_no_mean() -> None:
    empty = metrics.measure([], [], 0.0, 0.25)
    assert (empty.tokens, empty.perplexity, empty.latency_ms) == (0, None, 250)
    full = metrics.measure([1], [math.log(0.5)], 0.1, 0.1)
    assert full.tokens_per_s is None
    both = metrics.mean([empty, full])
    assert (both["tokens"], both["perplexity"], both["tokens_per_s"]) == (0.5, pytest.approx(2.0), None)


# ---- the command ---------------------------------------------------------------------------------


def test_a_blob_against_its_checkpoint(blob: Path) -> None:
    done = run(blob, "--against", BUDDY, "--samples", 4, "-n", 20, "--text", SAMPLE, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.output)
    assert result["settings"] == {
        "samples": 4, "temperature": 0.8, "top_k": 50, "max_tokens": 20, "seed": 0, "kv": "i8", "threads": 1,
    }  # fmt: skip
    ours, original = result["models"]
    assert (ours["types"], original["types"], original["kv"]) == ("q4_0", "f32", "f32")
    assert original["bytes"] > 4 * ours["bytes"]
    assert result["reference"] == original["label"]
    assert [s["seed"] for s in ours["samples"]] == [0, 1, 2, 3]
    for row in (ours["mean"], *ours["samples"]):
        assert all(name in row for name in metrics.METRIC_NAMES)
    assert ours["mean"]["tokens"] == sum(s["tokens"] for s in ours["samples"]) / 4
    text = ours["text"]
    assert text["bits_per_byte"] == pytest.approx(text["nll"] * text["tokens"] / math.log(2) / 1300, rel=0.02)
    assert 0.5 < text["greedy_agreement"] < 1
    assert 0 < text["mean_kl"] < 1
    assert original["text"]["perplexity"] < text["perplexity"]
    assert original["text"]["greedy_agreement"] is None


def test_a_model_against_itself_agrees_and_says_the_same(blob: Path) -> None:
    done = run(blob, "--against", blob, "--samples", 3, "-n", 12, "--text", SAMPLE, "--limit", 1, "--json")
    first, second = json.loads(done.output)["models"]
    assert first["text"]["greedy_agreement"] == 1
    assert first["text"]["mean_kl"] == pytest.approx(0, abs=1e-9)
    assert [s["text"] for s in first["samples"]] == [s["text"] for s in second["samples"]]
    assert second["label"] == "buddy.tlm (2)"


def test_every_kind_of_cache_that_suits_the_model_is_compared(blob: Path) -> None:
    """TinyBuddy has two kv heads: one scale a position, or two."""
    done = run(blob, "--samples", 1, "-n", 4, "--text", SAMPLE, "--caches", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.output)
    rows = {row["kv"]: row for row in result["caches"]}
    assert list(rows) == ["f32", "i8", "i8/2", "i4", "i4/2"]
    model = Model(blob)
    for kind, row in rows.items():
        need = model.need(kv=kind)
        assert row["bytes"] == need["page"] * need["pages"]
        assert row["lost"] == pytest.approx(row["perplexity"] / rows["f32"]["perplexity"] - 1)
    assert rows["i8"]["bytes"] < rows["i8/2"]["bytes"] and rows["i4"]["bytes"] < rows["i4/2"]["bytes"]
    assert rows["i8"]["perplexity"] == result["models"][0]["text"]["perplexity"]
    assert rows["i4/2"]["perplexity"] != rows["i4"]["perplexity"]
    assert run(blob, "--caches").exit_code == 2
    assert run(blob, "--samples", 1, "-n", 4, "--json").exit_code == 0


def test_the_defaults_are_those_that_reports_are_compared_by() -> None:
    text = CliRunner().invoke(cli, ["eval", "--help"]).output
    for option, default in {"--samples": "100", "--temp": "0.8", "--top-k": "50", "--max-tokens": "256"}.items():
        assert re.search(rf"{option}.*?default: {re.escape(default)}[;\]]", text, re.S), option


def test_prompts_of_a_file_are_used_in_turn(blob: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("The cat\r\n\n  \nThe dog\n")
    done = run(blob, "--prompts", tmp_path / "p.txt", "--samples", 3, "-n", 4, "--json")
    assert [s["prompt"] for s in json.loads(done.output)["models"][0]["samples"]] == ["The cat", "The dog", "The cat"]


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--text", "", "fewer than two tokens"),
        ("--text", "a", "fewer than two tokens"),
        ("--dialogues", "", "no replies to be sure of"),
        ("--prompts", "\n \n", "has no prompts"),
        ("--prompts", "the cat " * 400, "tokens, the context 128"),
        ("--dialogues", "User: Hi\nBot: Hello\n", "no replies to be sure of"),
        ("--against", "no model at all", None),
    ],
)
def test_bad_input_is_named(blob: Path, tmp_path: Path, option: str, content: str, message: str | None) -> None:
    path = tmp_path / "x.txt"
    path.write_text(content)
    done = run(blob, option, path, "--samples", 2, "-n", 4)
    assert done.exit_code == 1
    assert isinstance(done.exception, TinyError)
    assert done.exception.hint
    assert message is None or message in done.exception.message


@pytest.mark.parametrize("size", [0, 3, 100])
def test_a_cut_blob_is_named(blob: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "cut.tlm").write_bytes(blob.read_bytes()[:size])
    assert isinstance(run(tmp_path / "cut.tlm", "--samples", 1).exception, TinyError)


# ---- confidence ----------------------------------------------------------------------------------


def test_the_trade_off_hands_on_the_least_sure_first() -> None:
    judged = [confidence.Judged(mean=-i, minimum=-2.0 * i, nll_sum=float(i), tokens=1) for i in range(10)]
    curve = confidence.trade_off(judged, "mean")
    assert curve[0] == {"escalated": 0, "threshold": -9, "perplexity": pytest.approx(math.exp(4.5))}
    by_share = {round(p["escalated"], 2): p for p in curve}
    assert by_share[0.5] == {"escalated": 0.5, "threshold": -4, "perplexity": pytest.approx(math.exp(2))}
    assert confidence.rank_correlation(judged, "minimum") == pytest.approx(-1)


def test_tinytalk_knows_a_little_of_what_it_does_not_know(shared: Path) -> None:
    model = Model(
        pipeline.quantize(SourceOptions(str(shared / "checkpoints" / "tinytalk-pruned")), QuantizeOptions()).data
    )
    text = pipeline.read_text(shared / "text" / "chat-val.txt.xz")
    turns = confidence.find_turns(model, text)
    assert turns[1].before.endswith("Have you been in there before?\nBot:")
    assert turns[1].before.startswith("User: Oh, thank goodness.")
    assert turns[1].reply.startswith(" Yeah, a few times.")
    found = confidence.calibrate(model, text, 60, confidence.Settings(), lambda items, _title: items)
    assert found["mean"][-1]["perplexity"] < found["mean"][0]["perplexity"]
    assert found["rank_correlation"]["mean"] < 0
    with pytest.raises(ConfigError, match="no turn in this model's template"):
        confidence.find_turns(model, "Some prose without any turn.")


# ---- the report ----------------------------------------------------------------------------------

EVIL = "<script>document.title='broken'</script> & \"'<b>x</b> é\u0000\n  two"


def made_result() -> dict[str, Any]:
    def model(label: str, size: int) -> dict[str, Any]:
        samples = [
            {
                **dict.fromkeys(metrics.METRIC_NAMES, 1.0 + i * size),
                "prompt": EVIL, "text": EVIL, "seed": i, "prompt_tokens": 1, "stop_reason": "length",
            }
            for i in range(5)
        ]  # fmt: skip
        samples.append({**samples[0], **dict.fromkeys(metrics.METRIC_NAMES), "tokens": 0, "text": ""})
        mean = dict.fromkeys(metrics.METRIC_NAMES, 2.0)
        text = {"perplexity": 4.0 + size, "bits_per_byte": 1.0, "greedy_agreement": 0.5, "mean_kl": None}
        return {
            "label": label, "types": "q4_0", "kv": "i8", "bytes": size * 100000,
            "mean": mean, "samples": samples, "text": text,
        }  # fmt: skip

    curve = [{"escalated": s, "threshold": -1 - s, "perplexity": 8 - 3 * s} for s in (0.0, 0.5, 0.9)]
    return {
        "tool": "tinyexport", "settings": {"samples": 6}, "reference": EVIL, "prompts": [EVIL],
        "models": [model("a<i>.tlm", 1), model("b.tlm", 3)],
        "caches": [
            {"kv": kind, "bytes": size, "perplexity": 5 - size / 900, "lost": 0.1}
            for kind, size in (("f32", 900), ("i8", 500), ("i8/2", 520), ("i4", 300), ("i4/2", 320))
        ],
        "confidence": {
            "turns": 50, "rank_correlation": {"mean": -0.5, "minimum": -0.4},
            "mean": curve, "minimum": curve, "best": curve,
        },
    }  # fmt: skip


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_holds_all_itself_and_escapes_what_models_say() -> None:
    page = Page(render(made_result()))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "b"}
    assert not any(key.startswith("on") or key in ("src", "href") for _, attrs in page.tags for key in attrs)
    assert "url(" not in page.text
    assert "@import" not in page.text
    assert "<script>document.title='broken'</script>" in page.text


def test_ticks_are_few_and_within() -> None:
    for low, high in ((0, 1), (3.5, 3.6), (-2, 900000), (1e-6, 2e-6), (5, 5)):
        got = svg.ticks(low, high)
        assert 1 <= len(got) <= 9
        assert all(low - 1e-9 <= t <= high + 1e-9 for t in got)


def chromium(page: Path, *options: str) -> str:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not installed")
        pytest.skip("no chromium: the report is not looked at in a browser")
    done = subprocess.run(
        [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={page.parent / 'profile'}", "--window-size=1300,2400", *options, page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


_PROBE = """<script>
const out = {title: document.title, plots: 0, outside: [], wide: document.documentElement.scrollWidth > innerWidth,
  cells: document.querySelectorAll('table.samples td').length, flat: 0};
for (const s of document.querySelectorAll('svg.plot')) {
  out.plots++;
  const box = s.getBoundingClientRect();
  if (box.width < 200 || box.height < 100) out.flat++;
  for (const t of s.querySelectorAll('text, circle, path, polyline')) {
    const b = t.getBoundingClientRect();
    if (b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1)
      out.outside.push(t.outerHTML);
  }
}
const pre = document.createElement('pre'); pre.id = 'probe'; pre.textContent = JSON.stringify(out);
document.body.replaceChildren(pre);
</script>"""


def test_the_report_in_a_browser(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(made_result()) + _PROBE, "utf-8")
    dom = Page(chromium(page, "--dump-dom")).text
    seen = json.loads(dom[dom.index('{"title"') :])
    assert seen["title"] == "Evaluation of a<i>.tlm"
    assert seen["plots"] == 9 + 3 + 1 + 1
    assert seen["cells"] == 6 * 3
    assert (seen["flat"], seen["wide"], seen["outside"]) == (0, False, [])


def test_the_report_of_a_run_is_drawn(blob: Path, tmp_path: Path) -> None:
    page, shot = tmp_path / "report.html", tmp_path / "shot.png"
    done = run(blob, "--against", BUDDY, "--samples", 6, "-n", 30, "--text", SAMPLE, "--html", page)
    assert done.exit_code == 0, done.output
    assert list(tmp_path.iterdir()) == [page]
    chromium(page, f"--screenshot={shot}")
    assert len(set(png_bytes(shot))) > 100, "the picture is blank"


def png_bytes(path: Path) -> bytes:
    """Filtered scan lines of a PNG: a blank picture has almost none but zeros."""
    data, at, packed = path.read_bytes(), 8, b""
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += 12 + size
    return zlib.decompress(packed)
