"""Turns of a conversation, whatever shows them: console, pipe or JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .device import ConversationLostError, Device
from .errors import ChatError
from .escalate import Escalation, Rule
from .reply import Reply, Token
from .settings import checked, setting_names

#: What a person types -> name of the sampling option.
KEYS = {
    "temp": "temperature",
    "temperature": "temperature",
    "top-k": "top_k",
    "top-p": "top_p",
    "min-p": "min_p",
    "repeat-penalty": "repeat_penalty",
    "repeat-window": "repeat_window",
    "n": "max_tokens",
    "max-tokens": "max_tokens",
    "seed": "seed",
}
#: Likewise for what only the device can change; these are stored there.
DEVICE_KEYS = {"kv": "kv_type", "context": "context", "brightness": "brightness"}
ENDED = ("stop_id", "stop_string")


class Conversation:
    """A device, the sampling options of this chat, and what kind of model it is.

    Args:
        device: a connected device.
        options: sampling options over the device's settings.
        raw: every text is a prompt of its own, without template.
        notice: gets a sentence for the person, such as that the conversation was lost.
        escalation: who is asked when the device is unsure of a reply; nobody by default.
        grammar: automaton that every reply follows.

    Raises:
        ChatError: `escalation` with a model that tells stories instead of answering, or whose own threshold is damaged.
    """

    def __init__(
        self,
        device: Device,
        options: dict[str, Any],
        raw: bool = False,
        notice: Callable[[str], None] | None = None,
        escalation: Escalation | None = None,
        grammar: bytes = b"",
    ) -> None:
        self.device = device
        self.options = options
        self.notice = notice or (lambda text: None)
        self.info = device.info()
        self.replies: list[Reply] = []
        self.escalation = escalation
        self.grammar = grammar
        self._raw = raw
        self._told = ""  # what a story model was given last
        if escalation and self.story:
            raise ChatError(
                "A model that continues texts has no replies to hand on.",
                "--escalate is for chat models, without --raw",
            )
        if escalation and escalation.rule is None:
            escalation.rule = Rule.of_model(self.info.confidence)

    @property
    def story(self) -> bool:
        """True when the model continues a text instead of answering."""
        return bool(self.info.chat_kind == "story") or self._raw

    def new(self) -> None:
        """Forgets the conversation, here and on the device."""
        self.device.reset()
        self.replies.clear()
        if self.escalation:
            self.escalation.forget()

    def start(self, text: str) -> Reply:
        """Sends a turn. A story model gets each text as the beginning of a new story, and "" to tell on."""
        options = {**self.options, "grammar": self.grammar}
        if not self.story:
            return self.device.chat(text, **options)
        self._told = text or self._so_far()
        return self.device.generate(self._told, **options)

    def _so_far(self) -> str:
        """The story that "" continues: its beginning and all that was told. Raises `ChatError` when it is over."""
        last = self.replies[-1].stats if self.replies else None
        if last is None:
            raise ChatError("There is no story to continue.", "type how one begins")
        if last.stop_reason in ENDED:
            raise ChatError("The story has come to its end.", "type how a new one begins")
        if last.stop_reason == "context":
            raise ChatError("The context is full: this story can not go on.", "type how a new one begins")
        return self._told + self.replies[-1].text

    def turn(self, text: str, show: Callable[[Token], None], started: Callable[[Reply], None] | None = None) -> Reply:
        """Runs a turn to its end.

        Args:
            text: the person's words.
            show: gets each token as it arrives.
            started: gets the reply before its first token, to be able to stop it.
        """
        try:
            reply = self._run(text, show, started)
        except ConversationLostError as err:
            self.notice(f"{err.message} The conversation before this line is gone.")
            self.new()
            reply = self._run(text, show, started)
        self.replies.append(reply)
        return self.reviewed(text, reply)

    def reviewed(self, text: str, reply: Reply) -> Reply:
        """The reply, with a second opinion where the device was unsure and somebody is there to be asked.

        The device's context keeps its own words.
        """
        if self.escalation:
            reply.opinion = self.escalation.review(text, reply.text, reply.stats)
            if reply.opinion and reply.opinion.error:
                self.notice(f"The device is unsure, but nobody else could be asked: {reply.opinion.error}")
        return reply

    def _run(self, text: str, show: Callable[[Token], None], started: Callable[[Reply], None] | None) -> Reply:
        reply = self.start(text)
        if started:
            started(reply)
        for token in reply:
            show(token)
        return reply

    def set(self, key: str, value: str) -> str:
        """`/set KEY VALUE`. Returns what now holds, as a sentence. Raises `ChatError` for what can not be."""
        key = key.lower().replace("_", "-")
        if key in DEVICE_KEYS:
            name = DEVICE_KEYS[key]
            value = "0" if name == "context" and value == "auto" else value
            stored = self.device.set(**{name: value})["stored"]
            self.info = self.device.info()
            now = f"{self.info.context} tokens of context, KV {self.info.kv_type}"
            return f"{key} is {value}, {'stored on the device' if stored else 'until power off'}: {now}."
        if key == "threshold" and self.escalation:
            self.escalation.rule = Rule.parse(value)
            return f"threshold is {value} for this chat."
        if key not in KEYS:
            raise ChatError(f"There is no setting '{key}'.", "known: " + ", ".join([*KEYS, *DEVICE_KEYS]))
        name = KEYS[key]
        if value == "auto":
            self.options.pop(name, None)
            return f"{key} is the device's own again."
        self.options[name] = _seed(value) if name == "seed" else checked(name, value)
        return f"{key} is {self.options[name]} for this chat."

    def settings(self) -> dict[str, Any]:
        """What holds for the next reply: the device's settings with this chat's options over them."""
        held = {k: v for k, v in self.device.settings.items() if k not in ("echo", "mode", "stored")}
        return {**held, "seed": "random", **self.options}

    def save(self) -> None:
        """Stores this chat's sampling options on the device."""
        self.device.set(**{k: v for k, v in self.options.items() if k in setting_names()})


def _seed(value: str) -> int:
    try:
        seed = int(value, 0)
    except ValueError:
        raise ChatError(f"seed can not be '{value}'.", "it is a whole number") from None
    if not 0 <= seed < 2**64:
        raise ChatError(f"seed can not be {value}.", "from 0 to 18446744073709551615")
    return seed
