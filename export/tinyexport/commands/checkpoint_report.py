"""`tinyexport inspect CHECKPOINT` for people: tensors, what each is taken for, facts, what is missing."""

from __future__ import annotations

from typing import Any

import click

from ..printable import printable


def print_report(report: dict[str, Any]) -> None:
    """Print what `archs.report` found."""
    names = dict(report.get("names", {}))
    for line in report.get("left_out", ()):
        name, _, reason = line.partition(": ")
        names[name] = f"left out, {reason}"
    for name in report.get("left_over", ()):
        names[name] = "?"
    rows = [("tensor", "shape", "type", "taken for")]
    for tensor in report["tensors"]:
        shape = "x".join(str(n) for n in tensor["shape"]) or "scalar"
        rows.append((tensor["name"], shape, tensor["dtype"], names.get(tensor["name"], "?")))
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(3)]
    for row in shown:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))
    click.echo(
        f"\n{report.get('arch', 'unknown architecture')}, {report['parameters']:,} parameters, {report['format']}"
    )
    for name, fact in report.get("facts", {}).items():
        click.echo(printable(f"{fact['origin']:>8}  {name} = {fact['value']}  {fact['note']}".rstrip()))
    if report.get("ternary"):
        click.echo(f"{report['ternary']} matrices are ternary")
    for title, key in (("missing", "missing"), ("unknown", "left_over")):
        for line in report.get(key, ()):
            click.echo(f"{title}: {printable(line)}")
    if "error" in report:
        click.echo(click.style("error: ", fg="red", bold=True) + printable(report["error"]))
        click.echo(click.style("hint: ", fg="cyan") + printable(report["hint"]))
