"""Kinds of KV cache: how they are written, what they take, and what is refused."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tinyexport.blob import writer
from tinyexport.blob.schema import PosKind
from tinyexport.cli import cli
from tinyexport.errors import ConfigError
from tinyexport.kv import KvKind, check_kv, kv_kinds, parse_kv
from tinyexport.reference.oracle import Oracle
from tinyexport.runtime import Model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parity"))
from random_spec import random_model, random_tensors

SEED = 15  # a small model; its layers are replaced


@pytest.fixture(scope="module")
def model() -> Model:
    """Six kv heads of seven dimensions in one layer, three in the other, two query heads a kv head."""
    content = random_model(SEED).content
    layer = content.spec.layers[0]
    spec = dataclasses.replace(
        content.spec, n_heads=12, head_dim=7, context=40, rope_dims=0, rope_freqs=(), pos_kind=PosKind.NONE,
        layers=tuple(dataclasses.replace(layer, n_kv_heads=n) for n in (6, 3)),
    )  # fmt: skip
    tensors = random_tensors(spec, np.random.default_rng(1))
    return Model(writer.build(dataclasses.replace(content, spec=spec, tensors=tensors)))


def test_spelling() -> None:
    assert [str(parse_kv(kind)) for kind in ("f32", "f16", "i8", "i4/1", "i4/16")] == [
        "f32",
        "f16",
        "i8",
        "i4",
        "i4/16",
    ]
    assert parse_kv("i8/2") == KvKind("i8", 2)


@pytest.mark.parametrize(
    "bad", ["", "i5", "I4", "i4/", "i4/0", "i4/-2", "i4/02", "i4/2 ", "i4/2/2", "f16/2", "i4/99999"]
)
def test_what_is_no_kind_is_named(bad: str, model: Model) -> None:
    for refuse in (lambda: parse_kv(bad), lambda: model.need(kv=bad), lambda: Oracle(model.content, bad)):
        with pytest.raises(ConfigError, match="unknown KV cache") as caught:
            refuse()
        assert "i4/2" in caught.value.hint


def test_groups_that_do_not_suit_the_heads_are_named(model: Model) -> None:
    for kind, layer, heads in (("i4/2", 1, 3), ("i8/6", 1, 3), ("i4/4", 0, 6), ("i4/5", 0, 6), ("i8/12", 0, 6)):
        for refuse in (model.need, model.session, lambda kv: Oracle(model.content, kv)):
            with pytest.raises(ConfigError, match=f"the {heads} kv heads of layer {layer} do not fall") as caught:
                refuse(kv=kind)
            assert caught.value.hint == f"use one of {kind[:2]}, {kind[:2]}/3"
    check_kv(KvKind("i4", 3), (6, 3))


def test_kinds_that_suit() -> None:
    assert kv_kinds("i4", (16, 16)) == ["i4", "i4/2", "i4/4", "i4/8", "i4/16"]
    assert kv_kinds("i8", (6, 3)) == ["i8", "i8/3"]
    assert kv_kinds("f16", (4,)) == ["f16"]


def test_bytes_of_a_page(model: Model) -> None:
    """Codes of the layer with six heads, and two rows of 16 scales a group; to whole 64 bytes."""
    for kind, codes, groups in (("i8", 2 * 6 * 7 * 16, 1), ("i8/3", 2 * 6 * 7 * 16, 3), ("i4/3", 2 * 6 * 4 * 16, 3)):
        need = model.need(kv=kind)
        assert need["page"] == -(-(codes + groups * 2 * 16 * 2) // 64) * 64
        assert model.session(kv=kind).need == need


@pytest.mark.parametrize("kind", ["i8/3", "i4/3"])
def test_one_token_at_a_time_batches_threads_and_rewinds_give_the_oracles_bits(model: Model, kind: str) -> None:
    ids = [int(i) for i in np.random.default_rng(3).integers(0, model.vocab, 40)]
    expected = Oracle(model.content, kind).eval(ids)
    assert not np.array_equal(expected, Oracle(model.content, kind[:2]).eval(ids)), "groups change the result"
    one = model.session(kv=kind)
    assert np.array_equal(np.concatenate([one.eval([i]) for i in ids]), expected)
    for options in ({"batch": 16, "threads": 3}, {"batch": 7, "batch_in_pages": True, "repack": False}):
        session = model.session(kv=kind, **options)
        session.eval(ids[:20], want=None)
        session.rewind(11)
        assert np.array_equal(session.eval(ids[11:], want="all"), expected[11:])


def test_the_command_line_takes_them(model: Model, tmp_path: Path) -> None:
    blob = tmp_path / "m.tlm"
    blob.write_bytes(model.data)
    run = CliRunner().invoke(cli, ["bench", str(blob), "--rounds", "1", "--kv", "q4/3", "--json"])
    assert run.exit_code == 0 and '"kv": "i4/3"' in run.output
    run = CliRunner().invoke(cli, ["bench", str(blob), "--kv", "i4/0"])
    assert run.exit_code == 2 and "take a number of scales" in run.output
    run = CliRunner().invoke(cli, ["bench", str(blob), "--kv", "i4/2"])
    assert isinstance(run.exception, ConfigError) and "i4/3" in run.exception.hint
