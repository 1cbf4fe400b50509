"""What every loader returns, and the conversions that they share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError


@dataclass
class RawCheckpoint:
    """A checkpoint as it was found: tensors under their own names, nothing interpreted yet.

    Floats are float32 (float16 and bfloat16 convert exactly), integers and booleans stay as they
    are. `stored` remembers the type a tensor had in its file.
    """

    format: str  # "safetensors", "pt", "gguf", "llama2c"
    tensors: dict[str, np.ndarray]
    stored: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    generation_config: dict[str, Any] = field(default_factory=dict)
    tokenizer_files: dict[str, Path] = field(default_factory=dict)  # tokenizer_json, _model, _bin, _config
    gguf_tokenizer: dict[str, Any] | None = None
    left_out: list[str] = field(default_factory=list)  # one line each: name and reason
    sources: dict[str, str] = field(default_factory=dict)  # file name -> sha256
    tags: list[str] = field(default_factory=list)  # of the model card beside the weights, lower case
    folder: Path = field(default_factory=Path)

    def add(self, name: str, array: np.ndarray, stored: str) -> None:
        """Take one tensor in; CheckpointError when the name is already there."""
        if name in self.tensors:
            raise CheckpointError(f"the checkpoint holds the tensor {name} twice", "remove one of them and save again")
        self.tensors[name] = as_float32(array)
        self.stored[name] = stored


def as_float32(array: np.ndarray) -> np.ndarray:
    """Floats as float32, anything else unchanged."""
    if array.dtype.kind == "f" and array.dtype != np.float32:
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    return array


def bfloat16_bits(bits: np.ndarray) -> np.ndarray:
    """float32 values of bfloat16 bit patterns (uint16), exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
