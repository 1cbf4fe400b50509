"""What the host program once did wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tinychat.conversation import Conversation


def test_save_stores_settings_only() -> None:
    """/save in the console also handed on the progress callback and failed."""
    stored: dict[str, Any] = {}
    device = SimpleNamespace(info=lambda: SimpleNamespace(story=False), set=stored.update)
    options = {"seed": 7, "temperature": 0.5, "on_progress": print}
    Conversation(device, options).save()
    assert stored == {"temperature": 0.5}
