"""Errors that a user can act on. `cli.py` is the one place that prints them and sets exit codes."""

from __future__ import annotations


class TinyError(Exception):
    """One sentence of what is wrong, and a hint of what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class CheckpointError(TinyError):
    """A checkpoint that can not be read, or that lacks something."""


class ConfigError(TinyError):
    """A config, name map or option that contradicts itself or the tensors."""


class TokenizerError(TinyError):
    """A tokenizer that is missing, broken or of an unknown kind."""


class QuantError(TinyError):
    """Weights that can not be held by the chosen type."""


class BlobError(TinyError):
    """A .tlm file that is damaged, or newer than this program."""


class GrammarError(TinyError):
    """A grammar or JSON schema that can not be compiled."""


class RuntimeFault(TinyError):
    """An error that the C runtime reported."""
