"""`tinyexport plan`: does a blob fit a board, and how fast will it be (modelled)."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..plan import PROMPT_TOKENS, Board, Plan, find_board, make_plan
from . import blob_argument, json_option, print_json, read_blob


def _print(plan: Plan, board: Board) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{board.title}[/]", highlight=False)
    table = Table("", "needed", "there is", show_header=True)
    table.add_row("flash", f"{plan.flash_bytes:,} B", f"{plan.flash_room:,} B a slot, {board.slots} slots")
    table.add_row("RAM", f"{plan.ram_bytes:,} B", f"{plan.ram_room:,} B in pieces")
    table.add_row("context", f"{plan.context} positions", f"KV {plan.kv_type}")
    console.print(table)
    rate = plan.decode_tok_s
    console.print(
        f"modelled, not measured: decode {rate['mid']:.1f} tok/s ({rate['low']:.1f} to {rate['high']:.1f}), "
        f"first token of a {PROMPT_TOKENS}-token prompt after {plan.first_token_s:.2f} s with batches of {plan.batch}",
        highlight=False,
    )
    parts = ", ".join(f"{k} {v:.1f} ms" for k, v in plan.parts_ms.items())
    console.print(f"{plan.bytes_per_token:,} B read a token; {parts}; limit: {plan.limit}", highlight=False)
    console.print(f"RAM figures: {board.source}", highlight=False)
    for line in filter(None, (plan.note, plan.reason)):
        console.print(line, highlight=False)
    console.print("fits" if plan.fits else "does not fit")


@click.command()
@blob_argument
@click.option("--board", "board_name", default="cardputer", show_default=True, help="A board of boards.toml.")
@click.option("--context", type=click.IntRange(1), help="Positions wanted (default: the most that fit).")
@click.option("--kv", type=click.Choice(["f32", "f16", "i8", "i4", "q8", "q4"]), help="KV cache type.")
@json_option
def plan(blob: Path, board_name: str, context: int | None, kv: str | None, as_json: bool) -> None:
    """Plan BLOB on a board: flash, RAM, context, predicted speed. Exit 1 when it does not fit."""
    board = find_board(board_name)
    result = make_plan(read_blob(blob), board, context, {"q8": "i8", "q4": "i4"}.get(kv or "", kv))
    print_json(result.as_dict()) if as_json else _print(result, board)
    if not result.fits:
        sys.exit(1)
