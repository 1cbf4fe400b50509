"""The C runtime from Python, on the example model that the repository carries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyexport.errors import RuntimeFault
from tinyexport.native import NativeFault
from tinyexport.pipeline import QuantizeOptions, SourceOptions, quantize
from tinyexport.runtime import NEED_KEYS, Decoder, Model, Sampler, Session, generate

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def blob() -> bytes:
    return quantize(SourceOptions(str(ROOT / "examples" / "tinybuddy")), QuantizeOptions(preset="q8_0")).data


@pytest.fixture(scope="module")
def model(blob: bytes) -> Model:
    return Model(blob)


@pytest.fixture
def session(model: Model) -> Session:
    return model.session()


@pytest.fixture
def prompt(model: Model) -> list[int]:
    return model.encode(PROMPT, bos=True)


# ---- model and tokenizer -------------------------------------------------------------------------


def test_a_model_opens_from_a_path_and_tells_its_facts(blob: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tlm"
    path.write_bytes(blob)
    model = Model(path)
    assert (model.vocab, model.context) == (model.spec.vocab, model.spec.context)
    assert model.info["arch"]
    assert model.chat is not None
    assert model.stop_ids == model.chat.stop_ids
    assert model.bos == 1


def test_encode_and_decode(model: Model) -> None:
    ids = model.encode(PROMPT, bos=True)
    assert ids[0] == model.bos
    assert ids[1:] == model.encode(PROMPT.encode())
    assert model.decode(ids[1:]) == PROMPT.encode()
    assert b"".join(model.piece(i) for i in ids[1:]).strip() == PROMPT.encode()
    assert model.encode("") == []
    assert model.token_id(b"no such piece at all") is None


def test_text_that_is_not_utf8_survives(model: Model) -> None:
    raw = b"a\xffb\xc3"
    assert model.decode(model.encode(raw)) == raw
    assert model.encode(raw.decode("utf-8", "surrogateescape")) == model.encode(raw)


def test_streaming_never_cuts_a_character(model: Model) -> None:
    text = "naïve 🙂 ü"
    decoder = Decoder(model)
    parts = [decoder.push(i) for i in model.encode(text)] + [decoder.end()]
    assert all(part.decode("utf-8") is not None for part in parts)
    assert b"".join(parts).decode().strip() == text


# ---- eval ----------------------------------------------------------------------------------------


def test_want_chooses_the_rows(session: Session, prompt: list[int]) -> None:
    every = session.eval(prompt, want="all")
    assert every.shape == (len(prompt), session.model.vocab)
    for want, rows in (("last", [-1]), ([True] + [False] * (len(prompt) - 1), [0]), (None, [])):
        session.rewind(0)
        got = session.eval(prompt, want=want)
        assert (got == every[rows]).all()
        assert len(got) == len(rows)
        assert session.position == len(prompt)


def test_batches_slices_and_threads_change_no_bit(model: Model) -> None:
    ids = np.random.default_rng(1).integers(0, model.vocab, 50)
    whole = model.session().eval(ids, want="all")
    for options in ({"batch": 1}, {"batch": 5, "threads": 3}, {"head_rows": 9}, {"batch_in_pages": True}):
        assert (model.session(**options).eval(ids, want="all") == whole).all(), options


def test_a_refused_eval_leaves_the_context_as_it_was(session: Session, prompt: list[int]) -> None:
    session.eval(prompt)
    for ids, name in (
        ([0, session.model.vocab], "TLM_ERR_TOKEN"),
        ([-1], "TLM_ERR_TOKEN"),
        ([2**40], "TLM_ERR_TOKEN"),
        ([0] * session.context, "TLM_ERR_CONTEXT"),
    ):
        with pytest.raises(NativeFault) as fault:
            session.eval(ids)
        assert (fault.value.name, session.position) == (name, len(prompt))
        assert fault.value.hint


def test_wrong_arguments_are_named(model: Model, session: Session) -> None:
    for want in ("first", [True, False, True]):
        with pytest.raises(RuntimeFault, match="want"):
            session.eval([1, 2], want=want)
    with pytest.raises(RuntimeFault, match="position 1"):
        session.rewind(1)
    named = ({"context": 0}, {"context": 10**6}, {"batch": -1}, {"threads": 2**33}, {"backend": "mmx"})
    for options in named:
        with pytest.raises(RuntimeFault):
            model.session(**options)
    for options in ({"batch": 0}, {"batch": 17}, {"threads": 99}):
        with pytest.raises(NativeFault):
            model.session(**options)


def test_need_is_what_a_session_takes(model: Model) -> None:
    small = model.session(context=32, kv="i8", batch=1, repack=False)
    assert tuple(small.need) == NEED_KEYS
    assert small.need == model.need(context=32, kv="i8", batch=1, repack=False)
    assert model.need(kv="f32")["page"] > model.need(kv="i8")["page"] > model.need(kv="i4")["page"]
    assert small.context == 32


def test_sessions_come_and_go_in_any_order(blob: bytes) -> None:
    """A session keeps its model; threads end with their session."""
    sessions = [Model(blob).session(threads=1 + i % 4) for i in range(20)]
    rows = [s.eval([3, 4, 5]) for s in sessions]
    del sessions[::2]
    assert all((row == rows[0]).all() for row in rows)
    assert all((s.eval([6]) == sessions[0].eval([6])).all() for s in sessions[1:2])


def test_bench_times_both_phases(session: Session) -> None:
    assert all(t > 0 for t in session.bench(20, 5))
    with pytest.raises(NativeFault):
        session.bench(session.context + 1, 0)


# ---- generate ------------------------------------------------------------------------------------


def greedy(model: Model, ids: list[int], n: int) -> list[int]:
    session, out = model.session(), []
    for _ in range(n):
        row = session.eval(ids)[0]
        ids = [int(row.argmax())]
        out += ids
    return out


def test_generate_is_eval_and_sample(model: Model, session: Session, prompt: list[int]) -> None:
    run = generate(session, Sampler(temperature=0.0), prompt, 30, stop_ids=())
    steps = list(run)
    assert [s.id for s in steps] == greedy(model, prompt, 30)
    assert run.stop_reason == "length"
    assert run.text == "".join(s.text for s in steps) == model.decode([s.id for s in steps]).decode()
    assert all(s.choice.logprob <= 0 for s in steps)


def test_the_same_seed_gives_the_same_text(model: Model, prompt: list[int]) -> None:
    texts = []
    for seed in (1, 1, 2):
        run = generate(model.session(), Sampler(model, seed=seed, temperature=1.0), prompt, 40, stop_ids=())
        texts.append("".join(s.text for s in run))
    assert texts[0] == texts[1] != texts[2]


def test_a_stop_token_ends_the_text_and_is_not_part_of_it(model: Model, prompt: list[int]) -> None:
    ids = greedy(model, prompt, 20)
    stop = ids[7]
    run = generate(model.session(), Sampler(temperature=0.0), prompt, 20, stop_ids=[stop])
    assert [s.id for s in run] == ids[: ids.index(stop)]
    assert run.stop_reason == "stop_token"


@pytest.mark.parametrize("length", [1, 2, 5, 11])
def test_no_part_of_a_stop_string_is_shown(model: Model, prompt: list[int], length: int) -> None:
    """Stop strings begin and end inside pieces; text is given out only when it can not be part of one."""
    full = model.decode(greedy(model, prompt, 25)).decode()
    for start in range(0, len(full) - length, 3):
        stop = full[start : start + length]
        run = generate(model.session(), Sampler(temperature=0.0), prompt, 25, stop_ids=(), stop_strings=["@@", stop])
        shown = "".join(s.text for s in run)
        assert shown == run.text == full[: full.index(stop)]
        assert run.stop_reason == "stop_string"


def test_text_held_for_a_stop_string_is_given_out_in_the_end(model: Model, prompt: list[int]) -> None:
    full = model.decode(greedy(model, prompt, 6)).decode()
    stop = full[-3:] + "@never@"
    run = generate(model.session(), Sampler(temperature=0.0), prompt, 6, stop_ids=(), stop_strings=[stop])
    steps = list(run)
    assert "".join(s.text for s in steps) == full
    assert len(steps) == 6


def test_a_full_context_ends_the_text(model: Model, prompt: list[int]) -> None:
    session = model.session(context=len(prompt) + 3)
    run = generate(session, Sampler(temperature=0.0), prompt, 50, stop_ids=())
    assert len(list(run)) == 4  # the last token needs no room: it is not evaluated
    assert run.stop_reason == "context"
    assert list(generate(session, Sampler(), [1], 0)) == []


def test_a_mask_allows_only_its_tokens(model: Model, prompt: list[int]) -> None:
    allowed = np.zeros(model.vocab, bool)
    allowed[[10, 20, 30]] = True
    run = generate(model.session(), Sampler(temperature=1.0, allowed=allowed), prompt, 20, stop_ids=())
    assert {s.id for s in run} <= {10, 20, 30}
    with pytest.raises(RuntimeFault, match="mask has 3 ids"):
        model.session().eval_sample(prompt, Sampler(allowed=[True] * 3))


# ---- faults --------------------------------------------------------------------------------------


def test_files_that_are_no_blobs(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match="can not be read"):
        Model(tmp_path / "absent.tlm")
    for data, name in ((b"", "TLM_ERR_TRUNCATED"), (b"GGUF" + bytes(100), "TLM_ERR_MAGIC")):
        with pytest.raises(NativeFault) as fault:
            Model(data)
        assert fault.value.name == name
        assert fault.value.hint


def test_a_missing_library_is_explained(tmp_path: Path) -> None:
    code = "from tinyexport.native import lib\nfrom tinyexport.errors import RuntimeFault\n"
    code += "try: lib()\nexcept RuntimeFault as e: print(e.message, '|', e.hint)"
    env = {**os.environ, "TINYEXPORT_LIB": str(tmp_path / "absent.so")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "can not be loaded" in done.stdout
    assert "TINYEXPORT_LIB" in done.stdout
