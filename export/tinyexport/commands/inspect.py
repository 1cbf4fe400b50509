"""`tinyexport inspect`: what is in a blob or a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .. import archs, loaders, pipeline
from ..blob import reader
from ..blob.schema import HEAD_TENSORS, tensor_bytes
from ..blob.writer import BlobContent
from ..printable import printable
from ..quant import QTensor
from . import human_bytes, is_blob, make_source, print_json, read_blob, source_options
from .checkpoint_report import print_report

_PARTS = {"ATTN": ("wq", "wk", "wv", "wo"), "FFN": ("w_gate", "w_up", "w_down"), "EMBED": ("tok_embed", "pos_embed")}


def part_of(name: str) -> str:
    """The row of the size table a tensor belongs to."""
    last = name.rsplit(".", 1)[-1]
    for part, members in _PARTS.items():
        if last in members:
            return part
    return "HEAD" if name.startswith("head") and last != "head_bias" else "NORMS"


def size_breakdown(content: BlobContent, total: int) -> dict[str, int]:
    """Bytes by part; what is neither tensor nor tokenizer is the frame (header, tables, gaps)."""
    sizes: dict[str, int] = {}
    for name, tensor in content.tensors.items():
        part = part_of(name)
        sizes[part] = sizes.get(part, 0) + tensor_bytes(tensor.kind, tensor.rows, tensor.cols)
    if content.head is not None:
        sizes["HEAD"] = content.head.nbytes
    sizes["TOKENIZER"] = len(content.tokenizer or b"")
    sizes["FRAME"] = total - sum(sizes.values())
    return sizes


def blob_facts(data: bytes) -> dict[str, Any]:
    """Everything `inspect --json` says of a blob."""
    content = reader.read(data)
    tensors = [
        {
            "name": name,
            "type": t.kind.name.lower(),
            "rows": t.rows,
            "cols": t.cols,
            "bytes": tensor_bytes(t.kind, t.rows, t.cols),
        }
        for name, t in _named_tensors(content)
    ]
    return {
        "arch": content.info.get("arch", "unknown"),
        "spec": pipeline.spec_summary(content.spec),
        "tensors": tensors,
        "bytes": len(data),
        "head": "plain" if content.head is None else "certified",
        "head_bytes_per_token": _head_bytes(content),
        "parts": size_breakdown(content, len(data)),
        "info": {k: _parsed(v) for k, v in content.info.items()},
        "chat": _chat_facts(content),
    }


def _parsed(text: str) -> Any:
    """A list or an object that the exporter wrote; the text itself where it is none."""
    try:
        return json.loads(text) if text[:1] in ("{", "[") else text
    except (ValueError, RecursionError):
        return text


def _named_tensors(content: BlobContent) -> list[tuple[str, QTensor]]:
    named = list(content.tensors.items())
    if content.head is not None:
        stages = [f"head.stage{i}" for i in range(len(content.head.stages))]
        names = [*(f"head.{name}" for name in HEAD_TENSORS), *stages]
        named += zip(names, content.head.tensors, strict=True)
    return named


def _head_bytes(content: BlobContent) -> dict[str, int] | None:
    """What the export measured: bytes of a certified head that a token reads, in whole lines of 64."""
    head = content.head
    return None if head is None else {"greedy": head.greedy_bytes, "top_k_40": head.top40_bytes}


def _chat_facts(content: BlobContent) -> dict[str, Any] | None:
    if content.chat is None:
        return None
    chat = dict(vars(content.chat))
    chat["kind"] = content.chat.kind.name.lower()
    return chat


def _print_blob(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    spec = facts["spec"]
    layer = spec["layers"][0]
    name, arch = (escape(printable(str(text))) for text in (facts["info"].get("name", "?"), facts["arch"]))
    console.print(f"[bold]{name}[/] ({arch}), {human_bytes(facts['bytes'])}")
    head = "tied" if spec["tied"] else "certified" if facts["head"] == "certified" else "own"
    console.print(
        f"{len(spec['layers'])} layers, d {spec['dim']}, {spec['n_heads']} heads of {spec['head_dim']}, "
        f"{layer['n_kv_heads']} kv, {layer['ffn_kind']} ffn {layer['ffn_dim']} {spec['act']}, "
        f"vocabulary {spec['vocab']:,}, context {spec['context']}, {spec['norm_kind']} norm, "
        f"positions {spec['pos_kind']}, {head} head"
    )
    if facts["head_bytes_per_token"] is not None:
        read = facts["head_bytes_per_token"]
        console.print(f"head: a greedy token read {read['greedy']:,} B at export, one of 40 {read['top_k_40']:,} B")
    table = Table("part", "types", "bytes", "share", "")
    kinds: dict[str, set[str]] = {}
    for t in facts["tensors"]:
        kinds.setdefault(part_of(t["name"]), set()).add(t["type"])
    for part, size in sorted(facts["parts"].items(), key=lambda kv: -kv[1]):
        share = size / facts["bytes"]
        table.add_row(part, " ".join(sorted(kinds.get(part, ()))), f"{size:,}", f"{share:.1%}", "█" * round(40 * share))
    console.print(table)
    for key in ("licence", "attribution", "confidence", "tool"):
        if key in facts["info"]:
            console.print(printable(f"{key}: {facts['info'][key]}"), markup=False)
    assumed = facts["info"].get("facts")
    for name, fact in assumed.items() if isinstance(assumed, dict) else ():
        value, origin, *note = map(str, fact) if isinstance(fact, list) and len(fact) > 1 else (fact, "")
        console.print(printable(f"{origin:>8}  {name} = {value} {' '.join(note)}".rstrip()), markup=False)


@click.command(short_help="Show what is in a blob or a checkpoint.")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@source_options
def inspect(path: str, as_json: bool, **values: Any) -> None:
    """Show what a blob holds, or what a checkpoint's tensors are taken for."""
    file = Path(path)
    if is_blob(file):
        facts = blob_facts(read_blob(file))
        print_json(facts) if as_json else _print_blob(facts)
        return
    source = make_source(path, values)
    raw = loaders.load(path, config=source.config, tokenizer=source.tokenizer)
    report = archs.report(raw, source.arch)
    print_json(report) if as_json else print_report(report)
