"""Fixtures that every test folder shares."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


# The background job of a script ignores Ctrl-C, and so do its children, which the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real checkpoints and texts beside the repository; its tests are skipped without it."""
    if not (SHARED / "DATA.md").is_file():
        pytest.skip("../shared is not here: a user has only the repository")
    return SHARED
