"""`tinyexport eval`: what a model says, how fast, and how far from its reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..evaluate import Settings, TextOptions, evaluate, render
from ..evaluate.metrics import METRIC_NAMES, TITLES
from ..evaluate.report import cache_cells, number
from ..files import replacing
from ..pipeline import read_text
from ..printable import printable
from . import OutputFile, json_option, kv_option, print_json, progress, separator

FILE = click.Path(path_type=Path)


@click.command("eval", short_help="Measure samples, scores, confidence.")
@click.argument("blob", type=click.Path(exists=True))
@click.option("--against", multiple=True, metavar="CHECKPOINT|BLOB", help="Compare with this; may be given again.")
@click.option("--prompts", type=FILE, help="One prompt a line (built-in ones otherwise).")
@click.option("--samples", default=100, show_default=True, type=click.IntRange(1, 100000))
@click.option("--temp", "temperature", default=0.8, show_default=True, type=click.FloatRange(0))
@click.option("--top-k", default=50, show_default=True, type=click.IntRange(0, 256), help="0 = 256.")
@click.option("-n", "--max-tokens", default=256, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63), help="Of the first sample.")
@click.option("--text", type=FILE, help="Text for perplexity, bits per byte, agreement and KL.")
@click.option("--documents", metavar="SEP", help="With --text: score each document by itself; SEP parts them.")
@click.option("--limit", type=click.IntRange(1), help="With --text: only the first windows or documents.")
@click.option("--caches", is_flag=True, help="With --text: BLOB's perplexity by kind of KV cache, and their bytes.")
@click.option("--dialogues", type=FILE, help="Dialogues to calibrate the confidence threshold on.")
@click.option("--turns", default=200, show_default=True, type=click.IntRange(10), help="With --dialogues: most turns.")
@kv_option
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 16))
@click.option("--html", "html_out", type=OutputFile(), help="Write a self-contained report.")
@json_option
def evaluate_command(
    blob: str,
    against: tuple[str, ...],
    prompts: Path | None,
    text: Path | None,
    documents: str | None,
    limit: int | None,
    caches: bool,
    dialogues: Path | None,
    turns: int,
    html_out: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Measure the model in BLOB: nine metrics of its samples, its scores on a text, its confidence."""
    if text is None and (documents is not None or limit is not None or caches):
        raise click.UsageError("--documents, --limit and --caches need --text FILE")
    result = evaluate(
        [blob, *against],
        Settings(**values),
        prompts=prompts,
        text=TextOptions(read_text(text), separator(documents), limit) if text else None,
        dialogues=read_text(dialogues) if dialogues else None,
        turns=turns,
        by_cache=caches,
        progress=progress,
    )
    if html_out is not None:
        with replacing(html_out) as aside:
            aside.write_text(render(result), "utf-8")
    if as_json:
        print_json(result)
        return
    _print(result)
    if html_out is not None:
        click.echo(f"report: {html_out}")


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    models = result["models"]
    table = Table("metric", *(escape(printable(m["label"])) for m in models))
    for name in METRIC_NAMES:
        table.add_row(TITLES[name], *(number(m["mean"][name]) for m in models))
    table.add_row("bytes of the blob", *(number(m["bytes"]) for m in models))
    if models[0]["text"]:
        table.add_section()
        for key in ("perplexity", "bits_per_byte", "greedy_agreement", "mean_kl"):
            table.add_row(f"text: {key.replace('_', ' ')}", *(number(m["text"][key]) for m in models))
    Console().print(table)
    if result["caches"]:
        caches = Table("KV cache", "bytes", "text: perplexity", "lost to f32")
        for row in result["caches"]:
            caches.add_row(*cache_cells(row))
        Console().print(caches)
    if result["confidence"]:
        _print_confidence(result["confidence"])


def _print_confidence(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("handed on", "mean below", "perplexity kept", "lowest below", "perplexity kept")
    for a, b in zip(found["mean"], found["minimum"], strict=True):
        cells = (a["threshold"], a["perplexity"], b["threshold"], b["perplexity"])
        table.add_row(f"{a['escalated']:.0%}", *(f"{v:.3f}" for v in cells))
    Console().print(table)
    click.echo(
        f"{found['turns']} turns. `tinyexport quantize --confidence MEAN[,MIN]` puts a threshold into the blob, where "
        "`tinychat --escalate` finds it; `--threshold` is another for one chat."
    )


eval = evaluate_command  # what the command is called
