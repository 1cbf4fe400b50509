"""`tinyexport gguf`: a blob or a checkpoint of the Llama family as GGUF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import gguf_out, gguf_vocab, pipeline
from ..blob import reader
from ..errors import ConfigError
from ..spec import ModelSpec
from . import OutputFile, is_blob, make_source, read_blob, source_options, spare_source

_Model = tuple[ModelSpec, dict[str, np.ndarray], gguf_vocab.GGUFVocab, str]


def _from_blob(path: Path) -> _Model:
    content = reader.read(read_blob(path))
    if content.tokenizer is None:
        raise ConfigError(f"{path} has no tokenizer", "export the checkpoint again with its tokenizer")
    vocab = gguf_vocab.from_section(content.tokenizer, bool(content.chat and content.chat.add_bos))
    return content.spec, pipeline.float_tensors(content), vocab, content.info.get("name", path.stem)


def _from_checkpoint(source: pipeline.SourceOptions) -> _Model:
    loaded = pipeline.load_source(source)
    checkpoint = loaded.checkpoint
    vocab = gguf_vocab.from_tokenizer(loaded.tokenizer, bool(checkpoint.facts["bos"].value))
    return checkpoint.spec, checkpoint.tensors, vocab, loaded.talk.name


@click.command(short_help="Write a GGUF file for llama.cpp.")
@click.argument("path")
@click.option("-o", "--out", required=True, type=OutputFile(), help="The .gguf to write.")
@click.option("--type", "kind", type=click.Choice(gguf_out.TYPES), default="f32", show_default=True)
@source_options
def gguf(path: str, out: Path, kind: str, **values: Any) -> None:
    """Write PATH (a blob or a checkpoint of the Llama family) as GGUF for llama.cpp."""
    file = Path(path)
    source = make_source(path, values)
    spare_source(path, out, "GGUF")
    spec, tensors, vocab, name = _from_blob(file) if is_blob(file) else _from_checkpoint(source)
    gguf_out.write(spec, tensors, vocab, out, kind=kind, name=name)
    click.echo(f"{out}: {out.stat().st_size:,} B")
