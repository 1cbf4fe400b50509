"""Options that several commands share, and what they say together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from .device import Device
from .errors import ChatError, GrammarFileError
from .escalate import Escalation, Rule
from .kv import kv_name, kv_number
from .transport import SimOptions

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Target:
    """What --port, --sim, --like, --context and --kv say together."""

    port: str
    sim: SimOptions
    context: int | None
    kv: str | None

    def open(self) -> Device:
        """Connects, and makes a real device hold the wanted context and KV type."""
        device = Device.open(self.port, self.sim)
        if not self.port.startswith("sim:"):
            wanted = {"context": self.context, "kv_type": self.kv}
            held = device.settings
            changes = {k: v for k, v in wanted.items() if v is not None and held[k] != v}
            if changes:
                device.set(**changes)
        return device


KV_HELP = "KV cache: f32, f16, i8, i4; i8 and i4 with N scales a position as i4/N"


class KvType(click.ParamType):
    """A kind of KV cache."""

    name = "kv"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As the device tells it."""
        try:
            return kv_name(kv_number(value))
        except ChatError as err:
            self.fail(f"{err.message} {err.hint}", param, ctx)


def connection(command: F) -> F:
    """The options by which every command finds its device."""
    for option in (
        click.option("--kv", type=KvType(), help=f"{KV_HELP} (stored on a real board)."),
        click.option("--context", type=click.IntRange(1), help="Positions to keep (stored on a real board)."),
        click.option("--flash-image", metavar="FILE", help="With --sim: flash with model slots, kept in FILE."),
        click.option(
            "--like", metavar="BOARD", help="With --sim: memory, KV type and head of this board, such as cardputer."
        ),
        click.option("--sim", metavar="BLOB", help="Run this .tlm file in the simulator: no board needed."),
        click.option(
            "--port",
            envvar="TINYCHAT_PORT",
            help="auto (default), /dev/ttyACM0, COM3, socket://host:port or sim:BLOB; also $TINYCHAT_PORT.",
        ),
    ):
        command = option(command)
    return command


def target_of(
    port: str | None,
    sim: str | None,
    like: str | None,
    flash_image: str | None,
    context: int | None,
    kv: str | None,
) -> Target:
    """Puts the connection options together. Raises a usage error where they contradict each other."""
    if sim is not None:
        if port is not None and click.get_current_context().get_parameter_source("port") != _ENVIRONMENT:
            raise click.UsageError("--port and --sim exclude each other.")
        port = f"sim:{sim}"
    port = port or "auto"
    if not port.startswith("sim:"):
        if like is not None:
            raise click.UsageError("--like says which board the simulator stands in for: it needs --sim.")
        if flash_image is not None:
            raise click.UsageError("--flash-image is the simulator's: it needs --sim.")
    return Target(port, SimOptions(like, context, kv, flash_image), context, kv)


def escalation_of(url: str | None, model: str | None, threshold: str | None) -> Escalation | None:
    """Who is asked when the device is unsure. Raises a usage error for options that need each other."""
    if url is None:
        if model is not None or threshold is not None:
            raise click.UsageError("--model and --threshold belong to --escalate URL.")
        return None
    if not model:
        raise click.UsageError("--escalate needs the name of the model there: --model NAME.")
    return Escalation(url, model, None if threshold is None else Rule.parse(threshold))


def grammar_of(grammar: str | None, schema: str | None) -> bytes:
    """The compiled --grammar or --schema; empty without either. Raises `ChatError` for a file that does not compile."""
    path = grammar or schema
    if path is None:
        return b""
    if grammar is not None and schema is not None:
        raise click.UsageError("--grammar and --schema exclude each other.")
    from tinyexport import grammar as compiler
    from tinyexport.errors import TinyError

    try:
        text = Path(path).read_text("utf-8")
        return compiler.compile_schema(text) if schema else compiler.compile_grammar(text)
    except (OSError, UnicodeDecodeError) as err:
        raise GrammarFileError(
            f"{path} can not be read: {getattr(err, 'strerror', None) or err}.", "name a text file"
        ) from None
    except TinyError as err:
        raise GrammarFileError(f"{path}: {err.message}.", err.hint) from None


_ENVIRONMENT = click.core.ParameterSource.ENVIRONMENT


def as_json(command: F) -> F:
    """The option of commands that scripts read."""
    return click.option("--json", "json_", is_flag=True, help="One JSON object a line.")(command)


@contextlib.contextmanager
def connected(**options: Any) -> Iterator[Device]:
    """A device, closed in the end."""
    device = target_of(**options).open()
    with device:
        yield device
