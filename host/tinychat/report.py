"""Tables and progress bars of the commands."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from .boards import Port
from .pipe import emit
from .reply import Info
from .upload import Progress as OnProgress

STAGES = {"send": "sending", "verify": "verifying", "activate": "activating", "reconnect": "connecting again"}


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True, markup=False)


def table(rows: dict[str, str]) -> None:
    """Two columns: a key, a value. In a pipe they are not wrapped, and no line ends in spaces."""
    if not sys.stdout.isatty():
        width = max(map(len, rows), default=0)
        for key, value in rows.items():
            print(f"{key:<{width}}  {value}".rstrip())
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for key, value in rows.items():
        grid.add_row(key, value)
    _console().print(grid)


def ports(found: list[Port]) -> None:
    """The result of `tinychat list`."""
    grid = Table(box=None, pad_edge=False)
    for title in ("port", "chip", "usb id", "serial number", "description"):
        grid.add_column(title, overflow="fold")
    for p in found:
        usb = f"{p.vid:04x}:{p.pid:04x}" if p.vid is not None and p.pid is not None else ""
        grid.add_row(p.device, p.what, usb, p.serial, p.description)
    _console().print(grid)


def bytes_text(count: int) -> str:
    """A number of bytes for people: 1.9 MB."""
    if count < 10_000:
        return f"{count} bytes"
    return f"{count / 1e3:.0f} KB" if count < 1_000_000 else f"{count / 1e6:.2f} MB"


def info(facts: Info) -> dict[str, str]:
    """What a person reads of `tinychat info`."""
    rows = {
        "board": f"{facts.board} ({facts.chip})" if facts.chip else facts.board,
        "firmware": f"{facts.firmware}, reads blobs up to version {facts.blob_major}.{facts.blob_minor}",
        "flash": facts.flash_mode + (f", cache line {facts.cache_line} bytes" if facts.cache_line else ""),
        "cpu": f"{facts.cpu_mhz} MHz, {facts.threads} core(s)" if facts.cpu_mhz else f"{facts.threads} core(s)",
        "kernels": facts.kernels,
        "memory": f"{bytes_text(facts.memory_used)} of {bytes_text(facts.memory_total)} used"
        + (f", {bytes_text(facts.heap_free)} of heap free" if facts.heap_free else "")
        + (f", {bytes_text(facts.psram)} of PSRAM" if facts.psram else ""),
    }
    rows |= _model_rows(facts)
    rows["self-check"] = "passed" if not facts.selfcheck else "FAILED: " + ", ".join(facts.selfcheck)
    if facts.warning:
        rows["warning"] = facts.warning
    return rows


def _model_rows(facts: Info) -> dict[str, str]:
    slots = f"{facts.slots} slot(s) of {bytes_text(facts.slot_bytes)}" if facts.slots else "fixed, no upload"
    if facts.model_state != "ready":
        return {"model": f"none that works. {facts.model_error}".strip(), "store": slots}
    rows = {
        "model": f"{facts.model} ({facts.arch}), {bytes_text(facts.model_bytes)}, CRC {facts.model_crc:08x}",
        "kind": "chat: answers in turns" if facts.chat_kind == "turns" else "story: continues a text",
        "context": f"{facts.position} of {facts.context} tokens in use; the model was built for {facts.model_context}",
        "KV cache": facts.kv_type,
        "head": f"{'certified' if facts.head_mode else 'plain'}, {facts.head_rows or 'all'} rows at once, "
        f"{facts.vocab} tokens",
        "prefill": f"{facts.batch} tokens at once" + (", fewer as the context fills" if facts.batch_in_pages else ""),
        "store": slots,
    }
    if facts.confidence:
        rows["unsure"] = f"a reply below {facts.confidence} (log-probability: mean, lowest)"
    if facts.licence:
        rows["licence"] = facts.licence
    if facts.attribution:
        rows["attribution"] = facts.attribution
    return rows


@contextlib.contextmanager
def transfer(as_json: bool) -> Iterator[OnProgress]:
    """Yields a callback that shows an upload."""
    if as_json:
        yield lambda stage, done, of: emit({"event": "progress", "stage": stage, "done": done, "of": of})
        return
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("connecting", total=None)

        def show(stage: str, done: int, of: int) -> None:
            bar.update(task, description=STAGES.get(stage, stage), completed=done, total=of)

        yield show
