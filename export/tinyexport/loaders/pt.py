"""PyTorch files (.pt, .pth, .bin): read with `weights_only`, so that nothing in them is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from .raw import RawCheckpoint, bfloat16_bits

# Where training scripts put the state dict and the settings, in order of preference.
_STATE_KEYS = ("model", "state_dict", "model_state_dict", "model_state", "weights", "params", "net", "module")
_CONFIG_KEYS = ("config", "model_config", "model_args", "hparams", "args", "cfg", "hyper_parameters")
_MAX_NESTING = 4
_CONFIG_DEPTH = 3


def read_pt(path: Path, raw: RawCheckpoint) -> None:
    """Add the tensors of a .pt file to `raw`, and its settings to `raw.config`.

    CheckpointError when torch is missing, the file is damaged, or it holds more than plain
    tensors, numbers, strings and containers of them.
    """
    top = _load(path)
    state = _state_dict(top, path, raw)
    size = path.stat().st_size
    for name, value in state.items():
        array, kind = _to_numpy(name, value, size, path)
        raw.add(_unwrap(name, state), array, kind)


def _load(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise CheckpointError(
            f"{path.name} is a PyTorch file and torch is not installed",
            "pip install tinyexport[torch], or save the model as safetensors",
        ) from None
    import pickle
    import zipfile

    try:
        mapped = zipfile.is_zipfile(path)  # the older format can not be mapped
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path.name} holds more than tensors; it was not unpickled, because that could run code",
            "save the weights alone where you trust the file: torch.save(model.state_dict(), 'weights.pt')",
        ) from None
    except Exception as error:  # torch raises whatever a damaged archive provokes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path.name} can not be read as a PyTorch file ({reason[:120]})", "copy or download it again"
        ) from None


def _state_dict(top: Any, path: Path, raw: RawCheckpoint) -> Mapping[str, Any]:
    """Descend to the mapping that holds the tensors, picking up settings on the way."""
    import torch

    for _ in range(_MAX_NESTING):
        if not isinstance(top, Mapping):
            break
        for key in _CONFIG_KEYS:
            if isinstance(top.get(key), Mapping) and not _has_tensors(top[key]):
                raw.config.update(_plain(top[key], _CONFIG_DEPTH))
        tensors = {str(k): v for k, v in top.items() if isinstance(v, torch.Tensor)}
        inner = [key for key in _STATE_KEYS if isinstance(top.get(key), Mapping) and _has_tensors(top[key])]
        if not inner:
            if tensors:
                raw.left_out += [f"{key}: {type(top[key]).__name__}, not a tensor" for key in top if key not in tensors]
                return tensors
            break
        raw.left_out += [f"{key}: not part of the model" for key in top if key != inner[0] and key not in _CONFIG_KEYS]
        top = top[inner[0]]
    raise CheckpointError(
        f"{path.name} holds no state dict of tensors",
        "save it with torch.save(model.state_dict(), 'weights.pt'); 'model' or 'state_dict' around it is fine",
    )


def _plain(value: Any, depth: int) -> Any:
    """Settings as JSON has them; what is nested deeper, or of another type, becomes its type's name.

    A hostile file can nest one mapping in itself many times over: the depth bounds what is copied.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth and isinstance(value, Mapping):
        return {str(k): _plain(v, depth - 1) for k, v in value.items()}
    if depth and isinstance(value, (list, tuple)):
        return [_plain(v, depth - 1) for v in value]
    return type(value).__name__


def _has_tensors(top: Any) -> bool:
    """Whether a tensor lies in nested mappings; each mapping is looked at once, however often it is referred to."""
    import torch

    seen: set[int] = set()
    waiting = [top]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            return True
        if isinstance(value, Mapping) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values()
    return False


def _unwrap(name: str, state: Mapping[str, Any]) -> str:
    """Drop what torch.compile and data-parallel wrappers put before or into a name."""
    name = name.replace("_orig_mod.", "")
    if all(key.replace("_orig_mod.", "").startswith("module.") for key in state):
        name = name.removeprefix("module.")
    return name


def _to_numpy(name: str, tensor: Any, file_bytes: int, path: Path) -> tuple[np.ndarray, str]:
    """A dense copy of the tensor and the name of its type.

    A hostile file may describe a huge tensor over one stored element (stride 0): a tensor that is
    larger than its file is refused before anything is allocated.
    """
    import torch

    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        raise CheckpointError(f"{path.name}: tensor {name} is not a plain dense tensor", "save dense float tensors")
    if tensor.numel() * tensor.element_size() > file_bytes:
        raise CheckpointError(
            f"{path.name}: tensor {name} claims more elements than the file holds", "the file is damaged or hostile"
        )
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return bfloat16_bits(tensor.view(torch.int16).numpy().view(np.uint16)), kind
    try:
        return np.array(tensor.numpy()), kind
    except (TypeError, RuntimeError):
        raise CheckpointError(
            f"{path.name}: tensor {name} has type {kind}, which is not supported", "save the weights as float32"
        ) from None
