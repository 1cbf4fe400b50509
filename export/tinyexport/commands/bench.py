"""`tinyexport bench`: speed on this machine."""

from __future__ import annotations

import statistics
from pathlib import Path

import click

from ..runtime import Model
from . import blob_argument, json_option, kv_option, print_json, progress, read_blob


@click.command(short_help="Speed on this machine.")
@blob_argument
@click.option("--prompt-tokens", default=64, show_default=True, type=click.IntRange(1))
@click.option("--decode-tokens", default=128, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="The median is printed.")
@kv_option
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 16))
@click.option("--backend", help="Kernels: ref, avx2, avx512vnni (default: the best).")
@json_option
def bench(
    blob: Path,
    prompt_tokens: int,
    decode_tokens: int,
    rounds: int,
    kv: str,
    threads: int,
    backend: str | None,
    as_json: bool,
) -> None:
    """Prefill and greedy decode speed of BLOB, whole head included, timed inside the runtime."""
    model = Model(read_blob(blob))
    session = model.session(kv=kv, threads=threads, backend=backend)
    prompt_tokens = min(prompt_tokens, session.context - 1)
    decode_tokens = min(decode_tokens, session.context - prompt_tokens)
    session.bench(prompt_tokens, decode_tokens)  # warm caches; not counted
    times = [session.bench(prompt_tokens, decode_tokens) for _ in progress(range(rounds), "bench")]
    result = {
        "prefill_tok_s": prompt_tokens / statistics.median(t[0] for t in times),
        "decode_tok_s": decode_tokens / statistics.median(t[1] for t in times),
        "threads": threads,
        "backend": session.backend,
        "kv": kv,
        "prompt_tokens": prompt_tokens,
        "decode_tokens": decode_tokens,
        "rounds": rounds,
        "ram_bytes": session.need["total"],
    }
    if as_json:
        print_json(result)
        return
    plural = "" if threads == 1 else "s"
    click.echo(
        f"{model.info.get('name', blob.name)}: decode {result['decode_tok_s']:,.0f} tok/s, "
        f"prefill {result['prefill_tok_s']:,.0f} tok/s ({threads} thread{plural}, {session.backend}, kv {kv}, "
        f"{prompt_tokens}+{decode_tokens} tokens, median of {rounds}), RAM {result['ram_bytes']:,} B"
    )
