"""The firmware's app on the simulated board: replies, conversations, settings, a plain terminal, bad requests.

What a reply must be is taken from the same C runtime driven from Python; the parity tests compare that with the oracle.
"""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
from models import ROOT, changed, exported, talker, tinybuddy
from rawhost import GENERATE, GenerateFlag, Mode, RawHost
from simlib import Sim, SimClock, SimLink, typed

from tinychat import Device
from tinychat.errors import DeviceError, NoModelError
from tinychat.protocol import KV_SCALE, MAX_PAYLOAD, Error, ModelState, Reason, SettingsField, TokenFlag
from tinychat.wire import encode, frame
from tinyexport import runtime
from tinyexport.blob import schema


def desk(blob: bytes, context: int = 128, kv: str = "i8") -> runtime.Session:
    return runtime.Session(runtime.Model(blob), context=context, kv=kv)


@pytest.fixture(scope="module")
def story() -> Sim:
    return Sim(tinybuddy())


@pytest.fixture
def talk() -> RawHost:
    return RawHost(Sim(talker()))


def test_info_has_the_models_confidence_threshold() -> None:
    sure = changed(tinybuddy(), lambda c: dataclasses.replace(c, info=c.info | {"confidence": "-1.43,-6"}))
    for blob, said in ((tinybuddy(), ""), (sure, "-1.43,-6")):
        clock = SimClock()
        assert Device(SimLink(Sim(blob), clock), clock).info().confidence == said


def test_an_attribution_is_told_whole_and_the_largest_info_fits_a_frame() -> None:
    for length, told in ((300, 300), (5000, 383)):
        keys = ("name", "arch", "licence", "confidence", "attribution")
        long = changed(tinybuddy(), lambda c: dataclasses.replace(c, info=dict.fromkeys(keys, "x" * length)))  # noqa: B023
        clock = SimClock()
        info = Device(SimLink(Sim(long), clock), clock).info()
        assert info.attribution == "x" * told and info.licence == "x" * 127


def test_probe_has_the_bits_of_the_runtime(story: Sim) -> None:
    ids = [int(i) for i in np.random.default_rng(5).integers(0, 1024, 100)]
    session = desk(tinybuddy())
    logits = session.eval(ids, want=[True] * len(ids))
    rows = RawHost(story).probe(ids)
    assert [r.crc for r in rows] == [zlib.crc32(row.astype("<f4").tobytes()) for row in logits]
    assert [r.best for r in rows] == [int(row.argmax()) for row in logits]


def test_a_cache_with_several_scales_a_position() -> None:
    """TinyBuddy has two kv heads: what suits them is set and told, the rest is refused and changes nothing."""
    clock, sim = SimClock(), Sim(tinybuddy())
    device, host = Device(SimLink(sim, clock), clock), RawHost(sim)
    ids, used = [int(i) for i in np.random.default_rng(6).integers(0, 1024, 60)], {}
    for kind in ("i4", "i4/2", "i8", "i8/2"):
        device.session.connect()
        assert device.set(kv_type=kind)["kv_type"] == kind
        info = device.info()
        assert (info.kv_type, info.model_state) == (kind, "ready")
        used[kind] = info.memory_used
        host = RawHost(sim)
        logits = desk(tinybuddy(), kv=kind).eval(ids, want="all")
        assert [r.crc for r in host.probe(ids)] == [zlib.crc32(row.astype("<f4").tobytes()) for row in logits]
    assert used["i4"] < used["i4/2"] < used["i8"] < used["i8/2"]
    before = host.one("settings_get")
    for number, code in (
        (2 + 4 * KV_SCALE, Error.MODEL_KV),
        (3 + 2 * KV_SCALE, Error.MODEL_KV),
        (254, Error.MODEL_KV),
        (0 + KV_SCALE, Error.BAD_MESSAGE),
        (1 + 3 * KV_SCALE, Error.BAD_MESSAGE),
    ):
        values = before.values | {"kv_type": number}
        values.pop("stored")
        assert host.one("settings_set", **values | {"mask": SettingsField.KV_TYPE}).code == code
    assert host.one("settings_get").values == before.values
    assert host.one("info").kv_type == 2 + KV_SCALE
    device.session.connect()
    assert device.set(kv_type="auto")["kv_type"] == device.info().kv_type == "i8"


def test_a_cache_that_does_not_suit_the_model_is_named_and_can_be_changed() -> None:
    clock = SimClock()
    device = Device(SimLink(Sim(tinybuddy(), kv="i4/3"), clock), clock)
    assert device.info()["model_state"] == "unusable" and "kv heads" in device.info()["model_error"]
    with pytest.raises(NoModelError, match="kv heads") as unusable:
        device.chat("hello").wait()
    assert "kv=i4" in unusable.value.hint
    with pytest.raises(DeviceError) as caught:
        device.set(kv_type="i4/3")
        device.set(kv_type="i4/2")
        device.set(kv_type="i4/3")
    assert caught.value.code == "model_kv" and "kv=i4" in caught.value.hint
    assert device.info()["kv_type"] == "i4/2"
    device.set(kv_type="i4")
    assert (device.info()["model_state"], device.info()["kv_type"]) == ("ready", "i4")


def test_what_did_not_fit_opens_when_the_settings_let_it() -> None:
    clock = SimClock()
    device = Device(SimLink(Sim(tinybuddy(), memory=100_000, kv="f32"), clock), clock)
    assert device.info()["model_state"] == "unusable"
    device.set(kv_type="i4")
    assert device.info()["model_state"] == "ready"
    assert device.chat("hello", max_tokens=3).wait().stats.position > 0
    device.set(context=64)
    assert device.chat("hello", max_tokens=3).wait().stats.cached_tokens <= 1, "the model was opened anew"


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.01}])
def test_a_raw_reply_is_what_the_runtime_gives(story: Sim, sampling: dict[str, float]) -> None:
    model = runtime.Model(tinybuddy())
    options = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | sampling
    sampler = runtime.Sampler(model, seed=2**63 + 9, repeat_penalty=1.3, repeat_window=64, **options)
    ids = model.encode("Once upon a time", bos=True)
    expected = runtime.generate(desk(tinybuddy()), sampler, ids, 60)
    steps = list(expected)
    host = RawHost(story)
    text, tokens, done = host.generate(
        "Once upon a time",
        mode=Mode.RAW,
        seed=2**63 + 9,
        max_tokens=60,
        repeat_penalty=1.3,
        repeat_window=64,
        **sampling,
    )
    assert [t.id for t in tokens] == [s.id for s in steps]
    assert [np.float32(t.logprob) for t in tokens] == [np.float32(s.choice.logprob) for s in steps]
    assert text.decode().strip() == expected.text.strip()
    assert done.prompt_tokens == len(ids) and done.seed == 2**63 + 9


def test_a_reply_ends_where_the_window_does(story: Sim) -> None:
    model = runtime.Model(tinybuddy())
    ids = model.encode("Once upon a time", bos=True)
    expected = runtime.generate(desk(tinybuddy(), 48), runtime.Sampler(model, temperature=0.0), ids, 500, stop_ids=())
    count = len(list(expected))
    assert expected.stop_reason == "context"
    flags = GenerateFlag.IGNORE_STOP
    _, _, done = RawHost(Sim(tinybuddy(), context=48)).generate(
        "Once upon a time", mode=Mode.RAW, max_tokens=500, flags=flags
    )
    assert (done.reason, done.tokens, done.position) == (Reason.CONTEXT, count, 48)


def test_the_true_logprob_is_over_the_whole_vocabulary(talk: RawHost) -> None:
    _, tokens, _ = talk.generate("hi", flags=GenerateFlag.TRUE_LOGPROB, temperature=0.9, top_k=3)
    assert all(t.flags & TokenFlag.TRUE_LOGPROB and t.logprob_all < t.logprob for t in tokens)


def test_turns_keep_the_evaluated_part_of_the_conversation(talk: RawHost) -> None:
    first = talk.generate("hello there")[2]
    second = talk.generate("and now", expect=first.position)[2]
    # the last token of a reply is drawn, not evaluated
    assert first.cached_tokens == 0 and second.cached_tokens == first.position - 1
    whole = runtime.Model(talker())
    ids = whole.encode("User: hello there\nBot:", bos=True)
    assert first.prompt_tokens == len(ids)


def test_the_history_is_what_was_said(talk: RawHost) -> None:
    """The second reply equals that of a runtime which reads the whole conversation at once."""
    _, tokens, _ = talk.generate("hello there", max_tokens=6)
    _, again, _ = talk.generate("and now", max_tokens=10)
    model = runtime.Model(talker())
    ids = [*model.encode("User: hello there\nBot:", bos=True), *(t.id for t in tokens)]
    ids += [*model.encode("\n", special=True), *model.encode("User: and now\nBot:")]
    expected = runtime.generate(desk(talker()), runtime.Sampler(model, temperature=0.0), ids, 10)
    assert [t.id for t in again] == [s.id for s in expected]


def test_a_full_window_drops_the_oldest_half_at_once(talk: RawHost) -> None:
    drops, reread = [], []
    for i in range(30):
        _, _, done = talk.generate(f"this is turn number {i} of many", max_tokens=9)
        assert done.position <= done.context == 128
        drops.append(done.dropped)
        reread.append(done.reread_tokens)
        if done.dropped:
            assert done.position <= 64 + 9 + 4
    assert 3 <= sum(d > 0 for d in drops) <= 10, f"dropped at each turn, or never: {drops}"
    assert all((d > 0) == (r > 0) for d, r in zip(drops, reread, strict=True))


def test_room_is_made_in_the_middle_of_a_reply(talk: RawHost) -> None:
    talk.generate("the first thing to say", max_tokens=20)
    _, tokens, done = talk.generate("go on", max_tokens=110, flags=GenerateFlag.IGNORE_STOP)
    assert done.reason == Reason.CONTEXT or done.tokens == 110
    assert done.dropped == 1 and done.reread_tokens > 0 and len(tokens) > 90


STOPS = [("zzz",), ("e t",), ("lit", "little"), ("\n\n", " b", "xq")]


@pytest.mark.parametrize("stops", STOPS)
def test_stop_strings_may_span_tokens(stops: tuple[str, ...]) -> None:
    host = RawHost(Sim(talker(stops)))
    plain, _, _ = host.generate("Once upon a time", max_tokens=50, flags=GenerateFlag.IGNORE_STOP)
    host.call("reset")
    text, tokens, done = host.generate("Once upon a time", max_tokens=50)
    ends = [at for at in (plain.find(s.encode()) for s in stops) if at >= 0]
    assert text == plain[: min(ends, default=len(plain))]
    assert done.reason == (Reason.STOP_STRING if ends else Reason.LENGTH)
    released = b""
    for token in tokens:
        released += token.text
        assert not any(s.encode() in released for s in stops)
    if ends:
        assert done.position < done.prompt_tokens + done.tokens, "the stop string stayed in the history"
        follow = host.generate("and then", max_tokens=3)[2]
        assert follow.cached_tokens <= done.position


def test_a_resend_gives_the_same_events(talk: RawHost) -> None:
    packets = talk.call("generate", **GENERATE | {"max_tokens": 12})
    _, tokens, done = talk.reply(packets)
    for first in (0, 5, 12, 99):
        again = talk.raw(talk.frame("resend", reply=done.request, first=first))
        assert [p.values for p in again[:-1]] == [t.values for t in tokens[first:]]
        assert again[-1].values == done.values and again[-1].request == done.request
    twice = talk.raw(encode("generate", talk.session, done.request, **GENERATE | {"max_tokens": 12}))
    assert [p.values for p in twice] == [p.values for p in [*tokens, done]], "a request sent twice ran twice"


def test_a_resend_in_the_middle_does_not_change_the_rest(talk: RawHost) -> None:
    expected = talk.generate("hello", max_tokens=30)[0]
    talk.call("reset")
    for steps in range(2, 30, 3):
        talk.sim.feed(talk.frame("generate", **GENERATE | {"max_tokens": 30}))
        reply = talk.request
        for _ in range(steps):
            talk.sim.step()
        packets = talk.sort(talk.sim.take()) + talk.raw(talk.frame("resend", reply=reply, first=0))
        tokens = {p.index: p.text for p in packets if p.name == "token"}
        assert b"".join(tokens[i] for i in sorted(tokens)) + packets[-1].text == expected
        talk.call("reset")


def test_stop_ends_a_reply_within_a_token(talk: RawHost) -> None:
    talk.sim.feed(talk.frame("generate", **GENERATE | {"max_tokens": 100}))
    for _ in range(12):
        talk.sim.step()
    before = sum(p.name == "token" for p in talk.sort(talk.sim.take()))
    packets = talk.raw(talk.frame("stop"))
    assert [p.name for p in packets if p.name != "token"] in (["ok", "done"], ["done", "ok"])
    done = next(p for p in packets if p.name == "done")
    assert done.reason == Reason.STOPPED and done.tokens <= before + 1
    assert talk.one("stop").code == Error.NOTHING
    assert talk.generate("go on")[2].reason in (Reason.LENGTH, Reason.STOP_ID, Reason.STOP_STRING)


def test_a_stopped_prefill_leaves_a_conversation_that_goes_on(talk: RawHost) -> None:
    talk.sim.feed(talk.frame("generate", **GENERATE | {"text": "word " * 40}))
    talk.sim.step()
    packets = talk.raw(talk.frame("stop"))
    assert next(p for p in packets if p.name == "done").tokens == 0
    assert talk.generate("are you there")[1]


# ---- guards ----------------------------------------------------------------------------------------


def test_expect_guards_the_conversation(talk: RawHost) -> None:
    position = talk.generate("hello")[2].position
    refused = talk.one("generate", **GENERATE | {"expect": position + 1})
    assert (refused.code, refused.detail) == (Error.CONVERSATION, position)
    assert talk.generate("hello", expect=position)[2].position > position


def test_a_second_host_takes_the_device_over(talk: RawHost) -> None:
    talk.sim.feed(talk.frame("generate", **GENERATE | {"max_tokens": 100}))
    for _ in range(10):
        talk.sim.step()
    second = RawHost(talk.sim, greet=False)
    taken = second.raw(encode("hello", 0, 77, major=1, minor=0, host="second"))
    assert any(p.name == "done" and p.session == talk.session and p.reason == Reason.TAKEN for p in taken)
    second.session = taken[-1].session
    assert talk.one("ping", data=b"x").code == Error.SESSION
    assert second.generate("hello")[2].reason == Reason.LENGTH
    assert talk.one("generate", **GENERATE).code == Error.SESSION


def test_while_busy_only_some_requests_are_answered(talk: RawHost) -> None:
    talk.sim.feed(talk.frame("generate", **GENERATE | {"max_tokens": 60}))
    reply = talk.request
    frames = talk.frame("ping", data=b"") + talk.frame("info") + talk.frame("tokenize", flags=0, text="x")
    frames += talk.frame("generate", **GENERATE)
    by_request = {p.request: p for p in talk.raw(frames) if p.request != reply}
    pong, info, tokenize, generate = (by_request[reply + i] for i in (1, 2, 3, 4))
    assert pong.busy == reply and info.name == "info_is"
    assert (tokenize.code, tokenize.detail, generate.code) == (Error.BUSY, reply, Error.BUSY)


def test_versions(talk: RawHost) -> None:
    for major in (0, 2, 9):
        answer = RawHost(talk.sim, greet=False).hello(major)
        assert (answer.code, answer.detail) == (Error.VERSION, 1)
    assert talk.one("ping", data=b"").name == "pong", "a refused hello ended the session"
    newer = encode("hello", 0, 5, major=1, minor=7, host="newer")
    assert talk.raw(newer)[0].name == "welcome"


def test_bodies_of_a_newer_minor_version_are_read(talk: RawHost) -> None:
    from tinychat.protocol import BY_NAME
    from tinychat.wire import HEADER, encode_body

    body = encode_body(BY_NAME["ping"], {"data": b"abc"}) + b"appended field"
    (pong,) = talk.raw(frame(HEADER.pack(BY_NAME["ping"].id, 0, talk.session, 9) + body))
    assert pong.data == b"abc"


BAD_REQUESTS = {
    "no such message": (lambda h: (0x3E, b""), Error.UNKNOWN_MESSAGE),
    "an event as a request": (lambda h: (0x46, b""), Error.UNKNOWN_MESSAGE),
    "cut off body": (lambda h: (0x04, b"\0\1\2"), Error.BAD_MESSAGE),
    "span past the end": (lambda h: (0x03, b"\xff\xff"), Error.BAD_MESSAGE),
    "ids of odd length": (lambda h: (0x1A, b"\0\5\0abcde"), Error.BAD_MESSAGE),
    "no ids": (lambda h: (0x1A, b"\0\0\0"), Error.BAD_MESSAGE),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_packets(talk: RawHost, name: str) -> None:
    make, code = BAD_REQUESTS[name]
    kind, body = make(talk)
    payload = bytes((kind, 0)) + talk.session.to_bytes(2, "little") + b"\x55\0" + body
    (answer,) = talk.raw(frame(payload))
    assert (answer.name, answer.code, answer.request, answer.type) == ("error", code, 0x55, kind)
    assert talk.one("ping", data=b"").name == "pong"


BAD_VALUES = [
    {"temperature": -1.0},
    {"temperature": float("nan")},
    {"temperature": float("inf")},
    {"temperature": 1e-42},
    {"temperature": -0.0},
    {"top_k": 257},
    {"top_p": 0.0},
    {"top_p": float("nan")},
    {"min_p": 1.0},
    {"repeat_penalty": 0.5},
    {"repeat_window": 257},
    {"mode": 2},
]


@pytest.mark.parametrize("values", BAD_VALUES, ids=str)
def test_sampling_out_of_range(talk: RawHost, values: dict[str, float]) -> None:
    position = talk.generate("hello")[2].position
    assert talk.one("generate", **GENERATE | values).code == Error.BAD_MESSAGE
    assert talk.generate("hello", expect=position)[1]


def test_prompts(talk: RawHost) -> None:
    limit = 1900
    longer = talk.one("generate", **GENERATE | {"text": b"a" * (limit + 1)})
    assert (longer.code, longer.detail) == (Error.TOO_LONG, limit)
    too_many = talk.one("generate", **GENERATE | {"text": b"x7" * 400})
    assert too_many.code == Error.PROMPT_TOO_LONG and too_many.detail > 128
    assert talk.one("generate", **GENERATE | {"grammar": b"x"}).code == Error.GRAMMAR
    for text in (b"", b"\0\1\2\x1b[31m", b"\xff\xfe\x80 broken \xe2\x82", bytes(range(32)), "ж猫🙂".encode()):
        assert talk.generate(text)[2].reason in (Reason.LENGTH, Reason.STOP_ID, Reason.STOP_STRING)
        talk.call("reset")


def test_tokens_the_model_does_not_have(talk: RawHost) -> None:
    assert talk.call("probe", flags=0, ids=[1, 2, 1024])[-1].code == Error.TOKEN
    assert talk.one("probe", flags=0, ids=[1] * 200).code == Error.PROMPT_TOO_LONG
    assert talk.generate("hello")[1]


def test_an_oversized_frame_is_named_and_skipped(talk: RawHost) -> None:
    payload = bytes((3, 0)) + talk.session.to_bytes(2, "little") + b"\1\0" + b"\x01" * (MAX_PAYLOAD + 500)
    answers = talk.raw(frame(payload))
    assert [a.code for a in answers] == [Error.TOO_LONG]
    assert talk.one("ping", data=b"still here").data == b"still here"


def test_special_tokens_in_a_users_words_are_just_words() -> None:
    host = RawHost(Sim(tinybuddy()))
    special = host.one("tokenize", flags=1, text="<|end|> <s>").ids
    plain = host.one("tokenize", flags=0, text="<|end|> <s>").ids
    model = runtime.Model(tinybuddy())
    assert plain == list(model.encode("<|end|> <s>")) and special == list(model.encode("<|end|> <s>", special=True))
    assert host.one("tokenize", flags=2, text="a b").ids == list(model.encode("a b", bos=True))


# ---- models ----------------------------------------------------------------------------------------


def test_no_model_is_a_clear_state() -> None:
    sim = Sim(flash=1 << 20)
    host = RawHost(sim)
    assert host.hello().model_state == ModelState.NONE
    for name, values in (
        ("generate", GENERATE),
        ("probe", {"flags": 0, "ids": [1]}),
        ("tokenize", {"flags": 0, "text": "x"}),
    ):
        assert host.one(name, **values).code == Error.NO_MODEL
    assert "no model" in typed(sim, b"hello\n")


def test_context_is_the_largest_that_fits() -> None:
    contexts = {}
    for memory in (100_000, 160_000, 200_000, 400_000):
        info = RawHost(Sim(tinybuddy(), memory=memory)).one("info")
        contexts[memory] = info.context
        assert info.memory_used <= info.memory_total <= memory
    values = list(contexts.values())
    assert values == sorted(values) and values[0] < values[-1] == 128, contexts
    small = RawHost(Sim(tinybuddy(), memory=30_000))
    assert small.hello().model_state == ModelState.UNUSABLE
    assert any("self-check" in line for line in small.logs)
    refused = small.one("generate", **GENERATE)
    assert refused.code == Error.MODEL_MEMORY


def test_tinychat_holds_a_conversation() -> None:
    clock = SimClock()
    with Device(SimLink(Sim(talker()), clock), clock) as device:
        replies = [device.chat(f"number {i}", temperature=0.7, seed=i).wait() for i in range(3)]
        assert all(r.text and r.stats.decode_tok_s > 0 for r in replies)
        assert device.info()["model"] == "tinybuddy" and device.info()["selfcheck"] == []


def test_a_certified_head_passes_the_self_check() -> None:
    """Where the kernels are not the reference ones, both must find the same best tokens."""
    clock = SimClock()
    with Device(
        SimLink(Sim(exported(ROOT / "examples" / "tinybuddy", "--q4_0", "--head", "certified")), clock), clock
    ) as device:
        info = device.info()
        assert info["head_mode"] == 1 and info["model_state"] == "ready" and info["selfcheck"] == []


def test_a_blob_of_a_newer_version_is_refused_by_name() -> None:
    at = schema.HEADER.offset("version_major")
    newer = tinybuddy()[:at] + (schema.VERSION_MAJOR + 1).to_bytes(2, "little") + tinybuddy()[at + 2 :]
    welcome = RawHost(Sim(newer)).hello()
    assert (welcome.model_state, welcome.model_error) == (ModelState.UNUSABLE, Error.MODEL_VERSION)


def test_the_store_of_a_fixed_model_is_read_only(talk: RawHost) -> None:
    assert talk.begin(tinybuddy()).code == Error.STORE_READ_ONLY
    assert talk.one("slot", slot=0).name == "slot_is"


def test_changed_helper_is_sound() -> None:
    assert changed(tinybuddy(), lambda content: content) == tinybuddy()


def test_golden_numbers_are_fresh() -> None:
    """What the self-check at boot compares with is what the oracle says today."""
    import golden

    assert golden.main(["--check"]) == 0
