"""The `tinychat` command. The one place that prints errors and sets exit codes: 1 for an error, 2 for wrong usage."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import click

from .conversation import DEVICE_KEYS, KEYS, Conversation
from .errors import ChatError
from .options import as_json, connected, connection, escalation_of, grammar_of, target_of
from .pipe import PipeChat, emit
from .protocol import VERSION_MAJOR, VERSION_MINOR
from .session import host_name
from .terminal import is_dumb


class ChatGroup(click.Group):
    """Runs `chat` when no command is named, and takes options before the command as well as after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Moves the command's name to the front; without one, puts `chat` there."""
        if not (args and args[0] in ("--help", "-h", "--version")):
            at = self._command_at(args)
            args = ["chat", *args] if at is None else [args[at], *args[:at], *args[at + 1 :]]
        return super().parse_args(ctx, args)

    def _command_at(self, args: list[str]) -> int | None:
        """Index of the first word that is neither an option nor its value, when it names a command."""
        takes_value: set[str] = set()
        for command in self.commands.values():
            for p in command.params:
                if isinstance(p, click.Option) and not p.is_flag and not p.count:
                    takes_value.update(p.opts)
        skip = False
        for index, word in enumerate(args):
            if skip:
                skip = False
            elif word == "--":
                return None
            elif word.startswith("-") and word != "-":
                skip = word in takes_value
            else:
                return index if word in self.commands else None
        return None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Shows the options of `chat`, which need no command, and the list of commands."""
        self.commands["chat"].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


def _show_version(context: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"{host_name()}, protocol {VERSION_MAJOR}.{VERSION_MINOR}")
        context.exit()


@click.group(cls=ChatGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """Chat with a language model on a microcontroller, or with its twin on the desk.

    \b
      tinychat                               the one board on USB
      tinychat --port /dev/ttyACM0           this board
      tinychat --sim model.tlm               no board: the same firmware on this machine
      tinychat --sim model.tlm "Hello!"      one reply, then exit
      echo hi | tinychat --sim model.tlm     a reply for each line
    """


@cli.command()
@click.argument("prompt", nargs=-1)
@connection
@click.option("-p", "--prompt", "prompt_option", metavar="TEXT", help="Print one reply to TEXT and exit.")
@click.option("--temp", "temperature", metavar="X", help="Temperature; 0 = always the likeliest token.")
@click.option("--top-k", metavar="N", help="Choose among the N likeliest tokens; 0 = the most there are.")
@click.option("--top-p", metavar="X", help="Choose among the likeliest tokens of this probability together.")
@click.option("--min-p", metavar="X", help="Leave out tokens below this share of the likeliest one.")
@click.option("--repeat-penalty", metavar="X", help="Above 1: tokens said lately become less likely.")
@click.option("-n", "--max-tokens", metavar="N", help="Longest reply.")
@click.option("--seed", metavar="N", help="Same seed, same text: here and on the board.")
@click.option("--raw", is_flag=True, help="Continue each text as it is: no chat template, no history.")
@click.option("--continue", "continue_", is_flag=True, help="Go on with the conversation that the device holds.")
@click.option(
    "--escalate", metavar="URL", help="Ask a bigger model there (OpenAI's interface) when the device is unsure."
)
@click.option("--model", metavar="NAME", help="With --escalate: the bigger model; $TINYCHAT_API_KEY is sent if set.")
@click.option(
    "--threshold", metavar="MEAN[,MIN]", help="With --escalate: unsure below these; the model's own when left out."
)
@click.option("--grammar", metavar="FILE", help="Every reply follows this grammar.")
@click.option("--schema", metavar="FILE", help="Every reply is JSON after this JSON schema.")
@click.option("--tokens", "stream", is_flag=True, help="With --json: also one object a token.")
@as_json
def chat(
    prompt: tuple[str, ...],
    prompt_option: str | None,
    raw: bool,
    continue_: bool,
    stream: bool,
    json_: bool,
    escalate: str | None,
    model: str | None,
    threshold: str | None,
    grammar: str | None,
    schema: str | None,
    **options: Any,
) -> None:
    """Chat (the default command)."""
    table = grammar_of(grammar, schema)
    escalation = escalation_of(escalate, model, threshold)
    if prompt and prompt_option is not None:
        raise click.UsageError("Give the prompt once: as an argument or with --prompt.")
    text = " ".join(prompt) if prompt else prompt_option
    link = {k: options.pop(k) for k in ("port", "sim", "like", "flash_image", "context", "kv")}
    with connected(**link) as device:
        conversation = Conversation(device, {}, raw, escalation=escalation, grammar=table)
        for name, value in options.items():
            if value is not None:
                conversation.set(name, value)
        if not continue_ and device.position:
            device.reset()
        if text is not None:
            PipeChat(conversation, json_, stream).turn(text)
        elif json_ or not (sys.stdin.isatty() and sys.stdout.isatty()):
            PipeChat(conversation, json_, stream).run(sys.stdin)
        else:
            from .console import ChatConsole

            ChatConsole(conversation).run()


@cli.command("list")
@click.option("--all", "all_", is_flag=True, help="Also ports whose USB id is not one of a board.")
@as_json
def list_ports(all_: bool, json_: bool) -> None:
    """List the boards on this machine's ports."""
    from . import boards, report

    ports = [p for p in boards.list_ports() if all_ or p.known]
    if json_:
        for p in ports:
            emit({"event": "port", **vars(p), "known": p.known})
        return
    if not ports:
        raise boards.none_found()
    report.ports(ports)


@cli.command()
@connection
@as_json
def info(json_: bool, **options: Any) -> None:
    """Show the device and its model."""
    from . import report

    with connected(**options) as device:
        facts = device.info()
    if json_:
        emit({"event": "info", **facts})
    else:
        report.table(report.info(facts))


@cli.command()
@click.argument("blob")
@connection
@click.option("--slot", type=click.IntRange(0, 254), help="Model slot; the device chooses when left out.")
@as_json
def upload(blob: str, slot: int | None, json_: bool, **options: Any) -> None:
    """Replace the device's model.

    BLOB is a .tlm file. Run the command again after a break: it resumes.
    """
    from . import report
    from .upload import read_blob

    read_blob(blob)  # before any board is looked for
    with connected(**options) as device:
        try:
            with report.transfer(json_) as progress:
                device.upload(blob, progress, *([] if slot is None else [slot]))
        except KeyboardInterrupt:
            click.echo("Stopped. The same command goes on from here.", err=True)
            raise
        name = device.info().model
    if json_:
        emit({"event": "uploaded", "model": name, "bytes": os.path.getsize(blob)})
    else:
        click.echo(f"{name} is on the device.")


@cli.command()
@click.option("--board", required=True, help="Board to flash: cardputer, esp32s3_devkit...")
@click.option("--model", metavar="BLOB", help="Also put this .tlm file into the model partition.")
@click.option("--from", "folder", metavar="FOLDER", help="Folder of the firmware build or release.")
@click.option("--port", default="auto", envvar="TINYCHAT_PORT", help="auto (default), /dev/ttyACM0, COM3...")
@click.option("--baud", default=921600, show_default=True, help="Speed while flashing.")
@click.option("--before", default="default-reset", hidden=True)
@click.option("--after", default="hard-reset", hidden=True)
@click.option("--no-stub", is_flag=True, help="Use the chip's own loader: slower, for stubborn boards.")
@as_json
def flash(board: str, json_: bool, **options: Any) -> None:
    """Flash firmware, and a model, in one go.

    Writes bootloader, partition table and firmware, and with --model the model partition.
    """
    from . import flash as flasher

    written = flasher.flash(board, quiet=json_, **options)
    if json_:
        emit({"event": "flashed", "board": board, "images": written})
    else:
        click.echo(f"{board} is flashed. Talk to it: tinychat")


@cli.command()
@connection
@click.option("--argument", default=0, help="Handed to the board's measurements; 0 = its own choice.")
@as_json
def bench(argument: int, json_: bool, **options: Any) -> None:
    """Measure the device, beside what was modelled.

    Reply speed, then what the board can measure of itself; whatever it does not provide is said.
    """
    from . import bench as measure

    with connected(**options) as device:
        measure.run(device, argument, json_)


@cli.command()
@connection
@as_json
def reset(json_: bool, **options: Any) -> None:
    """Restart the device and wait until it is back."""
    with connected(**options) as device:
        device.reboot()
        facts = device.info()
    if json_:
        emit({"event": "reset", "board": facts.board, "uptime_us": facts.uptime_us})
    else:
        click.echo(f"{facts.board} is back: {facts.model or 'no model'}.")


@cli.command()
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--forget", is_flag=True, help="Back to the model's and the board's defaults.")
@connection
@as_json
def settings(changes: tuple[str, ...], forget: bool, json_: bool, **options: Any) -> None:
    """Show or change the device's settings.

    For example: tinychat settings temp=0.5 kv=i4
    """
    from . import report

    wanted = {}
    for change in changes:
        key, _, value = change.partition("=")
        key = key.lower().replace("_", "-")
        if not value or (key not in KEYS and key not in DEVICE_KEYS) or key == "seed":
            known = ", ".join(k for k in [*KEYS, *DEVICE_KEYS] if k != "seed")
            raise click.UsageError(f"'{change}' is not KEY=VALUE with a known key ({known}).")
        wanted[KEYS.get(key) or DEVICE_KEYS[key]] = value
    with connected(**options) as device:
        if forget:
            device.forget()
        held = device.set(**wanted) if wanted else device.settings
    if json_:
        emit({"event": "settings", **held})
    else:
        report.table({k: str(v) for k, v in held.items()})


@cli.command()
@connection
@click.option("--frames", is_flag=True, help="Also name the frames that pass.")
@as_json
def monitor(frames: bool, json_: bool, **options: Any) -> None:
    """Show boot text and log lines, until Ctrl-C."""
    from .monitor import watch

    chosen = target_of(**options)
    watch(chosen.port, chosen.sim, frames, json_)


def main(argv: list[str] | None = None) -> None:
    """Entry point of the `tinychat` script."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with contextlib.suppress(AttributeError):
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    sys.exit(_run(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> int:
    try:
        # Not `cli.main`: it would make an error of a reader that goes away.
        with cli.make_context("tinychat", argv) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as err:
        return err.exit_code
    except click.ClickException as err:
        err.show()
        return 2
    except ChatError as err:
        return _report(err, "--json" in argv)
    except (KeyboardInterrupt, click.Abort):
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read us has gone, as `head` does
        _close_output()
    except OSError as err:  # a full disk behind our output, say
        _close_output()
        return _report(ChatError(f"{err.filename or 'The output'}: {err.strerror or err}."), False)
    return 0


def _close_output() -> None:
    """Python must not flush into the void at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(err: ChatError, as_json_: bool) -> int:
    if as_json_:
        with contextlib.suppress(BrokenPipeError):
            emit({"event": "error", "code": err.code, "message": err.message, "hint": err.hint})
        return 1
    sys.stdout.flush()
    red, dim, plain = (
        ("", "", "") if is_dumb(sys.stderr) or os.environ.get("NO_COLOR") else ("\x1b[31m", "\x1b[2m", "\x1b[0m")
    )
    print(f"{red}tinychat: {err.message}{plain}", file=sys.stderr)
    if err.hint:
        print(f"{dim}  {err.hint}{plain}", file=sys.stderr)
    return 1
