"""The firmware's app on the simulated board: settings kept over power off, and a person at a plain terminal."""

from __future__ import annotations

import pytest
from models import talker
from rawhost import GENERATE, RawHost
from simlib import MISUSED, Sim, typed
from test_boards_app import BAD_VALUES

from tinychat.errors import ChatError
from tinychat.protocol import Error, GenerateFlag, SettingsField
from tinychat.settings import FLOATS, RANGES, checked
from tinychat.wire import encode


@pytest.fixture
def talk() -> RawHost:
    return RawHost(Sim(talker()))


# ---- settings --------------------------------------------------------------------------------------


SETTINGS = {
    "temperature": 0.25,
    "top_k": 7,
    "top_p": 0.5,
    "min_p": 0.125,
    "repeat_penalty": 1.5,
    "repeat_window": 32,
    "max_tokens": 11,
    "mode": 0,
    "kv_type": 3,
    "context": 64,
    "brightness": 40,
    "echo": 0,
}


def test_settings_survive_power_off_in_a_log_that_wears_evenly() -> None:
    sim = Sim(talker(), flash=1 << 20)
    host = RawHost(sim)
    host.upload(talker())
    for i in range(300):  # past both sectors of 64 records, twice
        answer = host.one(
            "settings_set", mask=SettingsField.TOP_K | SettingsField.BRIGHTNESS, **SETTINGS | {"top_k": i % 257}
        )
        assert answer.stored == 1
        if i % 50 == 49:
            sim.boot()
            host = RawHost(sim)
            assert host.one("settings_get").top_k == i % 257
    whole = host.one("settings_set", mask=0xFFF, **SETTINGS)
    assert {k: whole.values[k] for k in SETTINGS} == SETTINGS
    sim.boot()
    host = RawHost(sim)
    info = host.one("info")
    assert (info.context, info.kv_type) == (64, 3)
    assert host.generate("hello", flags=GenerateFlag.DEFAULTS)[2].tokens <= 11
    forgotten = host.one("settings_forget", mask=SettingsField.TOP_K | SettingsField.CONTEXT)
    assert (forgotten.top_k, forgotten.context) == (40, 0)
    assert host.one("info").context == 128
    assert not sim.state(MISUSED)


def test_bad_settings_change_nothing(talk: RawHost) -> None:
    before = talk.one("settings_get").values
    for values in BAD_VALUES:
        assert talk.one("settings_set", mask=0xFFF, **SETTINGS | values).code == Error.BAD_MESSAGE
    assert talk.one("settings_get").values == before


@pytest.mark.parametrize("name", RANGES)
def test_tinychat_knows_what_the_device_takes(talk: RawHost, name: str) -> None:
    low, high, _ = RANGES[name]
    step = {"temperature": 1.0, "min_p": 2.0**-23, "top_p": 2.0**-23, "repeat_penalty": 2.0**-16}.get(name, 1)
    for value, taken in ((low, True), (high, True), (low - step, False), (high + step, False)):
        if value >= 0 or name in FLOATS:
            answer = talk.one("settings_set", mask=SettingsField[name.upper()], **SETTINGS | {name: value})
            assert (answer.name == "settings") is taken, (name, value)
        if taken:
            assert checked(name, str(value)) == value
        else:
            with pytest.raises(ChatError, match="can not be"):
                checked(name, str(value))


# ---- a person at a plain terminal -------------------------------------------------------------------


def test_a_typed_line_gets_a_reply() -> None:
    sim = Sim(talker())
    assert "tlm-firmware" in sim.run().decode()
    answer = typed(sim, b"hello thexx\x7f\x7fre\r\n")
    assert answer.startswith("hello thexx\b \b\b \bre\r\n") and "tokens" in answer and answer.endswith("> ")
    assert "new conversation" in typed(sim, b"/new\n")
    assert "ok" in typed(sim, b"/set temp 0\n") and "range" not in typed(sim, b"/set top_k 5\n")
    assert "malformed" in typed(sim, b"/set temp 1000\n") and "NUMBER" in typed(sim, b"/set temp\n")
    one, two = typed(sim, b"hello\n"), typed(sim, b"/new\nhello\n")
    assert one.split("\r\n")[1] == two.split("\r\n> ")[1].split("\r\n")[0], "greedy, yet another reply"
    assert "tinybuddy" in typed(sim, b"/info\n") and "/new" in typed(sim, b"/help\n")
    assert "too long" in typed(sim, b"a" * 600 + b"\n")
    assert "control" in typed(sim, b"up\x1b[A\n")
    assert typed(sim, b"one\ntwo\n").count("tokens") == 2


def test_ctrl_c_stops_a_typed_reply() -> None:
    sim = Sim(talker(max_tokens=100))
    sim.feed(b"hello\n")
    for _ in range(20):
        sim.advance(0.06)
        sim.step()
    sim.feed(b"\x03")
    assert int(sim.run().decode().rpartition("[")[2].split()[0]) < 30


def test_slash_stop_stops_a_reply_and_overtakes_no_line() -> None:
    for lines, whole_replies in ((b"hello\n/stop\n", 0), (b"hello\nhow are you\n/stop\n", 1)):
        sim = Sim(talker(max_tokens=30))
        sim.run()
        sim.feed(lines)
        shown = sim.run().decode()
        assert shown.count("[30 tokens") == whole_replies
        assert shown.count("tokens") == whole_replies + 1
        assert shown.endswith("> ")
    assert typed(sim, b"/stop\n") == "/stop\r\n> "


def test_text_and_frames_share_the_line() -> None:
    sim = Sim(talker())
    host = RawHost(sim)
    host.generate("hello")
    assert "hello" not in host.text.decode(), "the words of a frame were echoed"
    assert typed(sim, b"hello again\r").count("tokens") == 1
    assert host.generate("hello", expect=host.one("info").position)[1]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_the_rest_of_a_broken_frame_is_never_taken_for_a_line(cut: int) -> None:
    sim = Sim(talker())
    whole = encode("generate", 3, 1, **GENERATE | {"text": b"do not say\nthis aloud\nplease\n"})
    sim.run()
    sim.feed(whole[cut:] + b"\0")
    sim.run()
    assert RawHost(sim).one("info").position == 0


def test_a_frame_without_an_end_does_not_deafen() -> None:
    sim = Sim(talker())
    sim.feed(encode("ping", 1, 1, data=b"x")[:-3])
    sim.run()
    sim.step()
    sim.advance(0.6)
    sim.step()
    assert "tokens" in typed(sim, b"hello\n")


def test_a_frame_that_waits_for_a_long_step_is_not_given_up(talk: RawHost) -> None:
    """A UART has few bytes of FIFO: the rest of a frame arrives after the step, however long that took."""
    whole = talk.frame("ping", data=b"\x03" * 40)
    talk.sim.feed(whole[:16])
    talk.sim.step()
    talk.sim.advance(5)
    (pong,) = talk.raw(whole[16:])
    assert pong.data == b"\x03" * 40
