"""`tinyexport run`: continue a prompt."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from ..errors import TinyError
from ..printable import printable
from ..runtime import Model, Sampler, generate
from . import blob_argument, json_option, kv_option, print_json, read_blob


@click.command(short_help="Continue a prompt.")
@blob_argument
@click.argument("prompt")
@click.option("-n", "--max-tokens", type=click.IntRange(0), help="Most tokens to generate.")
@click.option("--temp", "temperature", type=click.FloatRange(0), help="Temperature; 0 is greedy.")
@click.option("--top-k", type=click.IntRange(0, 256), help="Candidates kept; 0 = 256.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Probability mass kept.")
@click.option("--min-p", type=click.FloatRange(0, 1, max_open=True), help="Least probability relative to the best.")
@click.option("--repeat-penalty", type=click.FloatRange(1), help="Penalty of tokens seen in the repeat window.")
@click.option("--repeat-window", type=click.IntRange(0, 256), help="Tokens the penalty looks back at.")
@click.option("--seed", default=0, type=click.IntRange(0, 2**64 - 1), help="Seed of the draw.")
@click.option("--stop", multiple=True, help="Text that ends the output; may be given again.")
@click.option("--bos/--no-bos", default=None, help="Put BOS first (default: as the blob says).")
@click.option("--ignore-stop", is_flag=True, help="Go on after a stop token.")
@kv_option
@click.option("--context", type=click.IntRange(1), help="Positions to keep.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 16))
@click.option("--backend", help="Kernels: ref, avx2, avx512vnni (default: the best).")
@json_option
def run(blob: Path, prompt: str, max_tokens: int | None, as_json: bool, **values: Any) -> None:
    """Continue PROMPT with the model in BLOB."""
    model = Model(read_blob(blob))
    chat = model.chat
    names = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_window")
    given = {k: values[k] for k in names if values[k] is not None}
    sampler = Sampler(model, seed=values["seed"], **given)
    session = model.session(
        context=values["context"], kv=values["kv"], threads=values["threads"], backend=values["backend"]
    )
    bos = values["bos"] if values["bos"] is not None else bool(chat and chat.add_bos)
    ids = model.encode(prompt, special=True, bos=bos)
    if not ids:
        raise TinyError("the prompt has no tokens", "type at least one character, or use --bos")
    if len(ids) >= session.context:
        raise TinyError(
            f"the prompt has {len(ids)} tokens, the context {session.context}", "shorten the prompt or raise --context"
        )
    limit = max_tokens if max_tokens is not None else (chat.max_tokens if chat else 200)
    result = _generate(model, session, sampler, ids, limit, values, quiet=as_json)
    if as_json:
        print_json(result)
        return
    click.echo(
        f"[{len(result['tokens'])} tokens, {result['stop_reason']}; prefill {result['prefill_tok_s']:.0f} tok/s, "
        f"decode {result['decode_tok_s']:.0f} tok/s]",
        err=True,
    )


def _generate(
    model: Model, session: Any, sampler: Sampler, ids: list[int], limit: int, values: dict[str, Any], quiet: bool
) -> dict[str, Any]:
    """Stream the continuation; the keys are those that --json promises."""
    stops = () if values["ignore_stop"] else model.stop_ids
    started = time.perf_counter()
    first = None
    tokens: list[int] = []
    out = sys.stdout
    clean = printable if out.isatty() else str
    stream = generate(session, sampler, ids, limit, stop_ids=stops, stop_strings=values["stop"])
    try:
        for step in stream:
            first = first or time.perf_counter()
            tokens.append(step.id)
            if not quiet:
                out.write(clean(step.text))
                out.flush()
    finally:
        if not quiet:  # an error, too, begins on a line of its own
            out.write("\n")
            out.flush()
    ended = time.perf_counter()
    prefill_s = (first or ended) - started
    return {
        "text": stream.text,
        "tokens": tokens,
        "prompt_tokens": len(ids),
        "stop_reason": stream.stop_reason,
        "prefill_tok_s": len(ids) / prefill_s,
        "decode_tok_s": max(len(tokens) - 1, 0) / max(ended - (first or ended), 1e-9),
        "backend": session.backend,
    }
