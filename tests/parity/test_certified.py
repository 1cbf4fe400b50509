"""The certified head: all its logits are the oracle's, and a search finds what all of them give, bit for bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from random_spec import certified, random_model, random_tensors
from test_parity import backends, same_bits
from test_parity_sampler import random_params

from tinyexport.blob import reader, writer
from tinyexport.blob.content import BlobContent
from tinyexport.blob.schema import TensorType
from tinyexport.calibrate.head import Head, certify
from tinyexport.reference.oracle import Oracle
from tinyexport.runtime import Model, Sampler, Session

SEEDS = range(40)
CONFIGS = ({}, {"head_rows": 16}, {"head_rows": 64, "threads": 3}, {"threads": 2})


def search(session: Session, ids: np.ndarray, **params: object) -> list[object]:
    """Choices of a sampler along the tokens `ids`."""
    sampler, out = Sampler(**params), []
    for i in range(len(ids)):
        session.eval_sample(ids[i : i + 1], sampler)
        out.append(sampler.sample())
    return out


def from_logits(logits: np.ndarray, **params: object) -> list[object]:
    """The same, from all logits of each token."""
    sampler, out = Sampler(**params), []
    for row in logits:
        sampler.feed(row)
        out.append(sampler.sample())
    return out


@pytest.mark.parametrize("first", SEEDS[::10])
def test_random_models(first: int) -> None:
    for seed in range(first, first + 10):
        rng = np.random.default_rng(seed)
        model = random_model(seed)
        if model.content.spec.vocab > 6000:
            continue
        content = certified(model.content, rng)
        data = writer.build(content)
        assert writer.build(reader.read(data)) == data
        ids = model.ids[:16]
        expected = Oracle(content, model.kv, model.context).eval(ids)
        opened = Model(data)
        params = random_params(rng)
        mask = rng.random(content.spec.vocab) < 0.5
        allowed = mask if mask.any() and rng.random() < 0.5 else None
        wanted = from_logits(expected, allowed=allowed, **params)
        best = from_logits(expected, top_k=1)
        for config in (dict(c, backend=b) for b in backends() for c in CONFIGS):
            options = {"kv": model.kv, "context": model.context, **config}
            assert same_bits(opened.session(**options).eval(ids, want="all"), expected), (seed, config)
            assert search(opened.session(**options), ids, allowed=allowed, **params) == wanted, (seed, config)
            assert search(opened.session(**options), ids, top_k=1) == best, (seed, config)


# ---- heads that are meant to deceive ---------------------------------------------------------------------


def with_rows(rows: np.ndarray, bias: np.ndarray | None = None) -> BlobContent:
    """A small model whose head has these rows."""
    rng = np.random.default_rng(0)
    spec = dataclasses.replace(random_model(0).content.spec, dim=64, vocab=len(rows), context=33, tied=False)
    tensors = {n: t for n, t in random_tensors(spec, rng).items() if n not in ("head", "head_bias")}
    states = rng.standard_normal((300, spec.dim)).astype(np.float32)
    biases = np.zeros(len(rows), np.float32) if bias is None else bias
    return BlobContent(spec=spec, tensors=tensors, head=certify(Head(rows, biases, TensorType.Q4_0), states))


def assert_search_is_exact(content: BlobContent) -> None:
    model = Model(writer.build(content))
    n = min(12, model.context)
    ids = np.random.default_rng(1).integers(0, model.vocab, n)
    logits = model.session().eval(ids, want="all")
    for params in ({"top_k": 1}, {"top_k": 40, "temperature": 0.8}, {"top_k": 256, "temperature": 1.0, "seed": 3}):
        for config in CONFIGS:
            assert search(model.session(**config), ids, **params) == from_logits(logits, **params), (params, config)


ROWS = 1500


def test_equal_rows_tie_and_the_lower_id_wins() -> None:
    rng = np.random.default_rng(2)
    row = rng.standard_normal(64).astype(np.float32)
    content = with_rows(np.repeat(row[None], ROWS, 0))
    assert_search_is_exact(content)
    model = Model(writer.build(content))
    assert [c.id for c in search(model.session(), np.array([5]), top_k=1)] == [0]


def test_pairs_of_equal_rows_far_apart() -> None:
    rows = np.random.default_rng(3).standard_normal((ROWS // 2, 64)).astype(np.float32)
    assert_search_is_exact(with_rows(np.concatenate([rows, rows[::-1]])))


def test_one_huge_row_and_rows_of_zeros() -> None:
    rows = np.random.default_rng(4).standard_normal((ROWS, 64)).astype(np.float32)
    rows[777] *= 1000
    rows[100:900:3] = 0
    assert_search_is_exact(with_rows(rows))


def test_biases_of_both_signs() -> None:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((ROWS, 64)).astype(np.float32)
    assert_search_is_exact(with_rows(rows, (100 * rng.standard_normal(ROWS)).astype(np.float32)))
