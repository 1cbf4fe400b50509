"""`tinyexport verify`: a blob against the oracle, PyTorch and its own checkpoint."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Any

import click

from .. import pipeline
from ..verify import GRAPH_LIMIT, Report
from ..verify import verify as run_verify
from . import json_option, kv_option, make_source, print_json, progress, read_blob, source_options


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("comparison", "result", "verdict")
    a1, a2, b = report.oracle, report.graph, report.fp32
    table.add_row(
        "(a1) C = numpy oracle",
        f"max error {a1.max_rel_err:.2e} of the range, {a1.positions} positions",
        "bit-equal" if a1.bit_equal else "BROKEN",
    )
    table.add_row(
        "(a2) C f32 ~ PyTorch",
        f"max error {a2.max_rel_err:.2e} of the range, argmax {a2.argmax_agreement:.1%}",
        "ok" if a2.max_rel_err <= GRAPH_LIMIT else "BROKEN",
    )
    table.add_row(
        "(b) blob against fp32",
        f"perplexity {b.blob_perplexity:.3f} against {b.perplexity:.3f} ({b.blob_perplexity / b.perplexity - 1:+.2%}), "
        f"argmax {b.argmax_agreement:.1%}, mean KL {b.mean_kl:.4f}, {b.tokens} tokens",
        "reported",
    )
    Console().print(table)


@click.command(short_help="Compare a blob with its checkpoint.")
@click.argument("checkpoint")
@click.argument("blob", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--text", type=click.Path(path_type=Path), help="Text to compare on (a built-in story otherwise).")
@click.option("--tokens", default=2048, show_default=True, type=click.IntRange(2), help="Most tokens of the text.")
@kv_option
@json_option
@source_options
def verify(checkpoint: str, blob: Path, text: Path | None, tokens: int, kv: str, as_json: bool, **values: Any) -> None:
    """Compare BLOB with the oracle (a1), PyTorch (a2) and CHECKPOINT (b); exit 1 when a1 or a2 is broken."""
    source = pipeline.load_source(make_source(checkpoint, values))
    sample = resources.files("tinyexport").joinpath("sample.txt").read_text("utf-8")
    report = run_verify(
        source,
        read_blob(blob),
        pipeline.read_text(text) if text else sample,
        kv=kv,
        max_tokens=tokens,
        progress=progress,
    )
    print_json(report.as_dict()) if as_json else _print(report)
    if not report.ok:
        sys.exit(1)
