"""`tinyexport quantize`: from a checkpoint to a blob."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .. import pipeline
from ..blob import writer
from ..errors import RuntimeFault
from ..plan import fits_nowhere
from ..printable import printable
from . import OutputFile, human_bytes, make_source, print_json, progress, source_options, spare_source, warn
from .inspect import size_breakdown

PRESETS = {
    "q4_0": "4 bits a weight, one scale for 32 (the default).",
    "q8_0": "8 bits a weight, one scale for 32.",
    "f16": "Half precision.",
    "f32": "Single precision.",
    "t2": "Ternary at 2 bits a weight: fastest.",
    "t1": "Ternary at 1.6 bits a weight: smallest.",
}
_FLAGS = {"t2": "--ternary", "t1": "--ternary-dense"}


def _preset_flags(command: Any) -> Any:
    for name, text in reversed(PRESETS.items()):
        flag = _FLAGS.get(name, f"--{name}")
        command = click.option(flag, "presets", flag_value=name, multiple=True, type=str, help=text)(command)
    return command


@click.command(short_help="Make a .tlm blob of a checkpoint.")
@click.argument("checkpoint")
@click.option("-o", "--out", type=OutputFile(), help="Where to write the blob.")
@_preset_flags
@click.option("--embed", type=click.Choice(["f32", "f16", "q8_0", "q4_0"]), help="Type of embedding and head.")
@click.option("--type", "types", metavar="GROUP=TYPE,...", help="Types by group: ATTN, FFN, EMBED, HEAD.")
@click.option("--keep-f32", multiple=True, metavar="PATTERN", help="Canonical names kept as f32, e.g. 'layers.0.*'.")
@click.option("--prune-vocab", "prune_text", type=click.Path(path_type=Path), help="Keep the pieces this text uses.")
@click.option("--min-count", type=click.IntRange(1), help="With --prune-vocab: least number of uses.")
@click.option("--max-tokens", type=click.IntRange(1), help="With --prune-vocab: largest vocabulary.")
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    metavar="TEXT",
    help="Choose q4_0 codes by what a text makes of them; `own`: a text that the model writes.",
)
@click.option(
    "--kv-smooth",
    type=click.Path(path_type=Path),
    metavar="TEXT",
    help="Even out keys and values for a 4-bit KV cache; `own`: by a text that the model writes.",
)
@click.option("--head", type=click.Choice(["plain", "certified"]), help="certified: most of the head stays unread.")
@click.option(
    "--head-text",
    type=click.Path(path_type=Path),
    metavar="TEXT",
    help="With --head certified: text like what the model will write, by default its own.",
)
@click.option("--probe", type=click.Path(path_type=Path), help="Try undecided facts on a text, print the perplexities.")
@click.option("--name", help="Name of the model, shown by devices.")
@click.option("--licence", help="Licence of the weights, carried in the blob.")
@click.option(
    "--confidence",
    metavar="MEAN[,MIN]",
    help="Log-probabilities below which a reply is unsure, from `eval --dialogues`; devices report them.",
)
@click.option("--force", is_flag=True, help="Ternary for a model that was not trained for it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@source_options
def quantize(
    checkpoint: str, out: Path | None, presets: tuple[str, ...], probe: Path | None, as_json: bool, **values: Any
) -> None:
    """Write CHECKPOINT (a file, a Hugging Face directory or a repo id) as a .tlm blob."""
    chosen = sorted(set(presets)) or ["q4_0"]
    if len(chosen) > 1:
        raise click.UsageError(f"choose one of --{' --'.join(chosen)}")
    source = make_source(checkpoint, values)
    if (values["min_count"] or values["max_tokens"]) and values["prune_text"] is None:
        raise click.UsageError("--min-count and --max-tokens need --prune-vocab TEXT")
    if values["calibrate"] is not None and "q4_0" not in (
        *chosen,
        values["embed"],
        *(values["types"] or "").split("="),
    ):
        raise click.UsageError("--calibrate is for q4_0")
    if values["head_text"] is not None and values["head"] != "certified":
        raise click.UsageError("--head-text is for --head certified")
    if probe is not None:
        _probe(source, probe, as_json)
        return
    target = out or pipeline.default_output(checkpoint, chosen[0])
    spare_source(checkpoint, target, "blob")
    options = pipeline.QuantizeOptions(preset=chosen[0], **values)
    result = pipeline.quantize(source, options, progress)
    if options.own_text and not as_json:
        click.echo("learned from a text that the model wrote itself")
    writer.write(target, result.data)
    warn(_with_plan(result))
    _report(result, target, as_json)


def _with_plan(result: pipeline.Result) -> list[str]:
    """The warnings, and one when no known board holds the blob; planning needs the compiled runtime, exporting not."""
    try:
        too_large = fits_nowhere(result.data)
    except RuntimeFault:
        return result.warnings
    if too_large is not None:
        result.warnings.append(f"fits no known board ({too_large})")
    return result.warnings


def _report(result: pipeline.Result, target: Path, as_json: bool) -> None:
    checkpoint = result.source.checkpoint
    info: dict[str, Any] = {
        "out": str(target),
        "bytes": len(result.data),
        "parts": size_breakdown(result.content, len(result.data)),
        "arch": checkpoint.arch,
        "parameters": int(sum(t.size for t in checkpoint.tensors.values())),
        "left_out": checkpoint.left_out,
        "warnings": result.warnings,
        "pruning": result.pruning,
    }
    if as_json:
        print_json(info)
        return
    for line in checkpoint.left_out:
        click.echo(f"left out: {printable(line)}")
    if result.pruning:
        click.echo("pruned: " + ", ".join(f"{k} {_short(v)}" for k, v in result.pruning.items()))
    click.echo("bytes: " + ", ".join(f"{part} {size:,}" for part, size in info["parts"].items()))
    click.echo(f"{target}: {human_bytes(len(result.data))}, {info['parameters']:,} parameters, {checkpoint.arch}")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def _probe(source: pipeline.SourceOptions, text_path: Path, as_json: bool) -> None:
    """Perplexity of each alternative of the undecided facts, best first."""
    from ..probe import probe_facts

    rows = probe_facts(source, pipeline.read_text(text_path), progress)
    if as_json:
        print_json({"probe": rows})
        return
    if not rows:
        click.echo("nothing is undecided: every fact was read or given")
    for row in rows:
        facts = ", ".join(f"{k} {v}" for k, v in row["options"].items()) or "as assumed"
        click.echo(f"{row['perplexity']:12.3f}  {facts}")
