"""The subcommands of `tinyexport`, one module each, and what they share."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..archs import ArchOptions
from ..blob.schema import MAGIC
from ..errors import BlobError, ConfigError, TinyError
from ..kv import parse_kv
from ..pipeline import SourceOptions
from ..printable import printable

F = TypeVar("F", bound=Callable[..., Any])


class KvType(click.ParamType):
    """A kind of KV cache, as `kv.parse_kv` reads it; q8 and q4 are other names of i8 and i4."""

    name = "kv"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The kind as the library writes it."""
        try:
            return str(parse_kv(re.sub("^q(?=[84])", "i", value)))
        except TinyError as err:
            self.fail(f"{err.message}: {err.hint}", param, ctx)


KV_HELP = "KV cache: f32, f16, i8, i4; i8 and i4 with N scales a position as i4/N."
kv_option = click.option("--kv", type=KvType(), default="i8", show_default=True, help=KV_HELP)
SOURCE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".json", ".model")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
blob_argument = click.argument("blob", type=click.Path(exists=True, dir_okay=False, path_type=Path))


class OutputFile(click.Path):
    """A file to write, in a folder that can be written: asked before the work that fills it."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuses a folder that is not there, or not ours."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            self.fail(f"there is no folder {folder}", param, ctx)
        if not os.access(folder, os.W_OK) and (path.is_file() or not path.exists()):
            self.fail(f"the folder {folder} can not be written", param, ctx)
        return path


def separator(text: str | None) -> str | None:
    """What parts documents; escapes such as \\n are taken as in Python."""
    if text is None:
        return None
    try:
        sep = text.encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError as err:
        raise click.UsageError(f"--documents {text!r}: {err.reason}") from None
    if not sep:
        raise click.UsageError("--documents needs a text that parts them")
    return sep


def source_options(command: F) -> F:
    """Options that say where a checkpoint lies and state facts that its tensors do not hold."""
    for option in reversed(
        (
            click.option("--config", type=click.Path(), help="config.json, when it is not found by itself."),
            click.option("--tokenizer", type=click.Path(), help="Tokenizer file, when it is not found by itself."),
            click.option("--names", type=click.Path(), help="TOML name map: canonical name = checkpoint name."),
            click.option("--arch", help="Architecture, when the config does not tell."),
            click.option("--heads", type=click.IntRange(1), help="Number of attention heads."),
            click.option("--kv-heads", type=click.IntRange(1), help="Number of key/value heads."),
            click.option("--rope", type=click.Choice(["half", "interleaved"]), help="How RoPE pairs elements."),
            click.option("--rope-theta", type=float, help="Base of the RoPE frequencies."),
            click.option("--norm-eps", type=float, help="Epsilon of the norms."),
            click.option("--act", type=click.Choice(["silu", "gelu_tanh", "gelu_erf", "relu", "relu2"])),
            click.option(
                "--context", "arch_context", type=click.IntRange(1), help="Positions the model was built for."
            ),
            click.option("--bos/--no-bos", default=None, help="Whether BOS starts every context."),
        )
    ):
        command = option(command)
    return command


def make_source(checkpoint: str, values: dict[str, Any]) -> SourceOptions:
    """Take the `source_options` out of a command's keyword arguments."""
    arch = ArchOptions(
        heads=values.pop("heads"),
        kv_heads=values.pop("kv_heads"),
        rope=values.pop("rope"),
        rope_theta=values.pop("rope_theta"),
        norm_eps=values.pop("norm_eps"),
        act=values.pop("act"),
        context=values.pop("arch_context"),
        bos=values.pop("bos"),
        arch=values.pop("arch"),
        names=values.pop("names"),
    )
    return SourceOptions(checkpoint, values.pop("config"), values.pop("tokenizer"), arch)


def spare_source(checkpoint: str, out: Path, what: str) -> None:
    """ConfigError when `out` would take the place of the checkpoint, or of a file that belongs to one."""
    given, target = Path(checkpoint).resolve(), out.resolve()
    folder = given if given.is_dir() else given.parent
    beside = target.parent == folder and target.suffix in SOURCE_SUFFIXES and target.exists()
    if target == given or (beside and not is_blob(target)):
        raise ConfigError(f"the {what} would overwrite {out.name} of the checkpoint", "name another file with -o")


def is_blob(path: Path) -> bool:
    """Whether a file begins as a blob does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_blob(path: Path) -> bytes:
    """Bytes of a blob file; BlobError when it is empty."""
    data = path.read_bytes()
    if not data:
        raise BlobError(f"{path} is empty", "write it again with tinyexport quantize")
    return data


def progress(items: Iterable[Any], title: str) -> Iterable[Any]:
    """A progress bar on stderr, shown on a terminal only."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if not console.is_terminal:
        return items
    return track(list(items), description=title, console=console, transient=True)


def print_json(value: Any) -> None:
    """One JSON object, keys in the given order; null for numbers that JSON does not have."""
    click.echo(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def warn(lines: Iterable[str]) -> None:
    """Warnings on stderr."""
    for line in lines:
        click.echo(click.style("warning: ", fg="yellow") + printable(line), err=True)


def human_bytes(n: int) -> str:
    """1234567 -> 1,234,567 B."""
    return f"{n:,} B"
