"""A second opinion on replies that the device itself was not sure of.

The device reports the mean and the minimum of its tokens' log-probabilities with every reply. A `Rule` says when these
are too low; an `Escalation` then asks a bigger model over an OpenAI-compatible endpoint. It is off unless somebody
names an endpoint, and whatever goes wrong there leaves the device's own reply standing.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .errors import ChatError
from .reply import ReplyStats

KEY_VARIABLE = "TINYCHAT_API_KEY"
TIMEOUT_S = 60.0
MAX_ANSWER = 1 << 20  # bytes
DEFAULT_MEAN = -1.5  # nats a token, for a model that does not say what suits it
UNFINISHED = ("stopped", "taken", "error")


@dataclass(frozen=True)
class Rule:
    """Limits in nats (natural logarithm), over the sampler's candidates; a reply below either of them is unsure."""

    mean: float = DEFAULT_MEAN
    minimum: float = -math.inf

    @classmethod
    def parse(cls, text: str) -> Rule:
        """From `MEAN` or `MEAN,MINIMUM`. Raises `ChatError` for anything but numbers of at most 0."""
        try:
            limits = [float(part) for part in text.split(",")]
        except ValueError:
            limits = []
        if not 1 <= len(limits) <= 2 or not all(limit <= 0 for limit in limits):
            raise ChatError(
                f"threshold can not be '{text}'.", "log-probabilities, at most 0: MEAN or MEAN,MINIMUM, such as -1.5,-6"
            )
        return cls(*limits)

    @classmethod
    def of_model(cls, text: str) -> Rule:
        """What the device says of its model (`info_is.confidence`), or the default. Raises `ChatError` for nonsense."""
        try:
            return cls.parse(text) if text else cls()
        except ChatError as err:
            raise ChatError(
                f"The model's own confidence {err.message}", "--threshold MEAN[,MIN] takes its place for this chat"
            ) from None

    def doubt(self, stats: ReplyStats | None) -> str:
        """Why a reply is unsure, in words; "" when it is sure, or was not ended by the model itself."""
        if stats is None or stats.stop_reason in UNFINISHED:
            return ""
        if stats.tokens == 0:
            return "it said nothing"
        if not stats.logprob_mean >= self.mean:
            return f"mean log-probability {stats.logprob_mean:.2f}, below {self.mean:g}"
        if not stats.logprob_min >= self.minimum:
            return f"lowest log-probability {stats.logprob_min:.2f}, below {self.minimum:g}"
        return ""


@dataclass(frozen=True)
class Opinion:
    """What became of a turn that was escalated.

    Attributes:
        why: the device's doubt, in words.
        model: who was asked.
        text: the answer, or "" when there is none.
        error: why there is none, in words.
    """

    why: str
    model: str
    text: str = ""
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Value of `escalated` in a `--json` reply line."""
        return {"why": self.why, "model": self.model, "error": self.error or None}


class Escalation:
    """An endpoint and the conversation as it was shown.

    Args:
        url: base of an OpenAI-compatible interface, such as http://127.0.0.1:8080/v1, or its chat/completions.
        model: name of the model there.
        rule: when a reply is handed on; the model's own (`Rule.of_model`) when left out.
        timeout: seconds without a byte after which the endpoint is given up.

    Raises:
        ChatError: `url` is no http(s) address.
    """

    def __init__(self, url: str, model: str, rule: Rule | None = None, timeout: float = TIMEOUT_S) -> None:
        self.url, self.model, self.rule, self.timeout = _endpoint(url), model, rule, timeout
        self._messages: list[dict[str, str]] = []

    def forget(self) -> None:
        """A new conversation begins."""
        self._messages.clear()

    def review(self, prompt: str, text: str, stats: ReplyStats | None) -> Opinion | None:
        """The bigger model's answer when the device's reply `text` to `prompt` is unsure; else None. Never raises."""
        asked = {"role": "user", "content": _whole(prompt)}
        why, opinion = (self.rule or Rule()).doubt(stats), None
        if why:
            opinion = self._ask(why, [*self._messages, asked])
        answer = opinion.text if opinion and opinion.text else text
        self._messages += [asked, {"role": "assistant", "content": answer}]
        return opinion

    def _ask(self, why: str, messages: list[dict[str, str]]) -> Opinion:
        try:
            return Opinion(why, self.model, text=_content(self._post({"model": self.model, "messages": messages})))
        except ChatError as err:
            return Opinion(why, self.model, error=err.message)
        except KeyboardInterrupt:
            return Opinion(why, self.model, error="It was not waited for.")

    def _post(self, body: dict[str, Any]) -> bytes:
        from http.client import HTTPException
        from urllib import error, request

        class NoRedirect(request.HTTPRedirectHandler):
            """The key goes to the named endpoint only."""

            def redirect_request(self, *args: Any) -> None:
                return None

        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "tinychat"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        try:
            asked = request.Request(self.url, json.dumps(body).encode(), headers, method="POST")
            with request.build_opener(NoRedirect).open(asked, timeout=self.timeout) as answer:
                data: bytes = answer.read(MAX_ANSWER + 1)
        except error.HTTPError as err:
            err.close()
            hint = f" (is ${KEY_VARIABLE} right?)" if err.code in (401, 403) else ""
            raise ChatError(f"{self.url} answers with HTTP {err.code}{hint}.") from None
        except (OSError, HTTPException, ValueError) as err:
            reason = getattr(err, "reason", None) or err
            raise ChatError(f"{self.url} can not be reached: {reason}.") from None
        if len(data) > MAX_ANSWER:
            raise ChatError(f"{self.url} answers with more than {MAX_ANSWER} bytes.")
        return data


def _endpoint(url: str) -> str:
    """The address of chat completions below a base URL."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ChatError(f"'{url}' is not the address of an endpoint.", "such as http://127.0.0.1:8080/v1")
    url = url.rstrip("/")
    return url if url.endswith("/chat/completions") else url + "/chat/completions"


def _whole(text: str) -> str:
    """Text as JSON takes it: bytes that were no UTF-8 are replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _content(data: bytes) -> str:
    """The answer's text. Raises `ChatError` when there is none."""
    try:
        text = json.loads(data)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str) or not text.strip():
        raise ChatError("The endpoint's answer holds no reply.")
    return text.strip()
