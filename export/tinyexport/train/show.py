"""The run as a person sees it: a progress bar, then a line of results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .loop import Trainer
from .models import parameter_count
from .recipe import Recipe, TrainError


def run_shown(recipe: Recipe, out: Path, resume: bool, progress: bool) -> dict[str, Any]:
    """Train and report on standard error; the keys are those of `cli_train`."""
    console = Console(stderr=True, quiet=not progress)
    trainer = Trainer(recipe, out, resume)
    console.print(
        f"{recipe.name}: {parameter_count(trainer.model):,} parameters, {trainer.tok.vocab} pieces,"
        f" {sum(len(s.ids) for s in trainer.streams):,} tokens, on {trainer.device}"
    )
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  valid {task.fields[valid]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not progress) as bar:
        task = bar.add_task(
            "", total=recipe.optim.stop or recipe.optim.steps, completed=trainer.step, loss=math.nan, valid="-"
        )

        def tell(step: int, loss: float, valid: float | None) -> None:
            bar.update(task, completed=step, loss=loss)
            if valid is not None:
                bar.update(task, valid=f"{valid:.3f}")

        try:
            result = trainer.train(tell)
        except KeyboardInterrupt:
            kept = trainer.last_saved
            hint = f"step {kept} is saved in {out}; go on with --resume" if kept else "nothing was saved yet"
            raise TrainError(f"stopped at step {trainer.step}", hint) from None
    told = {
        "folder": str(result.folder),
        "parameters": result.parameters,
        "steps": result.steps,
        "train_loss": result.train_loss,
        "valid_loss": result.valid_loss,
        "valid_tokens": result.valid_tokens,
        "perplexity": None if result.valid_loss is None else math.exp(result.valid_loss),
    }
    if result.valid_loss is not None:
        console.print(f"validation loss {result.valid_loss:.4f} nats per token over {result.valid_tokens} tokens")
    console.print(f"checkpoint in {result.folder}")
    return told
