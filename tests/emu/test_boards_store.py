"""Model slots: uploads, and the power cut all along one of a few KB."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from models import small, talker, tinybuddy
from rawhost import RawHost
from simlib import MISUSED, POWER_OFF, Sim, SimClock, SimLink

from tinychat import Device
from tinychat.protocol import AUTO, KV_SCALE, Error, ModelState, SettingsField, SlotState
from tinychat.upload import Upload
from tinyexport.blob import schema

FLASH = 1 << 20
SECTOR = 4096


def mini(seed: int) -> bytes:
    """A model of a few KB without a tokenizer."""
    return small(seed, "q8_0")


@pytest.fixture
def device() -> Sim:
    """Two slots, the first of which holds and runs mini(1)."""
    sim = Sim(flash=FLASH)
    assert RawHost(sim).upload(mini(1)).name == "ok"
    return sim


def model(sim: Sim) -> int:
    """CRC of the model in use, 0 when there is none; it must answer too."""
    host = RawHost(sim)
    info = host.one("info")
    if info.model_state != ModelState.READY:
        assert info.model_crc == 0
        return 0
    assert len(host.probe([1, 2, 3])) == 3
    return int(info.model_crc)


def crc(blob: bytes) -> int:
    return int(schema.HEADER.unpack(blob)["crc32"])


# ---- uploads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("size", [1024, 16, 1008])
def test_uploads_follow_each_other(slots: int, size: int) -> None:
    sim = Sim(flash=FLASH, slots=slots)
    used = []
    for seed in (1, 2, 3):
        host = RawHost(sim)
        begun = host.begin(mini(seed))
        assert begun.offset == 0 and (host.hello().model_state == ModelState.NONE) == (slots == 1 or seed == 1)
        host.begin(mini(seed))
        assert host.send(mini(seed), 0, size) is None
        assert host.verify().name == "ok" and host.one("upload_activate").name == "ok"
        assert model(sim) == crc(mini(seed))
        used.append(RawHost(sim).one("slot", slot=AUTO).slot)
        sim.boot()
        assert model(sim) == crc(mini(seed))
    assert used == ([0, 0, 0] if slots == 1 else [0, 1, 0])
    assert not sim.state(MISUSED)


def test_slots_tell_what_they_hold(device: Sim) -> None:
    host = RawHost(device)
    host.begin(mini(2))
    host.chunk(mini(2), 0)
    first, second = (host.one("slot", slot=n) for n in (0, 1))
    assert (first.state, first.size, first.sha256) == (
        SlotState.ACTIVE,
        len(mini(1)),
        hashlib.sha256(mini(1)).digest(),
    )
    assert (second.state, second.size, second.sequence) == (SlotState.PARTIAL, len(mini(2)), 0)
    assert host.one("slot", slot=2).code == Error.STORE_SLOT
    assert host.one("info").slot_bytes == FLASH // 2 - SECTOR


def test_a_conversation_goes_on_while_a_model_comes_in() -> None:
    sim = Sim(flash=FLASH)
    host = RawHost(sim)
    assert host.upload(talker()).name == "ok"
    position = host.generate("hello")[2].position
    begun = host.begin(tinybuddy())
    assert host.send(tinybuddy()[:20_480], begun.offset) is None
    assert host.generate("and more", expect=position)[1]


def test_requests_out_of_order() -> None:
    sim = Sim(flash=FLASH)
    host = RawHost(sim)
    blob = mini(1)
    for name in ("upload_query", "upload_verify", "upload_activate"):
        assert host.one(name).code == Error.STORE_NOT_BEGUN, name
    assert host.chunk(blob, 0).code == Error.STORE_NOT_BEGUN
    host.begin(blob)
    ahead = host.chunk(blob, 1024)
    assert (ahead.code, ahead.detail) == (Error.STORE_OFFSET, 0)
    early = host.verify()
    assert (early.code, early.detail) == (Error.STORE_INCOMPLETE, 0)
    assert host.one("upload_activate").code == Error.STORE_NOT_VERIFIED
    assert host.one("upload_chunk", offset=0, crc=1, data=blob[:16]).code == Error.STORE_CRC
    assert host.one("upload_chunk", offset=0, crc=zlib.crc32(blob[:15]), data=blob[:15]).code == Error.BAD_MESSAGE
    assert host.chunk(blob, 0).offset == 1024
    assert host.chunk(blob, 0).offset == 1024, "a chunk sent twice is acknowledged twice"
    too_much = host.one("upload_chunk", offset=1024, crc=zlib.crc32(blob[:1024] * 1), data=blob[:1024])
    assert too_much.name == "upload_is"
    host.one("upload_abort")
    assert host.one("upload_query").code == Error.STORE_NOT_BEGUN
    assert host.upload(blob).name == "ok"
    assert host.one("upload_activate").name == "ok", "asked again"


BAD_BLOBS = {
    "garbage": (lambda b: bytes(range(256)) * 20, Error.MODEL_FORMAT),
    "one byte changed": (lambda b: b[:1500] + bytes([b[1500] ^ 1]) + b[1501:], Error.MODEL_FORMAT),
    "cut short": (lambda b: b[: len(b) // 32 * 16], Error.MODEL_FORMAT),
    "newer major version": (lambda b: _with(b, version_major=2), Error.MODEL_VERSION),
    "unknown feature": (lambda b: _with(b, required_features=1 << 30), Error.MODEL_VERSION),
}


def _with(blob: bytes, **fields: int) -> bytes:
    """A blob with other header fields and a good checksum."""
    record = schema.HEADER.unpack(blob) | fields
    changed = schema.HEADER.pack(record) + blob[schema.HEADER.size :]
    record["crc32"] = zlib.crc32(changed[schema.CRC_START :])
    return schema.HEADER.pack(record) + changed[schema.HEADER.size :]


@pytest.mark.parametrize("name", BAD_BLOBS)
def test_a_bad_blob_is_named_and_the_old_model_stays(device: Sim, name: str) -> None:
    change, code = BAD_BLOBS[name]
    host = RawHost(device)
    refused = host.upload(change(mini(2)))
    assert (refused.name, refused.code) == ("error", code)
    if code == Error.MODEL_VERSION and "major" in name:
        assert refused.detail == 2
    assert model(device) == crc(mini(1))
    assert RawHost(device).upload(mini(2)).name == "ok" and model(device) == crc(mini(2))


def test_another_hash_than_announced(device: Sim) -> None:
    host = RawHost(device)
    host.one("upload_begin", slot=AUTO, size=len(mini(2)), sha256=bytes(32))
    assert host.send(mini(2)) is None
    assert host.verify().code == Error.STORE_HASH
    assert model(device) == crc(mini(1))


def test_a_failed_verification_with_two_slots_leaves_the_old_model_for_good(device: Sim) -> None:
    for size in (len(mini(2)), 64):
        host = RawHost(device)
        host.one("upload_begin", slot=AUTO, size=size, sha256=bytes(32))
        assert host.send(mini(2)[:size]) is None
        assert host.verify().code == Error.STORE_HASH
        device.boot()
        assert model(device) == crc(mini(1))
    assert RawHost(device).upload(mini(2)).name == "ok" and model(device) == crc(mini(2))


def test_a_failed_verification_with_one_slot_leaves_a_board_that_takes_a_model() -> None:
    sim = Sim(flash=FLASH // 2, slots=1)
    assert RawHost(sim).upload(mini(1)).name == "ok"
    host = RawHost(sim)
    host.one("upload_begin", slot=AUTO, size=len(mini(2)), sha256=bytes(32))
    assert host.send(mini(2)) is None
    assert host.verify().code == Error.STORE_HASH
    for _ in range(2):
        assert RawHost(sim).one("info").model_state == ModelState.NONE
        sim.boot()
    assert RawHost(sim).upload(mini(3)).name == "ok" and model(sim) == crc(mini(3))


def test_a_model_that_does_not_run_here_is_kept_while_there_is_an_empty_slot() -> None:
    large = Sim(flash=FLASH)
    assert RawHost(large).upload(tinybuddy()).name == "ok"
    sim = Sim(flash=FLASH, memory=80_000)
    sim.flash = large.flash
    sim.boot()
    assert RawHost(sim).one("info").model_error == Error.MODEL_MEMORY
    assert RawHost(sim).upload(mini(1)).name == "ok" and model(sim) == crc(mini(1))
    assert RawHost(sim).one("slot", slot=0).state == SlotState.STORED


def test_sizes(device: Sim) -> None:
    host = RawHost(device)
    for size, most in ((0, FLASH // 2), (FLASH - SECTOR + 1, FLASH), (0xFFFFFFFF, FLASH)):
        refused = host.one("upload_begin", slot=AUTO, size=size, sha256=bytes(32))
        assert (refused.code, refused.detail) == (Error.STORE_SIZE, most - SECTOR)
    wide = FLASH // 2 - SECTOR + 1
    assert host.one("upload_begin", slot=1, size=wide, sha256=bytes(32)).code == Error.STORE_SLOT, "begins in slot 0"
    assert host.one("upload_begin", slot=0, size=64, sha256=bytes(32)).code == Error.STORE_SLOT, "in use"
    assert host.one("upload_begin", slot=7, size=64, sha256=bytes(32)).code == Error.STORE_SLOT
    assert host.one("upload_begin", slot=1, size=64, sha256=bytes(31)).code == Error.BAD_MESSAGE
    assert model(device) == crc(mini(1))


def test_a_model_for_another_cache() -> None:
    """A cache with two scales a position was set for a model of two kv heads; the next has one."""
    two, one = mini(1), mini(2)
    board = Sim(flash=FLASH)
    host = RawHost(board)
    assert host.upload(two).name == "ok"
    values = host.one("settings_get").values | {"mask": SettingsField.KV_TYPE, "kv_type": 3 + KV_SCALE}
    values.pop("stored")
    assert host.one("settings_set", **values).kv_type == 3 + KV_SCALE
    assert host.upload(one).code == Error.MODEL_KV
    assert model(board) == crc(two)
    host = RawHost(board)
    assert host.one("settings_forget", mask=SettingsField.KV_TYPE).kv_type == 2
    assert host.upload(one).name == "ok" and model(board) == crc(one)


def test_a_model_for_a_larger_board() -> None:
    board = Sim(flash=FLASH, memory=80_000)
    host = RawHost(board)
    assert host.upload(mini(1)).name == "ok"
    refused = host.upload(tinybuddy())
    assert refused.code == Error.MODEL_MEMORY and refused.detail > 80_000
    assert model(board) == crc(mini(1))


def test_a_damaged_model_falls_back_to_the_one_before(device: Sim) -> None:
    assert RawHost(device).upload(mini(2)).name == "ok"
    flash = bytearray(device.flash)
    at = flash.index(mini(2)) + 700
    flash[at] ^= 0x10
    device.flash = bytes(flash)
    device.boot()
    assert model(device) == crc(mini(1))


# TinyBuddy is larger than a slot of this flash, mini models fit.
NARROW = 20 * SECTOR


def test_a_model_larger_than_a_slot_takes_both() -> None:
    sim = Sim(flash=NARROW)
    for seed in (1, 2):
        assert RawHost(sim).upload(mini(seed)).name == "ok"
    host = RawHost(sim)
    begun = host.begin(tinybuddy())
    assert (begun.slot, host.hello().model_state) == (0, ModelState.NONE)
    assert host.one("upload_begin", slot=1, size=64, sha256=bytes(32)).code == Error.STORE_SLOT, "is taken"
    assert host.one("slot", slot=1).state == SlotState.EMPTY
    assert host.send(tinybuddy(), 0) is None
    assert host.verify().name == "ok" and host.one("upload_activate").name == "ok"
    for _ in range(2):
        assert model(sim) == crc(tinybuddy())
        assert (RawHost(sim).one("slot", slot=0).size, RawHost(sim).one("slot", slot=1).size) == (len(tinybuddy()), 0)
        sim.boot()
    used = []
    for seed in (3, 4):
        assert RawHost(sim).upload(mini(seed)).name == "ok"
        sim.boot()
        assert model(sim) == crc(mini(seed))
        used.append(RawHost(sim).one("slot", slot=AUTO).slot)
    assert used == [0, 1] and not sim.state(MISUSED)


def test_a_large_upload_given_up_leaves_no_older_model_behind() -> None:
    sim = Sim(flash=NARROW)
    for seed in (1, 2):
        assert RawHost(sim).upload(mini(seed)).name == "ok"
    host = RawHost(sim)
    host.begin(tinybuddy())
    host.one("upload_abort")
    assert host.upload(mini(3)).name == "ok"
    sim.boot()
    assert model(sim) == crc(mini(3)), "the second slot's sequence was higher"


def test_tinychat_uploads() -> None:
    clock = SimClock()
    sim = Sim(flash=FLASH)
    device = Device(SimLink(sim, clock), clock)
    Upload(device.session, talker()).run()
    device.session.connect()
    assert device.chat("hello", seed=1).wait().text and model(sim) == crc(talker())


# ---- the power goes ----------------------------------------------------------------------------------


def cut_upload(sim: Sim, blob: bytes, cut: int) -> bool:
    """Uploads until the power goes after `cut` bytes of flash work; False when the upload was through before."""
    sim.boot(cut)
    host = RawHost(sim, greet=False)
    host.hello()
    answer = host.upload(blob)
    assert (answer.name == "ok") or answer.code in (Error.STORE_FLASH, Error.STORE_NOT_BEGUN), answer
    return sim.state(POWER_OFF)


def whole_work(sim: Sim, blob: bytes) -> int:
    before = sim.flash
    cut_upload(sim, blob, 0)
    work = sim.flash_work
    sim.flash = before
    return work


def cuts(total: int) -> list[int]:
    """Every byte of the bookkeeping at both ends, and both sides of many places in the writes between."""
    return [n for n in range(1, total + 1) if n < 150 or n > total - 100 or n % 16 < 2]


def test_power_cut_at_every_write_with_two_slots(device: Sim) -> None:
    start, total = device.flash, whole_work(device, mini(2))
    assert total > len(mini(2))
    new = 0
    for cut in cuts(total):
        device.flash = start
        assert cut_upload(device, mini(2), cut)
        device.boot()
        now = model(device)
        assert now in (crc(mini(1)), crc(mini(2))), f"no model after a cut at byte {cut} of {total}"
        new += now == crc(mini(2))
        if cut % 48 == 0 or cut > total - 50:  # and the upload can be made again, or resumed
            assert RawHost(device).upload(mini(3)).name == "ok"
            assert model(device) == crc(mini(3))
    assert new <= 4, "the new model counted before its header was whole"
    assert not device.state(MISUSED)


def test_power_cut_with_one_slot() -> None:
    sim = Sim(flash=FLASH // 2, slots=1)
    assert RawHost(sim).upload(mini(1)).name == "ok"
    start, total = sim.flash, whole_work(sim, mini(2))
    for cut in cuts(total)[::2]:
        sim.flash = start
        assert cut_upload(sim, mini(2), cut)
        sim.boot()
        # nothing else than: the old one whole, none, or the new one whole
        assert model(sim) in (crc(mini(1)), 0, crc(mini(2))), cut
        if cut % 32 == 1:
            assert RawHost(sim).upload(mini(2)).name == "ok" and model(sim) == crc(mini(2))
    assert not sim.state(MISUSED)


def test_power_cut_with_a_model_that_takes_both_slots() -> None:
    sim, blob = Sim(flash=NARROW), tinybuddy()
    for seed in (1, 2):
        assert RawHost(sim).upload(mini(seed)).name == "ok"
    start, total = sim.flash, whole_work(sim, blob)
    seen = set()
    for cut in [*range(1, 200, 9), *range(200, total, total // 12), *range(total - 60, total + 1, 4)]:
        sim.flash = start
        assert cut_upload(sim, blob, cut)
        sim.boot()
        seen.add(model(sim))
        again = mini(3) if cut % 2 else blob
        assert RawHost(sim).upload(again).name == "ok" and model(sim) == crc(again), cut
        sim.boot()
        assert model(sim) == crc(again), cut
    assert 0 in seen and seen <= {crc(mini(1)), crc(mini(2)), 0, crc(blob)}
    assert not sim.state(MISUSED)


@pytest.mark.parametrize("flash", [FLASH, NARROW])
def test_a_cut_upload_resumes_at_a_block(flash: int) -> None:
    sim, blob = Sim(flash=flash), tinybuddy()
    start, total = sim.flash, whole_work(sim, blob)
    resumed = []
    for cut in range(total // 40, total, total // 20):
        sim.flash = start
        cut_upload(sim, blob, cut)
        sim.boot()
        host = RawHost(sim)
        begun = host.begin(blob)
        assert begun.offset % 16384 == 0 or begun.offset == len(blob)
        resumed.append(begun.offset)
        assert host.send(blob, begun.offset) is None
        assert host.verify().name == "ok" and host.one("upload_activate").name == "ok"
        assert model(sim) == crc(blob)
    assert resumed[0] == 0 and max(resumed) > 0 and len(set(resumed)) >= 4, resumed


def test_power_cut_while_settings_are_stored() -> None:
    """The settings before, or the new ones: never others."""
    fields = {"top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0, "repeat_window": 0, "max_tokens": 9, "mode": 0}
    fields |= {"temperature": 0.5, "kv_type": 2, "context": 0, "brightness": 9, "echo": 1}
    sim = Sim(tinybuddy(), flash=FLASH)
    for top_k in range(1, 160):
        answer = RawHost(sim).one("settings_set", mask=2, top_k=top_k, **fields)
        assert answer.stored
        start = sim.settings_flash
        for cut in range(1, 74, 12):
            sim.settings_flash = start
            sim.boot(settings_cut=cut)
            RawHost(sim).call("settings_set", mask=2, top_k=200 + cut % 50, **fields)
            sim.boot()
            assert RawHost(sim).one("settings_get").top_k in (top_k, 200 + cut % 50)
        sim.settings_flash = start
        sim.boot()
