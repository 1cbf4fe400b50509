"""Small models trained at home: recipe in, checkpoint out. Needs the `train` extra (torch)."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

from .recipe import Recipe, RecipeError, TrainError, load_recipe

__all__ = ["Recipe", "RecipeError", "TrainError", "cli_train", "load_recipe"]


def _need_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise TrainError("training needs PyTorch, which is not installed", "pip install 'tinyexport[train]'")


def cli_train(
    recipe: Path,
    *,
    reduced: bool = False,
    resume: bool = False,
    qat: str | None = None,
    out: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train `recipe` into `out` (default: runs/<name> here) and tell the result.

    Returns:
        folder, parameters, steps, train_loss, valid_loss (nats per token or None), valid_tokens, perplexity.

    Raises:
        RecipeError: the recipe is wrong. TrainError: the run can not start or go on.
    """
    _need_torch()
    wanted = load_recipe(Path(recipe), reduced)
    if qat:
        if qat != "q4_0":
            raise RecipeError(f"there is no quantisation-aware training for {qat!r}", "use --qat q4_0")
        wanted = dataclasses.replace(wanted, qat=qat)
    from .show import run_shown

    return run_shown(wanted, Path(out) if out else Path("runs") / wanted.name, resume, progress)
