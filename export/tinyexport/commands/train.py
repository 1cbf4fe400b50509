"""`tinyexport train`: a recipe in, a checkpoint out."""

from __future__ import annotations

from pathlib import Path

import click

from . import json_option, print_json


@click.command(short_help="Train a small model as a recipe says.")
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder (default: runs/NAME).")
@click.option("--reduced", is_flag=True, help="The recipe's small setting: minutes on two cores.")
@click.option("--resume", is_flag=True, help="Go on where the run in the folder stopped.")
@click.option("--qat", type=click.Choice(["q4_0"]), help="Train with the rounding of this type in the forward pass.")
@json_option
def train(recipe: Path, out: Path | None, reduced: bool, resume: bool, qat: str | None, as_json: bool) -> None:
    """Train or fine-tune a small model as RECIPE (TOML) says; needs the `train` extra."""
    from ..train import cli_train

    result = cli_train(recipe, reduced=reduced, resume=resume, qat=qat, out=out, progress=not as_json)
    if as_json:
        print_json(result)
