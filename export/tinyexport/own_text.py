"""Text that a model writes itself, for exports that learn from a text when none is at hand.

A story model writes one text after the other, a model with a chat template both sides of its dialogues: hidden states
like those that it has on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .runtime import Model, Sampler, Session

TOKENS = 16384
WINDOW = 256
TURN = 48  # tokens of a turn of a dialogue at most
TEMPERATURE = 0.8

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def write(data: bytes, progress: Progress) -> np.ndarray:
    """Token ids [windows, positions] that the model of a blob samples, the same each time."""
    model = Model(data)
    size = min(WINDOW, model.context)
    session, script = model.session(context=size), Script(model)
    seeds = range(max(1, TOKENS // size))
    return np.array([_window(session, script, size, seed) for seed in progress(seeds, "the model writes a text")])


class Script:
    """What stands in the text whatever the model samples, and where its own words end."""

    def __init__(self, model: Model) -> None:
        self.model, chat = model, model.chat
        bos = [] if model.bos is None else [model.bos]
        start = bos if chat is not None and chat.add_bos else []
        self.turns = chat is not None and chat.user_prefix != ""
        if chat is not None and self.turns:
            user = chat.user_prefix.rstrip(" ")  # pieces begin with their space
            self.first = start + model.encode(user, special=True)
            then = (chat.reply_prefix, chat.turn_end + user)
            self.then = [model.encode(text, special=True, cont=True) for text in then]
        else:
            end = [*model.stop_ids, *bos][:1]
            self.first, self.then = start or end, [[*end, *start]]

    def goes_on(self, part: int, written: int, token: int) -> bool:
        """Whether `token` belongs to part `part`, of which `written` tokens stand: a user says one line."""
        if token in self.model.stop_ids:
            return False
        return not self.turns or (written < TURN and (part % 2 == 1 or b"\n" not in self.model.piece(token)))


def _window(session: Session, script: Script, size: int, seed: int) -> list[int]:
    session.rewind(0)
    sampler = Sampler(temperature=TEMPERATURE, top_k=0, seed=seed)
    ids: list[int] = []
    part, written, fresh = 0, 0, script.first or [0]
    while len(ids) + len(fresh) < size:
        ids += fresh
        session.eval_sample(fresh, sampler)
        token = sampler.sample().id
        if script.goes_on(part, written, token):
            written, fresh = written + 1, [token]
        else:
            part, written, fresh = part + 1, 0, script.then[part % len(script.then)] or [token]
    return (ids + fresh)[:size]
