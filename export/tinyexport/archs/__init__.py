"""Architectures: a RawCheckpoint becomes a spec.Checkpoint in canonical form.

One file an architecture. `identify` recognises names, chooses the architecture, reads sizes off
the tensors, and records where every fact came from that the tensors do not hold.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from ..errors import CheckpointError, ConfigError, TinyError
from ..loaders.raw import RawCheckpoint
from ..spec import Checkpoint, Fact
from . import bitnet, gpt2, gpt_neo, llama, rms_gpt
from .base import Arch, assemble, sizes
from .collect import Parts, collect, complain, missing_parts
from .name_map import mapped_parts, read_name_map
from .names import Recognised, recognise
from .probe import undecided
from .settings import ArchOptions, Settings

__all__ = ["ARCHS", "ArchOptions", "identify", "report", "undecided"]

# In the order in which checkpoints without a model_type are tried.
ARCHS: dict[str, Arch] = {
    arch.name: arch for arch in (bitnet.BITNET, bitnet.BITLM, gpt_neo.ARCH, gpt2.ARCH, rms_gpt.ARCH, llama.ARCH)
}


def identify(raw: RawCheckpoint, options: ArchOptions | None = None) -> Checkpoint:
    """The model that `raw` holds; CheckpointError or ConfigError when it is not one that is known."""
    settings = Settings(raw.config, options or ArchOptions())
    parts = _parts(raw, _recognise(raw, settings), settings)
    arch = _choose(parts, settings, raw.tags)
    complain(missing_parts(parts, arch.requires), parts.unknown)
    parts.trim_vocab(settings)
    size = sizes(parts, settings)
    return assemble(arch, raw, parts, size, arch.decide(parts, size, settings), settings)


def report(raw: RawCheckpoint, options: ArchOptions | None = None) -> dict[str, Any]:
    """What `inspect` prints of a checkpoint: tensors, the guess, what is missing and left over."""
    settings = Settings(raw.config, options or ArchOptions())
    out: dict[str, Any] = {
        "format": raw.format,
        "tensors": [
            {"name": name, "shape": list(t.shape), "dtype": raw.stored.get(name, str(t.dtype))}
            for name, t in raw.tensors.items()
        ],
        "parameters": sum(t.size for t in raw.tensors.values() if t.dtype.kind == "f"),
        "config": raw.config,
    }
    try:
        parts = _parts(raw, _recognise(raw, settings), settings)
        out["names"] = {parts.names[name]: name for name in parts.names}
        out["left_over"] = parts.unknown
        arch = _choose(parts, settings, raw.tags)
        out["arch"] = arch.name
        out["missing"] = [
            name + (f" (perhaps {', '.join(alike)})" if alike else "")
            for name, alike in missing_parts(parts, arch.requires)
        ]
        checkpoint = identify(raw, options)
        out["facts"] = {k: {"value": f.value, "origin": f.origin, "note": f.note} for k, f in checkpoint.facts.items()}
        out["left_out"] = checkpoint.left_out
        out["parameters"] = sum(t.size for t in checkpoint.tensors.values())
        out["ternary"] = len(checkpoint.ternary)
    except TinyError as error:
        out["error"], out["hint"] = error.message, error.hint
    return out


def _recognise(raw: RawCheckpoint, settings: Settings) -> Recognised:
    if settings.options.names is None:
        return recognise(raw.tensors)
    return recognise(raw.tensors, mapped_parts(read_name_map(settings.options.names), raw.tensors))


def _parts(raw: RawCheckpoint, found: Recognised, settings: Settings) -> Parts:
    quantisation = settings.section("quantization_config")
    # transformers' BitLinear divides by weight_scale, its AutoBitLinear multiplies.
    divide = quantisation.get("linear_class", "bitlinear") == "bitlinear" and bool(quantisation)
    return collect(raw, found, transpose=_is_conv1d(raw, found, settings), divide_scale=divide)


def _is_conv1d(raw: RawCheckpoint, found: Recognised, settings: Settings) -> bool:
    """Whether linear weights are stored [in, out]: the fused qkv of GPT-2 is [d, 3d] then."""
    fused = found.parts.get((0, "wqkv"))
    if fused is None:
        return settings.model_type == "gpt2"
    shape = raw.tensors[fused].shape
    return len(shape) == 2 and shape[1] == 3 * shape[0]


def _choose(parts: Parts, settings: Settings, tags: Iterable[str]) -> Arch:
    """The architecture that is given, named by the config, or told by the tensors."""
    given = settings.options.arch or settings.model_type or settings.config.get("arch")
    if given is not None:
        for arch in ARCHS.values():
            if given == arch.name or given in arch.model_types:
                return arch
        return _private(str(given), parts, settings, tags)
    if "tok_embed" not in parts.tensors or parts.n_layers == 0:
        complain(missing_parts(parts, frozenset()), parts.unknown)
    return _by_tensors(parts, settings, tags)


def _private(name: str, parts: Parts, settings: Settings, tags: Iterable[str]) -> Arch:
    """A model_type of a model that brings its own code (`auto_map`) is guessed aloud; any other is refused."""
    close = difflib.get_close_matches(name, ARCHS, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    if settings.options.arch is not None or not settings.config.get("auto_map"):
        raise ConfigError(
            f"the architecture {name!r} is not known", f"{hint}known: {', '.join(ARCHS)}; force one with --arch"
        )
    arch = _by_tensors(parts, settings, tags)
    note = f"{name} brings its own code, which is not run; its tensors are those of {arch.name}"
    settings.facts["arch"] = Fact(arch.name, "assumed", note)
    return arch


def _by_tensors(parts: Parts, settings: Settings, tags: Iterable[str]) -> Arch:
    if settings.options.ternary or bitnet.says_bitlinear(settings.config):
        return bitnet.BITLM
    for arch in ARCHS.values():
        if arch.fits(parts):
            undecided_ternary = arch is llama.ARCH and settings.options.ternary is None
            return bitnet.BITLM if undecided_ternary and bitnet.is_latent(parts, settings, tags) else arch
    raise CheckpointError("the tensors fit no known architecture", f"name one with --arch: {', '.join(ARCHS)}")
