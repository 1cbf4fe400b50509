"""Models of the emulator tests: TinyBuddy from the repository, and what is made from it; real ones where they are."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from tinyexport.blob.content import BlobContent, ChatSpec
from tinyexport.blob.reader import read
from tinyexport.blob.schema import ChatKind
from tinyexport.blob.writer import build
from tinyexport.cli import cli

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "emu"


def exported(checkpoint: Path, *options: str) -> bytes:
    """The blob of a checkpoint, made once a version of the exporter."""
    OUT.mkdir(parents=True, exist_ok=True)
    source = hashlib.sha256()
    for path in [*sorted((ROOT / "export").rglob("*.py")), *sorted(checkpoint.glob("*"))]:
        source.update(path.read_bytes())
    out = OUT / f"{checkpoint.name}{''.join(options)}.{source.hexdigest()[:12]}.tlm"
    if not out.exists():
        cli.main(["quantize", str(checkpoint), *options, "-o", str(out)], standalone_mode=False)
    return out.read_bytes()


@lru_cache
def tinybuddy() -> bytes:
    """The bundled model: a story model with BOS, 1024 tokens, context 128."""
    return exported(ROOT / "examples" / "tinybuddy")


def changed(blob: bytes, change: Callable[[BlobContent], BlobContent]) -> bytes:
    """A blob with other content."""
    return build(change(read(blob)))


@lru_cache
def talker(stops: tuple[str, ...] = ("\nUser:",), max_tokens: int = 12) -> bytes:
    """TinyBuddy with a template of turns, so that it holds a (senseless) conversation."""
    chat = ChatSpec(
        kind=ChatKind.TURNS,
        add_bos=True,
        user_prefix="User: ",
        reply_prefix="\nBot:",
        turn_end="\n",
        stop_ids=(0,),
        stop_strings=stops,
        temperature=0.8,
        top_k=40,
        max_tokens=max_tokens,
    )
    return changed(tinybuddy(), lambda content: dataclasses.replace(content, chat=chat))
