"""`tinyexport perplexity` and `tinyexport score`."""

from __future__ import annotations

import math
from pathlib import Path

import click

from .. import measure
from ..errors import ConfigError
from ..pipeline import read_text
from ..runtime import Model
from . import blob_argument, json_option, kv_option, print_json, progress, read_blob, separator


@click.command(short_help="Perplexity on a text.")
@blob_argument
@click.argument("text", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--window", type=click.IntRange(2), help="Tokens of a window (default: the context).")
@click.option("--documents", metavar="SEP", help="Score each document by itself, BOS first; SEP parts them.")
@click.option("--limit", type=click.IntRange(1), help="With --documents: only the first ones.")
@kv_option
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 16))
@json_option
def perplexity(
    blob: Path,
    text: Path,
    window: int | None,
    documents: str | None,
    limit: int | None,
    kv: str,
    threads: int,
    as_json: bool,
) -> None:
    """Perplexity of the model in BLOB on TEXT (.txt or .xz)."""
    if limit is not None and documents is None:
        raise click.UsageError("--limit needs --documents SEP")
    model = Model(read_blob(blob))
    size = min(window or model.spec.context, model.spec.context)
    if window is not None and window > size:
        raise ConfigError(f"a window of {window} exceeds the context of {size}", "choose a smaller --window")
    content = read_text(text)
    parting = separator(documents)
    if parting is None:
        windows = measure.stream_windows(measure.encode_stream(model, content), size)
    else:
        windows = measure.document_windows(model, content, parting, size, limit)
    session = model.session(context=size, kv=kv, threads=threads)
    score = measure.score_windows(measure.session_logits(session), progress(windows, "score"))
    if as_json:
        print_json({"perplexity": score.perplexity, "nll": score.nll, "tokens": score.tokens, "windows": len(windows)})
        return
    click.echo(f"perplexity {score.perplexity:.3f} (nll {score.nll:.4f}, {score.tokens} scored tokens, kv {kv})")


@click.command(short_help="Log-likelihood of texts after a prompt.")
@blob_argument
@click.argument("prompt")
@click.argument("continuations", nargs=-1, required=True)
@click.option("--bos/--no-bos", default=None, help="Put BOS first (default: as the blob says).")
@kv_option
@json_option
def score(blob: Path, prompt: str, continuations: tuple[str, ...], bos: bool | None, kv: str, as_json: bool) -> None:
    """Log-likelihood of each of CONTINUATIONS after PROMPT: spelling, routing, classification."""
    model = Model(read_blob(blob))
    with_bos = bos if bos is not None else bool(model.chat and model.chat.add_bos)
    rows = measure.score_continuations(model, model.session(kv=kv), prompt, continuations, with_bos)
    best = max(value for value, _ in rows)
    total = sum(math.exp(value - best) for value, _ in rows)
    out = [
        {"text": text, "logprob": value, "tokens": n, "per_token": value / n, "share": math.exp(value - best) / total}
        for text, (value, n) in zip(continuations, rows, strict=True)
    ]
    if as_json:
        print_json({"prompt": prompt, "continuations": out})
        return
    for row in sorted(out, key=lambda r: -float(str(r["logprob"]))):
        click.echo(f"{row['logprob']:10.4f}  {row['share']:7.2%}  {row['tokens']:3} tokens  {row['text']!r}")
