"""`tinyexport plan`: does a blob fit a board, and how fast will it be (modelled)."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..plan import Board, Plan, find_board, make_plan
from . import KV_HELP, KvType, blob_argument, json_option, print_json, read_blob


def _print(plan: Plan, board: Board) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{board.title}[/]", highlight=False)
    table = Table("", "needed", "there is", show_header=True)
    table.add_row("flash", f"{plan.flash_bytes:,} B", f"{plan.flash_room:,} B a slot, {board.slots} slots")
    pieces = " + ".join(f"{size:,}" for size in plan.ram_pieces)
    table.add_row("RAM", f"{plan.ram_bytes:,} B", f"{plan.ram_room:,} B in pieces of {pieces}")
    table.add_row("context", f"{plan.context} positions", f"KV {plan.kv_type}, the model has {plan.wanted}")
    console.print(table)

    def say(text: str) -> None:
        console.print(text, highlight=False)

    parts = ", ".join(f"{name} {size:,} B" for name, size in plan.ram_parts.items() if size)
    say(f"RAM: {parts}")
    for kind, row in plan.by_kv.items():
        lacks = f", {row['missing_bytes']:,} B are missing for all" if row["missing_bytes"] else ""
        say(f"KV {kind}: {row['context']} positions, {row['kv_bytes']:,} B of cache{lacks}")
    rate, greedy = plan.decode_tok_s, ""
    if plan.head_share < 1:
        greedy = f", {plan.greedy_tok_s:.1f} where only the best token is asked for"
    say(
        f"modelled, not measured: decode {rate['mid']:.1f} tok/s ({rate['low']:.1f} to {rate['high']:.1f}) at position "
        f"{plan.decode_position}{greedy}; first token of a {plan.prompt_tokens}-token prompt after "
        f"{plan.first_token_s:.2f} s with batches of {', '.join(map(str, plan.batches))}"
    )
    say(
        f"{plan.bytes_per_token:,} B read from flash a token; "
        + ", ".join(f"{k} {v:.1f} ms" for k, v in plan.parts_ms.items())
    )
    say(f"limit: {plan.limit}")
    for figure, basis in plan.assumptions.items():
        say(f"{figure}: {basis}")
    for line in filter(None, (plan.note, plan.reason)):
        say(line)
    say("fits" if plan.fits else "does not fit")


@click.command(short_help="Does it fit a board, how fast will it be.")
@blob_argument
@click.option("--board", "board_name", default="cardputer", show_default=True, help="A board of boards.toml.")
@click.option("--context", type=click.IntRange(1), help="Positions wanted (default: the most that fit).")
@click.option("--kv", type=KvType(), help=f"{KV_HELP} (default: the device's)")
@json_option
def plan(blob: Path, board_name: str, context: int | None, kv: str | None, as_json: bool) -> None:
    """Plan BLOB on a board: flash, RAM, context, predicted speed. Exit 1 when it does not fit."""
    board = find_board(board_name)
    result = make_plan(read_blob(blob), board, context, kv)
    print_json(result.as_dict()) if as_json else _print(result, board)
    if not result.fits:
        sys.exit(1)
