"""A line that garbles bytes or breaks, a device that restarts: the right reply, or a clear error.

Seeded, in virtual time; every run must end within a bound of that time and leave the device usable.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from fake_device import FakeClock, FakeDevice, FakeLink, Faults, make_blob, reply_pieces

from tinychat import ChatError, Device
from tinychat.errors import LinkLostError, LinkTimeoutError
from tinychat.upload import Upload

TURNS = 3
BOUND_S = 300.0


def rates(rng: random.Random) -> dict[str, float]:
    """One kind of harm, or all; from rare to one byte in 250."""
    rate = 10 ** rng.uniform(-4.5, -2.6)
    kinds = ["lose", "double", "flip", "swap"]
    if rng.random() < 0.5:
        return {rng.choice(kinds): rate}
    return dict.fromkeys(kinds, rate / 4)


@pytest.mark.parametrize("block", range(8))
def test_garbled_bytes_never_change_a_reply(block: int) -> None:
    mended = 0
    for seed in range(block * 50, block * 50 + 50):
        clock, fake = FakeClock(), FakeDevice()
        device = Device(FakeLink(fake, clock, Faults(seed, **rates(random.Random(seed)))), clock)
        for turn in range(TURNS):
            position = device.position or 0
            reply = device.chat(f"turn {turn} of {seed}", seed=seed).wait()
            assert reply.text == b"".join(reply_pieces(f"turn {turn} of {seed}".encode(), seed, position)).decode()
        assert fake.replies_begun == TURNS, "a request that was sent twice was run twice"
        assert clock.now() < BOUND_S
        mended += device.session.stats.retries
    assert mended, "the faults did nothing: this test proved nothing"


@pytest.mark.parametrize("block", range(4))
def test_breaks_and_restarts_give_the_right_reply_or_a_clear_error(block: int) -> None:
    lost = 0
    for seed in range(block * 50, block * 50 + 50):
        rng = random.Random(seed)
        faults = Faults(
            seed,
            disconnect_at=tuple(rng.sample(range(150, 4000), rng.randrange(3))),
            reboot_at=tuple(rng.sample(range(150, 4000), rng.randrange(3))),
            reopen_failures=rng.randrange(4),
            **rates(rng),
        )
        clock, fake = FakeClock(), FakeDevice()
        link = FakeLink(fake, clock, faults)
        device = Device(link, clock)
        for turn in range(4):
            text, position = f"turn {turn}", device.position
            try:
                reply = device.chat(text, seed=seed).wait()
            except ChatError as err:
                assert err.message.endswith("."), err.message
                lost += 1
                continue
            if position is not None:
                assert reply.text == b"".join(reply_pieces(text.encode(), seed, position)).decode()
        assert clock.now() < BOUND_S
        link.harms, link.faults = [], Faults()
        with contextlib.suppress(ChatError):  # a restart that nobody has noticed yet
            device.chat("are you there", seed=1).wait()
        assert device.chat("still there", seed=1).wait().text
    assert lost, "no run lost anything: this test proved nothing"


@pytest.mark.parametrize("block", range(4))
def test_uploads_arrive_whole_or_fail_clearly(block: int) -> None:
    resumed = 0
    for seed in range(block * 15, block * 15 + 15):
        rng = random.Random(seed)
        blob = make_blob(rng.randrange(200, 60_000), seed)
        faults = Faults(
            seed,
            disconnect_at=tuple(rng.sample(range(200, 6000), rng.randrange(3))),
            reboot_at=tuple(rng.sample(range(200, 6000), rng.randrange(3))),
            reopen_failures=rng.randrange(3),
            **{kind: rate / 3 for kind, rate in rates(rng).items()},
        )
        clock, fake = FakeClock(), FakeDevice()
        device = Device(FakeLink(fake, clock, faults), clock)
        for _ in range(20):
            try:
                Upload(device.session, blob).run()
                break
            except (LinkLostError, LinkTimeoutError):
                resumed += 1
                device.session.reconnect()
        assert fake.model == blob
        assert clock.now() < 20 * BOUND_S
        resumed += device.session.stats.reconnects
    assert resumed, "nothing broke: this test proved nothing"


def test_an_upload_resumes_where_it_stopped(tmp_path: Path) -> None:
    blob = make_blob(60_000, 3)
    clock, fake = FakeClock(), FakeDevice()
    link = FakeLink(fake, clock, Faults(disconnect_at=(2000,), reopen_failures=10_000))
    device = Device(link, clock)
    with pytest.raises(ChatError):
        Upload(device.session, blob).run()
    assert 0 < len(fake.flash) < len(blob)
    link.failures_left = 0
    device.session.reconnect()
    second = Upload(device.session, blob)
    second.run()
    assert second.resumed_at > 0
    assert fake.model == blob
