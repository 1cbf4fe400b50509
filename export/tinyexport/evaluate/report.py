"""The evaluation as one self-contained HTML file."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from .metrics import METRIC_NAMES, TITLES
from .svg import COLOURS, Series, histogram, plot

_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1c2530;background:#fff;max-width:1320px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2rem 0 .6rem}
p.settings{color:#556;margin:.2rem 0 1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .8rem;border-bottom:1px solid #dde3ea;text-align:right;vertical-align:top}
th:first-child,td:first-child{text-align:left}
.wide{overflow-x:auto}.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(380px,1fr));gap:1rem}
svg.plot{width:100%;background:#fafbfc;border:1px solid #e3e8ee;border-radius:6px;font-size:11px}
svg.plot text{fill:#3a4654}svg.plot .title{font-size:12.5px;font-weight:600}svg.plot .grid{stroke:#e3e8ee;fill:none}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:.4rem 0 .8rem}.key i{display:inline-block;width:.8em;
height:.8em;border-radius:2px;margin-right:.4em}
table.samples{table-layout:fixed;width:100%}table.samples td,table.samples th{text-align:left}
table.samples td{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.88rem}
"""


def number(value: Any) -> str:
    """A cell: three or four digits, a dash for what was not measured."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def render(result: dict[str, Any]) -> str:
    """HTML of what `evaluate` returned; every text of the model is escaped."""
    models = result["models"]
    sections = [
        _settings(result),
        _key(models),
        *_texts(models, result["reference"]),
        _means(models),
        "<h2>Distributions</h2>",
        _plots(_distributions(models)),
        "<h2>One metric against another</h2>",
        _plots(_relations(models)),
    ]
    if result["caches"]:
        sections += _caches(result["caches"])
    if result["confidence"]:
        sections += _confidence(result["confidence"])
    sections += ["<h2>Samples side by side</h2>", _samples(models)]
    title = html.escape(f"Evaluation of {models[0]['label']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{''.join(sections)}</body></html>\n"
    )


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _settings(result: dict[str, Any]) -> str:
    pairs = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in result["settings"].items())
    return f'<p class="settings">{html.escape(pairs)}; {html.escape(result["tool"])}</p>'


def _key(models: Sequence[dict[str, Any]]) -> str:
    items = (
        f'<span><i style="background:{_colour(i)}"></i>{html.escape(m["label"])}</span>' for i, m in enumerate(models)
    )
    return f'<div class="key">{"".join(items)}</div>'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _texts(models: Sequence[dict[str, Any]], reference: str | None) -> list[str]:
    head, keys = ["model", "types", "KV", "bytes"], []
    if models[0]["text"]:
        keys = ["perplexity", "bits_per_byte", "greedy_agreement", "mean_kl"]
        head += ["perplexity", "bits per byte", "greedy agreement", "mean KL, nat"]
    rows = [
        [m["label"], m["types"], m["kv"], number(m["bytes"]), *(number(m["text"][key]) for key in keys)] for m in models
    ]
    out = ["<h2>Models</h2>", _table(head, rows)]
    if keys:
        note = f"Agreement and KL against {reference}. " if reference else ""
        note += "Perplexities compare only where the tokenizer is the same; bits per byte always do."
        out.append(f'<p class="settings">{html.escape(note)}</p>')
    return out


def cache_cells(row: dict[str, Any]) -> list[str]:
    """Kind, bytes, perplexity, loss."""
    return [row["kv"], number(row["bytes"]), f"{row['perplexity']:.3f}", f"{row['lost']:.1%}"]


def _caches(rows: Sequence[dict[str, Any]]) -> list[str]:
    series = []
    for i, kind in enumerate(("i8", "i4")):
        drawn = [row for row in rows if row["kv"].startswith(kind)]
        points = [(row["bytes"], row["perplexity"]) for row in drawn]
        series.append(Series(kind, points, _colour(i), labels=[row["kv"] for row in drawn]))
    return [
        "<h2>Kinds of KV cache</h2>",
        _table(["KV cache", "bytes", "perplexity", "lost to f32"], map(cache_cells, rows)),
        _plots([plot("Perplexity against the cache", "bytes of the whole context", "perplexity", series)]),
    ]


def _means(models: Sequence[dict[str, Any]]) -> str:
    rows = [[TITLES[name], *(number(m["mean"][name]) for m in models)] for name in METRIC_NAMES]
    return "<h2>Means over the samples</h2>" + _table(["metric", *(m["label"] for m in models)], rows, "means")


def _plots(plots: Iterable[str]) -> str:
    return f'<div class="plots">{"".join(plots)}</div>'


def _distributions(models: Sequence[dict[str, Any]]) -> list[str]:
    out = []
    for name in METRIC_NAMES:
        series = [
            (m["label"], [s[name] for s in m["samples"] if s[name] is not None], _colour(i))
            for i, m in enumerate(models)
        ]
        out.append(histogram(TITLES[name], "", series))
    return out


def _cloud(models: Sequence[dict[str, Any]], x: str, y: str) -> list[Series]:
    return [
        Series(m["label"], [(s[x], s[y]) for s in m["samples"] if s[x] is not None and s[y] is not None], _colour(i))
        for i, m in enumerate(models)
    ]


def _relations(models: Sequence[dict[str, Any]]) -> list[str]:
    out = [
        plot(
            "Tokens against repetition",
            "tokens generated",
            "repetition rate",
            _cloud(models, "tokens", "repetition_rate"),
        ),
        plot("Speed against latency", "tokens/s", "total latency, ms", _cloud(models, "tokens_per_s", "latency_ms")),
    ]
    sized = [
        Series(m["label"], [(m["bytes"], m["text"]["perplexity"])], _colour(i), labels=[m["label"]])
        for i, m in enumerate(models)
        if m["text"]
    ]
    if sized:
        out.append(plot("Perplexity against size", "bytes of the blob", "perplexity", sized))
    return out


def _confidence(result: dict[str, Any]) -> list[str]:
    names = {"mean": "mean log-probability", "minimum": "lowest log-probability", "best": "if the loss were known"}
    curves = [
        Series(title, [(100 * p["escalated"], p["perplexity"]) for p in result[rule]], _colour(i), line=True)
        for i, (rule, title) in enumerate(names.items())
    ]
    key = "".join(
        f'<span><i style="background:{_colour(i)}"></i>{title}</span>' for i, title in enumerate(names.values())
    )
    rows = [
        [
            f"{a['escalated']:.0%}",
            *(number(v) for p in (a, b) for v in (p["threshold"], p["perplexity"])),
            number(c["perplexity"]),
        ]
        for a, b, c in zip(result["mean"], result["minimum"], result["best"], strict=True)
    ]
    head = ["handed on", "mean: threshold", "perplexity kept", "lowest: threshold", "perplexity kept", "best possible"]
    return [
        "<h2>Handing on what the model is not sure of</h2>",
        f'<p class="settings">{result["turns"]} turns of dialogues; rank correlation of confidence and loss: '
        f"mean {result['rank_correlation']['mean']:.2f}, lowest {result['rank_correlation']['minimum']:.2f}</p>",
        f'<div class="key">{key}</div>',
        _plots([plot("Perplexity of the turns kept", "turns handed on, %", "perplexity of the true replies", curves)]),
        _table(head, rows),
    ]


def _samples(models: Sequence[dict[str, Any]]) -> str:
    rows = []
    for i, first in enumerate(models[0]["samples"]):
        rows.append([f"{first['prompt']}\nseed {first['seed']}", *(m["samples"][i]["text"] for m in models)])
    return _table(["prompt", *(m["label"] for m in models)], rows, "samples")
