"""Repo ids such as TheREZOR/TinyTalk, fetched through huggingface_hub when that extra is installed."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import CheckpointError

_REPO_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_WANTED = [
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "tokenizer*",
    "*.model",
    "*.bin",
    "*.pt",
    "*.gguf",
    "README.md",
]


def is_repo_id(path: str) -> bool:
    """Whether `path` has the form owner/name."""
    return bool(_REPO_ID.match(path))


def fetch(repo_id: str) -> Path:
    """Folder of the downloaded repository; CheckpointError when it can not be had."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CheckpointError(
            f"there is no file {repo_id}, and fetching it as a repository needs huggingface_hub",
            "check the path, or pip install tinyexport[hub]",
        ) from None
    try:
        return Path(snapshot_download(repo_id, allow_patterns=_WANTED))
    except Exception as error:  # the library raises its own and its HTTP client's errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"there is no file {repo_id}, and it can not be fetched as a repository ({reason[:160]})",
            "check the path or the repository's name, and the network",
        ) from None
