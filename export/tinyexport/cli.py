"""The `tinyexport` command. The one place that turns a TinyError into a message and an exit code.

Exit codes: 0 done, 1 a TinyError (one sentence and a hint on stderr), 2 a usage error, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys

import click

from . import __version__
from .errors import TinyError
from .printable import printable

# command -> module of `commands` that holds it: imported when called, so that --help is quick.
COMMANDS = {
    "quantize": "quantize",
    "inspect": "inspect",
    "verify": "verify",
    "run": "run",
    "perplexity": "measure",
    "score": "measure",
    "eval": "evaluate",
    "bench": "bench",
    "plan": "plan",
    "train": "train",
    "gguf": "gguf",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(f".commands.{module}", __package__), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="tinyexport")
def cli() -> None:
    """Language models on microcontrollers: export a trained tiny model to a blob, check it, run it."""


def complain(err: TinyError) -> None:
    """Print an error the way every command does: one sentence, then the hint."""
    click.echo(click.style("error: ", fg="red", bold=True) + printable(err.message), err=True)
    if err.hint:
        click.echo(click.style("hint: ", fg="cyan") + printable(err.hint), err=True)


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        cli.main(prog_name="tinyexport", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as err:
        err.show()
        sys.exit(err.exit_code)
    except TinyError as err:
        complain(err)
        sys.exit(1)
    except BrokenPipeError:
        _close_output()
        sys.exit(1)
    except OSError as err:
        if err.filename is None:
            _close_output()
        hint = "make room, or write elsewhere" if err.errno == errno.ENOSPC else "check the path and its permissions"
        complain(TinyError(f"{err.filename or 'the output'}: {err.strerror or err}", hint))
        sys.exit(1)
    except MemoryError:
        complain(TinyError("not enough memory for this model", "close other programs, or use a smaller checkpoint"))
        sys.exit(1)


def _close_output() -> None:
    """Python must not flush into the void at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
