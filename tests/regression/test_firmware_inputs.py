"""Bytes that the firmware once did not survive, or answered wrongly."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "emu"))
from models import talker
from rawhost import GENERATE, RawHost
from simlib import Sim, typed
from test_boards_terminal import SETTINGS

from tinychat.protocol import Error, Reason, SettingsField


def test_rubbing_out_half_a_character_keeps_the_line_before() -> None:
    """Rub-out after a lone continuation byte took the end of the waiting line too, and then no end was found."""
    sim = Sim(talker())
    sim.run()
    sim.feed(b"hello\n\x80\x7f")
    assert sim.run().decode("utf-8", "replace").count("tokens") == 1
    assert typed(sim, b"hello\n").count("tokens") == 1


def test_a_host_that_takes_over_ends_what_is_sent_again() -> None:
    """All tokens were sent again, to the host that had gone and to the screen, before the new one was welcomed."""
    host = RawHost(Sim(talker()))
    host.sim.feed(host.frame("generate", **GENERATE | {"max_tokens": 100}))
    for _ in range(40):
        host.sim.step()
    host.sim.feed(host.frame("resend", reply=host.request, first=0))
    host.sim.step()
    assert host.sort(host.sim.take())
    host.session = 0
    *rest, done, welcome = host.raw(host.frame("hello", major=1, minor=0, host="second"))
    assert sum(p.name == "token" for p in rest) <= 1
    assert (done.reason, welcome.name) == (Reason.TAKEN, "welcome")


def test_forgetting_that_can_not_be_stored_is_told() -> None:
    """A change that flash did not take was an error, forgetting one was not: after the next boot it was back."""
    sim = Sim(talker(), flash=1 << 20)
    host = RawHost(sim)
    assert host.one("settings_set", mask=SettingsField.TOP_K, **SETTINGS | {"top_k": 7}).stored == 1
    sim.boot(settings_cut=1)
    host = RawHost(sim)
    assert host.one("settings_forget", mask=SettingsField.TOP_K).code == Error.SETTINGS_STORE
    assert host.one("settings_get").top_k != 7
