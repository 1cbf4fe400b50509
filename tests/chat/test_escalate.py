"""Unsure replies are handed to a bigger model: a small server on 127.0.0.1 stands in for it."""

from __future__ import annotations

import json
import math
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_device import reply_pieces
from fake_endpoint import ANSWER, Bigger

from tinychat import ChatError
from tinychat.escalate import MAX_ANSWER, Escalation, Rule

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def device_said(text: str, position: int = 0) -> str:
    return b"".join(reply_pieces(text.encode(), 4242, position)).decode()


UNSURE = ("--model", "big", "--threshold=-0.1")  # the fake device's mean is -0.25, its minimum -0.5


def test_an_unsure_reply_is_handed_on_and_marked(tinychat: Run, blob: Path, bigger: Bigger) -> None:
    result = tinychat("--sim", str(blob), "--escalate", bigger.url, *UNSURE, "two and two?")
    assert (result.returncode, result.stdout) == (0, ANSWER + "\n")
    assert "big answered: mean log-probability -0.25, below -0.1" in result.stderr
    asked = bigger.asked[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {"model": "big", "messages": [{"role": "user", "content": "two and two?"}]}
    assert "Authorization" not in asked.headers


def test_json_has_both_replies(tinychat: Run, blob: Path, bigger: Bigger) -> None:
    row = json.loads(tinychat("--sim", str(blob), "--escalate", bigger.url, *UNSURE, "--json", "hi").stdout)
    assert (row["text"], row["device_text"]) == (ANSWER, device_said("hi"))
    assert row["escalated"]["model"] == "big" and row["escalated"]["error"] is None
    assert (row["logprob_mean"], row["logprob_min"]) == (-0.25, -0.5)


@pytest.mark.parametrize(("threshold", "handed_on"), [("-0.25", 0), ("-0.2", 1), ("-9,-0.5", 0), ("-9,-0.4", 1)])
def test_the_threshold_decides(tinychat: Run, blob: Path, bigger: Bigger, threshold: str, handed_on: int) -> None:
    args = ("--escalate", bigger.url, "--model", "big", f"--threshold={threshold}", "--json", "hi")
    row = json.loads(tinychat("--sim", str(blob), *args).stdout)
    assert len(bigger.asked) == handed_on
    assert ("escalated" in row) == bool(handed_on)


@pytest.mark.parametrize(("own", "handed_on"), [("-0.25", 0), ("-0.2", 1), ("-9,-0.4", 1), ("", 0)])
def test_the_models_own_threshold_decides_where_none_is_given(
    tinychat: Run, blob: Path, bigger: Bigger, own: str, handed_on: int
) -> None:
    args = ("--sim", str(blob), "--escalate", bigger.url, "--model", "big", "--json", "hi")
    row = json.loads(tinychat(*args, fake={"confidence": own}).stdout)
    assert ("escalated" in row) == bool(handed_on)
    given = json.loads(tinychat(*args, "--threshold=-0.1", fake={"confidence": own}).stdout)
    assert "escalated" in given


def test_a_damaged_threshold_of_the_model_is_said(tinychat: Run, blob: Path, bigger: Bigger) -> None:
    args = ("--sim", str(blob), "--escalate", bigger.url, "--model", "big", "hi")
    result = tinychat(*args, fake={"confidence": "often"})
    assert result.returncode == 1 and "The model's own confidence threshold can not be 'often'." in result.stderr
    assert tinychat(*args, "--threshold=-0.1", fake={"confidence": "often"}).returncode == 0


def test_off_by_default(tinychat: Run, blob: Path, bigger: Bigger) -> None:
    row = json.loads(tinychat("--sim", str(blob), "--json", "hi").stdout)
    assert row["text"] == device_said("hi") and "escalated" not in row and not bigger.asked


def test_the_conversation_as_shown_goes_along(tinychat: Run, blob: Path, bigger: Bigger) -> None:
    tinychat("--sim", str(blob), "--escalate", bigger.url, *UNSURE, stdin="one\ntwo\n")
    assert [m["content"] for m in bigger.asked[1].body["messages"]] == ["one", ANSWER, "two"]
    assert [m["role"] for m in bigger.asked[1].body["messages"]] == ["user", "assistant", "user"]


def test_the_key_comes_from_the_environment_and_stays_at_the_endpoint(
    tinychat: Run, blob: Path, bigger: Bigger
) -> None:
    args = ("--sim", str(blob), "--escalate", bigger.url, *UNSURE, "hi")
    tinychat(*args, TINYCHAT_API_KEY="secret")
    assert bigger.asked[0].headers["Authorization"] == "Bearer secret"
    bigger.status, bigger.headers = 302, {"Location": bigger.url + "/elsewhere"}
    result = tinychat(*args, TINYCHAT_API_KEY="secret")
    assert len(bigger.asked) == 2, "a redirection is not followed"
    assert result.stdout == device_said("hi").lstrip() + "\n"
    assert "HTTP 302" in result.stderr and "secret" not in result.stderr


def test_an_unreachable_endpoint_leaves_the_devices_reply(tinychat: Run, blob: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    args = ("--sim", str(blob), "--escalate", url, *UNSURE)
    result = tinychat(*args, "hi", NO_PROXY="127.0.0.1")
    assert (result.returncode, result.stdout) == (0, device_said("hi").lstrip() + "\n")
    assert "nobody else could be asked" in result.stderr and "can not be reached" in result.stderr
    row = json.loads(tinychat(*args, "--json", "hi", NO_PROXY="127.0.0.1").stdout)
    assert row["text"] == device_said("hi") and "can not be reached" in row["escalated"]["error"]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"{}", "HTTP 401 (is $TINYCHAT_API_KEY right?)"),
        (500, b"oops", "HTTP 500"),
        (200, b"<html>", "holds no reply"),
        (200, b'{"choices": []}', "holds no reply"),
        (200, b'{"choices": [{"message": {"content": null}}]}', "holds no reply"),
        (200, b"[" * 100_000, "holds no reply"),
        (200, b" " * (MAX_ANSWER + 1), "more than"),
    ],
)
def test_bad_answers_leave_the_devices_reply(bigger: Bigger, status: int, body: bytes, words: str) -> None:
    bigger.status, bigger.body = status, body
    stats: Any = SimpleNamespace(stop_reason="stop_id", tokens=3, logprob_mean=-5.0, logprob_min=-9.0)
    opinion = Escalation(bigger.url, "big").review("hi", "own words", stats)
    assert opinion is not None and opinion.text == "" and words in opinion.error


def test_a_silent_endpoint_is_given_up() -> None:
    stats: Any = SimpleNamespace(stop_reason="stop_id", tokens=3, logprob_mean=-5.0, logprob_min=-9.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        opinion = Escalation(url, "big", timeout=0.2).review("hi", "own words", stats)
    assert opinion is not None and "timed out" in opinion.error


@pytest.mark.parametrize(
    ("reason", "tokens", "mean", "unsure"),
    [
        ("stop_id", 3, -0.1, False),
        ("stop_id", 3, -2.0, True),
        ("stop_id", 3, math.nan, True),
        ("stop_id", 0, 0.0, True),
        ("stopped", 3, -2.0, False),
        ("error", 0, 0.0, False),
    ],
)
def test_what_counts_as_unsure(reason: str, tokens: int, mean: float, unsure: bool) -> None:
    stats: Any = SimpleNamespace(stop_reason=reason, tokens=tokens, logprob_mean=mean, logprob_min=mean)
    assert bool(Rule().doubt(stats)) == unsure


def test_wrong_options(tinychat: Run, blob: Path) -> None:
    base = ("--sim", str(blob), "hi")
    for args in (["--model", "big"], ["--threshold=-1"], ["--escalate", "http://127.0.0.1:1"]):
        result = tinychat(*base, *args)
        assert (result.returncode, result.stdout) == (2, ""), args
    for args, words in (
        (["--escalate", "ftp://x", "--model", "big"], "not the address of an endpoint"),
        (["--escalate", "http://x:99999999", "--model", "big"], "not the address of an endpoint"),
        (["--escalate", "http://x", "--model", "big", "--threshold=1"], "threshold can not be '1'"),
        (["--escalate", "http://x", "--model", "big", "--threshold=nan"], "threshold can not be 'nan'"),
        (["--escalate", "http://x", "--model", "big", "--raw"], "--escalate is for chat models"),
    ):
        result = tinychat(*base, *args)
        assert result.returncode == 1 and words in result.stderr, args
    with pytest.raises(ChatError):
        Escalation("http://[::1", "big")
