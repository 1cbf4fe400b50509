"""The blob format: writer and reader are inverse, and both readers (Python and C) refuse the same lies."""

from __future__ import annotations

import dataclasses
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tinyexport import quant
from tinyexport.blob import reader, schema, writer
from tinyexport.blob.content import CertifiedHead
from tinyexport.blob.schema import Section, TensorType
from tinyexport.blob.writer import BlobContent, ChatSpec
from tinyexport.errors import BlobError
from tinyexport.native import NativeFault
from tinyexport.quant import QTensor, quantise
from tinyexport.runtime import Model

sys.path.append(str(Path(__file__).parents[1] / "parity"))
from random_spec import certified, random_model

LENGTH, FEATURES, VERSION = (schema.HEADER.offset(f) for f in ("file_bytes", "required_features", "version_major"))
CHAT = ChatSpec(
    kind=schema.ChatKind.TURNS,
    add_bos=True,
    stop_ids=(0, 1),
    user_prefix="User: ",
    reply_prefix="\nBot:",
    turn_end="\n",
    stop_strings=("User:", "é"),
    temperature=0.7,
    top_k=40,
    top_p=0.9,
    min_p=0.05,
    repeat_penalty=1.1,
    repeat_window=64,
    max_tokens=100,
)
INFO = {"name": "test", "licence": "MIT", "ünicode": "ja"}


def tiny(seed: int = 11) -> BlobContent:
    """A few KB with every kind of section but a tokenizer."""
    return dataclasses.replace(random_model(seed).content, chat=CHAT, info=INFO)


def with_certified_head(seed: int) -> BlobContent:
    """The same with a certified head, where the model is wide enough for two stages."""
    return certified(tiny(seed), np.random.default_rng(seed))


def small_seeds(limit: int, count: int) -> list[int]:
    """Seeds of random models whose blobs take at most `limit` bytes."""
    found = (s for s in range(2000) if len(writer.build(random_model(s).content)) <= limit)
    return [next(found) for _ in range(count)]


def with_crc(data: bytes) -> bytes:
    return data[:4] + struct.pack("<I", zlib.crc32(data[schema.CRC_START :])) + data[8:]


def python_accepts(data: bytes) -> bool:
    try:
        reader.read(data)
    except BlobError as err:
        assert err.message
        assert err.hint
        return False
    return True


def c_error(data: bytes) -> str:
    """The name of C's error, empty when it opens the blob."""
    try:
        Model(data)
    except NativeFault as err:
        return err.name
    return ""


def run_a_little(data: bytes) -> None:
    """What both readers accept can be evaluated: to logits, or to the error for overflow."""
    model = Model(data)
    session = model.session(context=min(3, model.context))
    try:
        assert session.eval([0]).shape == (1, model.vocab)
    except NativeFault as err:
        assert err.name == "TLM_ERR_NUMERIC"


def assert_agree(data: bytes, what: str) -> None:
    """A TOKENIZER section, which C checks and the Python reader hands on, decides alone only where C refuses it."""
    ours, theirs = python_accepts(data), c_error(data)
    if ours and theirs and reader.read(data).tokenizer is not None:
        return
    assert ours == (theirs == ""), f"{what}: Python {'accepts' if ours else 'refuses'}, C says {theirs or 'fine'}"
    if ours:
        run_a_little(data)


# ---- round trips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_read_is_the_inverse_of_build(seed: int) -> None:
    content = dataclasses.replace(tiny(seed), chat=CHAT if seed % 2 else None, info=INFO if seed % 3 else {})
    data = writer.build(content)
    back = reader.read(data)
    assert writer.build(back) == data == writer.build(content)
    assert list(back.tensors) == list(content.tensors)
    for name, tensor in content.tensors.items():
        assert (back.tensors[name].codes == tensor.codes).all()
        assert back.tensors[name].kind is tensor.kind
    assert back.info == content.info
    assert back.spec.layers == content.spec.layers
    assert back.spec.rope_freqs == pytest.approx(content.spec.rope_freqs, abs=1e-8)
    assert c_error(data) == ""


def test_chat_comes_back_as_float32() -> None:
    back = reader.read(writer.build(tiny())).chat
    assert back is not None
    for field in dataclasses.fields(ChatSpec):
        value = getattr(CHAT, field.name)
        expected = pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
        assert getattr(back, field.name) == expected


def test_bytes_after_the_blob_do_not_matter() -> None:
    """A blob in a flash partition is followed by erased bytes."""
    data = writer.build(tiny())
    assert python_accepts(data + b"\xff" * 100)
    assert c_error(data + b"\xff" * 100) == ""


# ---- lies ----------------------------------------------------------------------------------------


def test_every_truncation_is_refused_by_both() -> None:
    """Cut as it is, and cut with length and checksum made to fit."""
    data = writer.build(tiny(small_seeds(4000, 1)[0]))
    for n in range(len(data)):
        cut = data[:n]
        assert not python_accepts(cut), n
        assert c_error(cut), n
        if n >= schema.HEADER.size:
            assert_agree(with_crc(cut[:LENGTH] + struct.pack("<I", n) + cut[LENGTH + 4 :]), f"length set to {n}")


def test_every_changed_byte_is_noticed() -> None:
    data = writer.build(tiny(small_seeds(4000, 1)[0]))
    for at in range(0, len(data), 3):
        changed = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        assert not python_accepts(changed), at
        assert c_error(changed), at


def structure_bytes(data: bytes) -> int:
    """Bytes before DATA: where a change hurts most."""
    for i in range(schema.HEADER.unpack(data)["n_sections"]):
        row = schema.SECTION.unpack(data, schema.HEADER.size + i * schema.SECTION.size)
        if row["kind"] == Section.DATA:
            return int(row["offset"])
    raise AssertionError("no DATA section")


@pytest.mark.parametrize("head", ["plain", "certified"])
@pytest.mark.parametrize("seed", small_seeds(6000, 6))
def test_hostile_changes_with_a_right_checksum(seed: int, head: str) -> None:
    """Random bytes replaced, checksum recomputed: both readers accept or both refuse, and neither crashes."""
    rng = np.random.default_rng(seed)
    data = writer.build(tiny(seed) if head == "plain" else with_certified_head(seed))
    structure = structure_bytes(data)
    interesting = (0, 1, 2, 0x7F, 0x80, 0xFF)
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
            at = int(rng.integers(0, structure if rng.random() < 0.7 else len(data)))
            broken[at] = int(rng.choice(interesting)) if rng.random() < 0.5 else int(rng.integers(0, 256))
        assert_agree(with_crc(bytes(broken)), f"seed {seed}")


def fields(data: bytes) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of every field of every record."""
    sections = [
        schema.SECTION.unpack(data, schema.HEADER.size + i * schema.SECTION.size)
        for i in range(schema.HEADER.unpack(data)["n_sections"])
    ]
    records = [(schema.HEADER, 0)]
    records += [(schema.SECTION, schema.HEADER.size + i * schema.SECTION.size) for i in range(len(sections))]
    for row in sections:
        at, end = row["offset"], row["offset"] + row["bytes"]
        if row["kind"] == Section.SPEC:
            records.append((schema.SPEC, at))
            records += [(schema.LAYER, p) for p in range(at + schema.SPEC.size, end, schema.LAYER.size)]
        elif row["kind"] == Section.TENSORS:
            records += [(schema.TENSOR, p) for p in range(at, end, schema.TENSOR.size)]
        elif row["kind"] == Section.CHAT:
            records.append((schema.CHAT, at))
        elif row["kind"] == Section.HEAD:
            records.append((schema.HEAD, at))
    for record, at in records:
        for field in record.fields:
            yield f"{record.name}.{field.name}", at + record.offset(field.name), field.size // field.count


FLOATS = [struct.pack("<f", v) for v in (0.0, -0.0, -1.0, 1e-45, 1e38, float("inf"), float("nan"), 0.99999)]


@pytest.mark.parametrize("head", ["plain", "certified"])
@pytest.mark.parametrize("seed", small_seeds(9000, 6))
def test_fields_set_to_extremes(seed: int, head: str) -> None:
    data = writer.build(tiny(seed) if head == "plain" else with_certified_head(seed))
    chosen = list(fields(data))
    np.random.default_rng(seed).shuffle(chosen)
    for name, at, size in chosen[:80]:
        at, size = int(at), int(size)
        old = int.from_bytes(data[at : at + size], "little")
        top = 256**size - 1
        values = [(v & top).to_bytes(size, "little") for v in (0, 1, old - 1, old + 1, old * 2, top, top // 2 + 1)]
        for value in values + (FLOATS if size == 4 else []):
            assert_agree(with_crc(data[:at] + value + data[at + size :]), f"seed {seed}: {name} = {value.hex()}")


# ---- lies of a certified head: each with a right checksum, refused by both readers --------------------------


def head_lies(head: CertifiedHead) -> Iterator[tuple[str, str, CertifiedHead]]:
    """(what, C's error, a head that says it)."""
    replace = dataclasses.replace
    twice, beyond = head.ids.copy(), head.ids.copy()
    twice[0] = twice[1]
    beyond[0] = len(head.ids)
    low = head.norms.copy()
    low[0, int(low[0].argmax())] -= 2
    wide = QTensor(TensorType.F32, 1, head.offset.cols + 1, np.zeros((1, head.offset.cols + 1), np.float32))
    yield "a token twice", "TLM_ERR_FORMAT", replace(head, ids=twice)
    yield "a token beyond the vocabulary", "TLM_ERR_FORMAT", replace(head, ids=beyond)
    yield "a norm below its row", "TLM_ERR_FORMAT", replace(head, norms=low)
    yield "a norm scale of zero", "TLM_ERR_FORMAT", replace(head, norm_scale=head.norm_scale * np.float32(0))
    yield "an infinite norm scale", "TLM_ERR_FORMAT", replace(head, norm_scale=head.norm_scale * np.float32(np.inf))
    yield "a negative norm scale", "TLM_ERR_FORMAT", replace(head, norm_scale=-head.norm_scale)
    for scale in (-0.0, -1.0, 2.0**121, np.inf, np.nan):
        yield f"a bias scale of {scale}", "TLM_ERR_FORMAT", replace(head, bias_scale=np.float32(scale))
    yield "a wrong offset", "TLM_ERR_FORMAT", replace(head, offset=wide)
    yield "a stage missing", "TLM_ERR_FORMAT", replace(head, stages=head.stages[:-1], norms=head.norms[:-1])
    yield "an f16 stage", "TLM_ERR_FORMAT", replace(head, stages=(*head.stages[:-1], as_f16(head.stages[-1])))


def as_f16(t: QTensor) -> QTensor:
    return quantise("f16", t.dequantise())


def test_lies_of_a_certified_head_are_refused_by_both(monkeypatch: pytest.MonkeyPatch) -> None:
    content = next(c for c in map(with_certified_head, small_seeds(30_000, 40)) if len(c.head.stages) > 2)
    true = writer.build(content)
    assert python_accepts(true)
    assert c_error(true) == ""
    for what, error, head in head_lies(content.head):
        with monkeypatch.context() as patched:
            patched.setattr(writer, "check", lambda _content: None)
            data = writer.build(dataclasses.replace(content, head=head))
        assert not python_accepts(data), what
        assert c_error(data) == error, what


def test_a_head_section_and_its_feature_belong_together() -> None:
    for content, bit in ((tiny(), 2), (with_certified_head(11), 0)):
        data = bytearray(writer.build(content))
        data[FEATURES] = bit
        assert not python_accepts(with_crc(bytes(data)))
        assert c_error(with_crc(bytes(data))) == "TLM_ERR_FORMAT"


def test_texts_that_are_no_utf8_are_refused_by_both() -> None:
    data = writer.build(tiny())
    for text in (b"User: ", b"ja"):
        at = data.rindex(text)
        broken = with_crc(data[:at] + b"\xff" + data[at + 1 :])
        assert not python_accepts(broken)
        assert c_error(broken) == "TLM_ERR_FORMAT"


def test_unknown_features_and_versions_are_named() -> None:
    data = bytearray(writer.build(tiny()))
    newer = data.copy()
    newer[VERSION] = 2
    unknown = (with_crc(bytes(data[:FEATURES] + bit + data[FEATURES + 1 :])) for bit in (b"\x80", b"\x01"))
    for broken in (newer, *unknown):  # 1: certified heads with biases of f16
        assert c_error(bytes(broken)) == "TLM_ERR_VERSION"
        with pytest.raises(BlobError, match=r"version|feature"):
            reader.read(bytes(broken))


def test_a_newer_minor_version_may_bring_new_sections() -> None:
    """Both readers skip a section kind that they do not know when the minor version is higher, and only then."""
    content = dataclasses.replace(tiny(), info={"k": "v"})
    data = bytearray(writer.build(content))
    last = schema.HEADER.size + (schema.HEADER.unpack(data)["n_sections"] - 1) * schema.SECTION.size
    struct.pack_into("<I", data, last, 99)
    assert not python_accepts(with_crc(bytes(data)))
    assert c_error(with_crc(bytes(data))) == "TLM_ERR_FORMAT"
    struct.pack_into("<H", data, schema.HEADER.offset("version_minor"), 1)
    assert reader.read(with_crc(bytes(data))).info == {}
    assert c_error(with_crc(bytes(data))) == ""


def test_key_tensors_that_lie_are_refused_by_both() -> None:
    """A scale that would blow up or wipe out a channel, and feedback of a type whose values have no bound."""
    content = next(random_model(s).content for s in range(200) if "layers.0.k_range" in random_model(s).content.tensors)
    name, data = "layers.0.k_range", writer.build(content)
    scale = content.tensors[name].codes[1, 0].astype("<f4").tobytes()
    at = data.index(scale, data.index(content.tensors[name].codes[0, :1].astype("<f4").tobytes()))
    for value in (0.0, -1.0, 2.0**-21, 2.0**21, 1e38):
        bad = with_crc(data[:at] + struct.pack("<f", value) + data[at + 4 :])
        assert not python_accepts(bad)
        assert c_error(bad) == "TLM_ERR_WEIGHTS"
    for value in (2.0**-20, 2.0**20):
        assert python_accepts(good := with_crc(data[:at] + struct.pack("<f", value) + data[at + 4 :]))
        assert c_error(good) == ""
    shape = content.spec.head_dim, content.spec.head_dim * content.spec.layers[0].n_kv_heads
    floats = {"layers.0.k_feedback": quant.quantise("f32", np.ones(shape, np.float32))}
    with pytest.raises(BlobError, match="k_feedback can not be of type f32"):
        writer.build(dataclasses.replace(content, tensors=content.tensors | floats))


# ---- the writer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 7}, "not \\[|missing|is \\["),
        ({"vocab": 0}, "vocab"),
        ({"n_heads": 5000}, "heads"),
        ({"norm_eps": float("nan")}, "norm_eps"),
        ({"attn_scale": 1e-50}, "attn_scale"),
        ({"context": 1 << 21}, "context"),
        ({"layers": ()}, "layers"),
    ],
)
def test_the_writer_refuses_contradictions(change: dict[str, object], message: str) -> None:
    content = tiny()
    with pytest.raises(BlobError, match=message):
        writer.build(dataclasses.replace(content, spec=dataclasses.replace(content.spec, **change)))


def test_the_writer_refuses_missing_and_foreign_tensors() -> None:
    content = tiny()
    without = {k: v for k, v in content.tensors.items() if k != "layers.0.wq"}
    with pytest.raises(BlobError, match=r"layers\.0\.wq is missing"):
        writer.build(dataclasses.replace(content, tensors=without))
    foreign = {**content.tensors, "layers.99.wq": quant.quantise("f32", np.ones((1, 1)))}
    with pytest.raises(BlobError, match=r"layers\.99\.wq does not belong"):
        writer.build(dataclasses.replace(content, tensors=foreign))


def test_write_replaces_a_file_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tlm"
    writer.write(path, b"old")
    writer.write(path, b"new")
    assert path.read_bytes() == b"new"

    def interrupted(_handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.write(path, b"half")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["x.tlm"]
