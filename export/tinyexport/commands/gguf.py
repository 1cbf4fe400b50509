"""`tinyexport gguf`: the Llama family as a file for llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import archs, gguf_out, gguf_vocab, loaders, tok
from ..blob import reader
from ..blob.schema import MAGIC
from ..chat_facts import bos_fact
from ..errors import CheckpointError, ConfigError
from ..spec import MODEL_TENSORS, ModelSpec
from . import human_bytes, make_source, print_json, read_blob, source_options


def _from_blob(path: Path) -> tuple[ModelSpec, dict[str, np.ndarray], gguf_vocab.GGUFVocab]:
    content = reader.read(read_blob(path))
    if content.tokenizer is None:
        raise CheckpointError(f"{path.name} holds no tokenizer", "export it again with its tokenizer beside it")
    matrices = ("tok_embed", "head")
    tensors = {}
    for name, tensor in content.tensors.items():
        if name == "rope_turns":  # the spec has the frequencies
            continue
        values = tensor.dequantise()
        is_vector = name.rsplit(".", 1)[-1].startswith("b") or "norm" in name or name in MODEL_TENSORS
        tensors[name] = values[0] if is_vector and name not in matrices else values
    add_bos = bool(content.chat and content.chat.add_bos)
    return content.spec, tensors, gguf_vocab.from_section(content.tokenizer, add_bos)


def _from_checkpoint(
    path: str, values: dict[str, Any]
) -> tuple[ModelSpec, dict[str, np.ndarray], gguf_vocab.GGUFVocab]:
    source = make_source(path, values)
    raw = loaders.load(path, config=source.config, tokenizer=source.tokenizer)
    checkpoint = archs.identify(raw, source.arch)
    tokenizer = tok.load(raw.tokenizer_files, gguf=raw.gguf_tokenizer)
    add_bos = bos_fact(source.arch.bos, tokenizer.add_bos, tokenizer.bos is not None, None)
    return checkpoint.spec, checkpoint.tensors, gguf_vocab.from_tokenizer(tokenizer, bool(add_bos.value))


@click.command()
@click.argument("model")
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .gguf to write.")
@click.option(
    "--type", "kind", type=click.Choice(gguf_out.TYPES), default="f16", show_default=True, help="Of matrices."
)
@click.option("--name", default="", help="Name of the model in the file; the file's own by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@source_options
def gguf(model: str, out: Path, kind: str, name: str, as_json: bool, **values: Any) -> None:
    """Write MODEL (a blob or a checkpoint of the Llama family) as GGUF."""
    path = Path(model)
    if path.exists() and out.resolve() == path.resolve():
        raise ConfigError("the GGUF file would overwrite its source", "name another file with -o")
    is_blob = path.is_file() and path.open("rb").read(4) == MAGIC
    spec, tensors, vocab = _from_blob(path) if is_blob else _from_checkpoint(model, values)
    gguf_out.write(spec, tensors, vocab, out, kind=kind, name=name)
    size = out.stat().st_size
    if as_json:
        print_json({"path": str(out), "bytes": size, "type": kind})
    else:
        click.echo(f"{out}: {human_bytes(size)}, {kind}, vocabulary {vocab.model} of {len(vocab.tokens)}")
