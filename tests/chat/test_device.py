"""The Python API on a device that behaves, and on one that says no."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_device import FakeClock, FakeDevice, FakeLink, Faults, make_blob, reply_pieces

from tinychat import ChatError, Device
from tinychat.device import ConversationLostError
from tinychat.errors import (
    BlobFileError,
    DeviceError,
    LinkLostError,
    LinkTimeoutError,
    NoModelError,
    VersionError,
    WrongFirmwareError,
)
from tinychat.protocol import Error, ModelState
from tinychat.settings import shortest

Connect = Callable[..., tuple[Device, FakeDevice, FakeLink]]


def expected(text: str, seed: int, position: int) -> str:
    return b"".join(reply_pieces(text.encode(), seed, position)).decode()


def test_a_reply_streams_as_tokens_and_ends_with_figures(connect: Connect) -> None:
    device, _, _ = connect()
    reply = device.chat("hello there", seed=3)
    tokens = list(reply)
    assert "".join(t.text for t in tokens) == reply.text == expected("hello there", 3, 0)
    assert [t.index for t in tokens] == list(range(len(tokens)))
    assert all(t.logprob == -0.25 and t.over_candidates for t in tokens)
    assert reply.stats is not None
    assert reply.stats.stop_reason == "stop_id"
    assert reply.stats.seed == 3
    assert reply.stats.decode_tok_s == pytest.approx(len(tokens) - 1)
    assert reply.stats.prefill_tok_s == pytest.approx(4 / 0.02)
    assert reply.as_dict()["tokens"] == len(tokens)


def test_the_second_turn_goes_on_where_the_first_ended(connect: Connect) -> None:
    device, fake, _ = connect()
    device.chat("one", seed=1).wait()
    position = fake.position
    assert device.position == position > 0
    assert device.chat("two", seed=1).wait().text == expected("two", 1, position)
    device.reset()
    assert fake.position == device.position == 0


def test_generate_ignores_the_conversation(connect: Connect) -> None:
    device, _, _ = connect()
    device.chat("one", seed=1).wait()
    assert device.generate("Once", seed=9).wait().text == expected("Once", 9, 0)


def test_stop_ends_the_reply_and_the_device_goes_on(connect: Connect) -> None:
    device, _, _ = connect(endless=True)
    reply = device.chat("tell me", max_tokens=1000)
    for token in reply:
        if token.index == 4:
            device.stop()
    assert reply.stats is not None
    assert reply.stats.stop_reason == "stopped"
    assert 5 <= len(reply.tokens) < 30
    assert device.chat("again", max_tokens=3).wait().stats.stop_reason == "length"  # type: ignore[union-attr]


def test_a_reply_left_half_read_does_not_block_the_next(connect: Connect) -> None:
    device, _, _ = connect(endless=True)
    next(iter(device.chat("tell me", max_tokens=1000)))
    reply = device.chat("next", max_tokens=5).wait()
    assert len(reply.tokens) == 5


def test_sampling_options_lie_over_the_devices_settings(connect: Connect) -> None:
    device, fake, _ = connect()
    device.set(max_tokens=4, temperature=0.25)
    assert len(device.chat("x", seed=1).wait().tokens) <= 4
    assert len(device.chat("x", seed=1, max_tokens=2).wait().tokens) == 2
    assert fake.settings["temperature"] == 0.25
    with pytest.raises(ChatError, match="not a sampling option"):
        device.chat("x", temprature=1)
    with pytest.raises(ChatError, match="temperature can not be -1"):
        device.chat("x", temperature=-1)


def test_settings_are_words_and_survive_a_restart(connect: Connect) -> None:
    device, _, _ = connect()
    assert device.settings["temperature"] == 0.7
    assert device.settings["kv_type"] == "auto"
    assert device.set(kv_type="i4", context=100)["kv_type"] == "i4"
    assert device.set(kv_type="i8/16")["kv_type"] == "i8/16" and device.set(kv_type="i4/1")["kv_type"] == "i4"
    device.reboot()
    assert device.settings["context"] == 100
    with pytest.raises(ChatError, match="not a setting"):
        device.set(colour=1)
    for bad in ("q7", "i4/0", "i4/-1", "i4/x", "f32/2", "i4/64", "i8/65"):
        with pytest.raises(ChatError, match=f"kv_type can not be '{bad}'") as caught:
            device.set(kv_type=bad)
        assert caught.value.hint


@pytest.mark.parametrize("value", [0.7, 0.1, 1.0, 0.0, 1e-7, 3.4e38, 0.30000001])
def test_a_float32_is_shown_with_the_digits_that_a_person_typed(value: float) -> None:
    import struct

    stored = struct.unpack("<f", struct.pack("<f", value))[0]
    assert struct.pack("<f", shortest(stored)) == struct.pack("<f", value)
    assert len(repr(shortest(stored))) <= len(repr(value))


def test_info_and_bench(connect: Connect) -> None:
    device, _, _ = connect()
    info = device.info()
    assert (info.kv_type, info.chat_kind, info.model_state, info.selfcheck) == ("i8", "turns", "ready", [])
    assert info["board"] == "fake" and "uptime_us" in dict(info)
    assert [row.name for row in device.bench()] == ["line fill QIO 64 B, 2 cores", "heap free"]


def test_upload_replaces_the_model(connect: Connect, blob: Path) -> None:
    device, fake, _ = connect()
    stages: list[str] = []
    device.upload(str(blob), lambda stage, done, of: stages.append(stage))
    assert fake.model == blob.read_bytes()
    assert {"send", "verify", "activate"} == set(stages)
    assert device.chat("hi", seed=1).wait().text == expected("hi", 1, 0)


@pytest.mark.parametrize("late", [0, 1, 2, 3, 4])
def test_a_hello_that_is_answered_twice(connect: Connect, late: int) -> None:
    """A device that boots slowly finds the hello twice, and opens two sessions; the last one holds."""
    fake, clock = FakeDevice(), FakeClock()
    link = FakeLink(fake, clock)
    hello, feed = b"", fake.feed

    def slow(data: bytes) -> None:
        nonlocal hello
        if not hello:
            hello = data
            feed(data if late else data + data)
            return
        slow.count += 1  # type: ignore[attr-defined]
        feed(hello + data if slow.count == late else data)  # type: ignore[attr-defined]

    slow.count = 0  # type: ignore[attr-defined]
    fake.feed = slow  # type: ignore[method-assign]
    device = Device(link, clock)
    assert device.info().board == "fake"
    assert device.chat("hi", seed=1).wait().text == expected("hi", 1, 0)
    assert device.settings["temperature"] == 0.7
    assert fake.replies_begun == 1
    assert clock.now() < 5


def test_log_lines_and_text_outside_frames_reach_their_hooks() -> None:
    fake, clock = FakeDevice(boot_text="boot: hello\r\n"), FakeClock()
    device = Device(FakeLink(fake, clock), clock)
    heard: list[Any] = []
    device.session.on_text = heard.append
    device.session.on_log = lambda level, text: heard.append((level, text))
    fake.output += b"plain words\n"
    fake.send("log", 0, level=1, text="warm")
    device.ping()
    assert heard == [b"plain words\n", (1, "warm")]


# ---- a device that says no ------------------------------------------------------------------------


def test_no_model(connect: Connect, blob: Path) -> None:
    device, _, _ = connect(model=None)
    with pytest.raises(NoModelError) as caught:
        device.chat("hi")
    assert "upload" in caught.value.hint
    device.upload(str(blob))
    assert device.chat("hi", seed=1).wait().text


def test_a_model_that_does_not_fit(connect: Connect) -> None:
    device, _, _ = connect(model_state=ModelState.UNUSABLE, model_error=Error.MODEL_MEMORY)
    with pytest.raises(NoModelError, match="does not fit this board's memory"):
        device.chat("hi")


@pytest.mark.parametrize(("major", "advice"), [(2, "update tinychat"), (0, "flash the newer firmware")])
def test_protocol_too_new_or_too_old(connect: Connect, major: int, advice: str) -> None:
    with pytest.raises(VersionError, match=f"version {major}") as caught:
        connect(major=major)
    assert advice in caught.value.hint


@pytest.mark.parametrize("text", ["", "rst:0x1 (POWERON)\r\nHello from another sketch\x1b[31m\r\n"])
def test_wrong_firmware(text: str) -> None:
    class Deaf(FakeLink):
        def write(self, data: bytes) -> None:
            self.device.output += text.encode()

        def read(self, timeout: float) -> bytes:
            self.clock.time += timeout
            return self.device.take()

    with pytest.raises(WrongFirmwareError) as caught:
        clock = FakeClock()
        Device(Deaf(FakeDevice(), clock), clock)
    assert clock.now() < 15
    assert ("another sketch?[31m" in caught.value.message) == bool(text)
    assert "tinychat flash" in caught.value.hint


def test_a_device_that_falls_silent(connect: Connect) -> None:
    device, _, link = connect(endless=True)
    reply = device.chat("hi", max_tokens=1000)
    before = 0.0
    with pytest.raises(LinkTimeoutError, match="fell silent"):
        for token in reply:
            if token.index == 2:
                link.dead, before = True, link.clock.now()
    assert link.clock.now() - before < 20
    with pytest.raises(LinkTimeoutError, match="does not answer"):
        device.info()


def test_a_device_that_owes_tokens_is_given_up(connect: Connect) -> None:
    """A firmware that counts wrong must not be asked for ever."""
    device, fake, link = connect()
    send = fake.send

    def one_too_many(name: str, request: int, /, **values: Any) -> None:
        if name == "done":
            values["tokens"] += 1
        send(name, request, **values)

    fake.send = one_too_many  # type: ignore[method-assign]
    with pytest.raises(LinkTimeoutError, match="added nothing"):
        device.chat("hi").wait()
    assert link.clock.now() < 60


def test_an_interrupted_wait_does_not_block_the_next_reply(connect: Connect) -> None:
    """A second Ctrl-C breaks out of the reply anywhere; the device is told to stop before it is asked again."""
    device, _, link = connect(endless=True)
    reply = device.chat("go", max_tokens=1000)
    next(iter(reply))
    read = link.read

    def interrupted(timeout: float) -> bytes:
        link.read = read  # type: ignore[method-assign]
        raise KeyboardInterrupt

    link.read = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        reply.wait()
    assert len(device.chat("next", max_tokens=5).wait().tokens) == 5


def test_an_error_in_the_middle_of_a_reply(connect: Connect) -> None:
    device, fake, _ = connect(error_in_reply=Error.NUMERIC)
    with pytest.raises(DeviceError, match="not finite") as caught:
        device.chat("hi").wait()
    assert caught.value.code == "numeric"
    fake.error_in_reply = 0
    assert device.chat("hi", seed=1).wait().text


def test_a_prompt_that_is_too_long(connect: Connect) -> None:
    device, _, _ = connect()
    with pytest.raises(DeviceError) as caught:
        device.chat("x" * 600).wait()
    assert caught.value.code == "prompt_too_long"
    with pytest.raises(DeviceError, match="1536 bytes"):
        device.chat("x" * 2000)
    assert device.chat("short", seed=1).wait().text == expected("short", 1, 0)


def test_somebody_else_used_the_conversation(connect: Connect) -> None:
    device, fake, _ = connect()
    device.chat("hi").wait()
    fake.position += 7
    with pytest.raises(ConversationLostError):
        device.chat("more").wait()
    assert device.chat("more", seed=2).wait().text == expected("more", 2, fake.cached)


@pytest.mark.parametrize("moment", [300, 700, 1100])
def test_device_lost_in_the_middle_of_a_reply(moment: int) -> None:
    fake, clock = FakeDevice(endless=True), FakeClock()
    device = Device(FakeLink(fake, clock, Faults(disconnect_at=(moment,), reopen_failures=3)), clock)
    reply = device.chat("hi", max_tokens=200)
    with pytest.raises(LinkLostError, match="is back") as caught:
        reply.wait()
    assert f"{len(reply.tokens)} token" in caught.value.message
    assert device.chat("again", max_tokens=3).wait().tokens


def test_device_restarts_in_the_middle_of_a_reply() -> None:
    fake, clock = FakeDevice(), FakeClock()
    link = FakeLink(fake, clock)
    device = Device(link, clock)
    device.chat("first").wait()
    fake.endless = True
    link.harms = [(link.passed + 500, "reboot")]
    with pytest.raises(LinkLostError, match="the conversation is lost"):
        device.chat("hi", max_tokens=200).wait()
    assert device.position == 0
    assert device.chat("again", max_tokens=3).wait().tokens


def test_device_lost_for_good() -> None:
    fake, clock = FakeDevice(endless=True), FakeClock()
    device = Device(FakeLink(fake, clock, Faults(disconnect_at=(600,), reopen_failures=10_000)), clock)
    with pytest.raises(LinkLostError, match="not back"):
        device.chat("hi", max_tokens=200).wait()
    assert clock.now() < 40


@pytest.mark.parametrize(
    ("code", "name"), [(Error.MODEL_MEMORY, "model_memory"), (Error.MODEL_FORMAT, "model_format"), (99, "device_99")]
)
def test_an_upload_that_the_device_refuses(connect: Connect, blob: Path, code: int, name: str) -> None:
    device, fake, _ = connect()
    fake.verify_error = code
    with pytest.raises(DeviceError) as caught:
        device.upload(str(blob))
    assert caught.value.code == name
    assert device.info().board == "fake"


def test_a_blob_larger_than_the_slot(connect: Connect, tmp_path: Path) -> None:
    device, fake, _ = connect()
    path = tmp_path / "big.tlm"
    path.write_bytes(make_blob(4_100_000))
    with pytest.raises(DeviceError, match="larger than the slot"):
        device.upload(str(path))
    assert fake.model is not None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: b[:-1], "cut short"),
        (lambda b: b + b"x", "bytes too many"),
        (lambda b: b"GGUF" + b[4:], "not a .tlm blob"),
        (lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:], "damaged"),
        (lambda b: b"", "not a .tlm blob"),
    ],
)
def test_a_damaged_file_is_refused_before_anything_is_sent(
    connect: Connect, blob: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    device, fake, _ = connect()
    blob.write_bytes(damage(blob.read_bytes()))
    with pytest.raises(BlobFileError, match=words):
        device.upload(str(blob))
    assert fake.upload is None
