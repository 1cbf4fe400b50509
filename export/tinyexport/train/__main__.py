"""`python -m tinyexport.train RECIPE.toml`: the same as `tinyexport train`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..errors import TinyError
from . import cli_train


def main() -> int:
    """Parse the command line, train, print the result as JSON; 1 on an error that a user can act on."""
    parser = argparse.ArgumentParser(prog="tinyexport.train", description="Train a small model from a recipe.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--reduced", action="store_true", help="the recipe's small setting: minutes on two cores")
    parser.add_argument("--resume", action="store_true", help="go on where the output folder's run stopped")
    parser.add_argument("--qat", choices=["q4_0"], help="train through this type's rounding")
    parser.add_argument("--out", type=Path, help="output folder (default: runs/<name>)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args()
    try:
        told = cli_train(
            args.recipe,
            reduced=args.reduced,
            resume=args.resume,
            qat=args.qat,
            out=args.out,
            progress=not args.quiet,
        )
    except TinyError as err:
        print(f"error: {err.message}\nhint: {err.hint}", file=sys.stderr)
        return 1
    print(json.dumps(told, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
