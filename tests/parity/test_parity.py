"""(a1): the C runtime equals the oracle bit for bit, for random models, batches, row splits and rewinds."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from random_spec import MATRIX_TYPES, RandomModel, packed_types, random_model

from tinyexport.blob import writer
from tinyexport.blob.schema import TensorType
from tinyexport.kv import KV_TYPES, parse_kv
from tinyexport.native import NativeFault, lib
from tinyexport.reference.oracle import Oracle
from tinyexport.reference.oracle_math import OracleError
from tinyexport.runtime import Model, Session

SEEDS = int(os.environ.get("TLM_PARITY_SEEDS", "540"))
FIRST = int(os.environ.get("TLM_PARITY_FIRST", "0"))
PER_TEST = 20


def backends() -> list[str]:
    return [name for name in ("ref", "avx2", "avx512vnni") if lib().tlm_py_has_backend(name.encode())]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a.view(np.uint32) == b.view(np.uint32)).all())


def steps(ids: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """(rewind to, ids from there on): the sequence in random pieces, with detours that are taken back."""
    at = 0
    while at < len(ids):
        if at and rng.random() < 0.2:
            at = int(rng.integers(0, at))
        n = int(rng.integers(1, min(len(ids) - at, 24) + 1))
        if rng.random() < 0.2:
            yield at, rng.permutation(ids[at : at + n])
        yield at, ids[at : at + n]
        at += n


def run_random(session: Session, model: RandomModel, expected: np.ndarray, rng: np.random.Generator) -> str:
    """Evaluate the model's ids in random steps; what differs, or an empty string."""
    for at, piece in steps(model.ids, rng):
        session.rewind(at)
        want = rng.random(len(piece)) < 0.7
        got = session.eval(piece, want=want)
        if not np.array_equal(piece, model.ids[at : at + len(piece)]):
            continue  # a detour
        ours = expected[at : at + len(piece)][want]
        if not same_bits(got, ours):
            bad = np.argwhere(got.view(np.uint32) != ours.view(np.uint32))
            row, col = bad[0]
            place = f"position {at + np.flatnonzero(want)[row]}, id {col}"
            return f"{len(bad)} of {got.size} logits differ, first {place}: {got[row, col]!r} and {ours[row, col]!r}"
    return ""


def check_seed(seed: int) -> list[str] | None:
    """What differs; None for a model whose values overflow, which is for test_parity_overflow.py."""
    random = random_model(seed)
    rng = np.random.default_rng([seed, 1])
    try:
        expected = Oracle(random.content, random.kv, random.context).eval(random.ids)
    except OracleError:
        return None
    model = Model(writer.build(random.content))
    problems = []
    for backend in backends():
        options = {
            "context": random.context,
            "kv": random.kv,
            "batch": int(rng.integers(1, 17)),
            "threads": int(rng.choice([1, 1, 2, 3, 5])),
            "head_rows": int(rng.choice([0, 0, 1, 7, 40])),
            "repack": bool(rng.random() < 0.5),
            "batch_in_pages": bool(rng.random() < 0.3),
            "backend": backend,
        }
        try:
            problem = run_random(model.session(**options), random, expected, rng)
        except NativeFault as fault:
            problem = fault.name
        if problem:
            problems.append(f"seed {seed}, {options}: {problem}")
    return problems


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, PER_TEST))
def test_c_equals_the_oracle(first: int) -> None:
    found = [check_seed(seed) for seed in range(first, min(first + PER_TEST, FIRST + SEEDS))]
    problems = [problem for problems in found if problems for problem in problems]
    assert not problems, "\n".join(problems)
    assert found.count(None) <= 3


def test_the_seeds_reach_every_type_and_kv_type() -> None:
    """The first 100 models alone hold every weight type and every KV type, and scales of groups of heads."""
    models = [random_model(seed) for seed in range(100)]
    kinds = set().union(*(packed_types(m.content) for m in models))
    assert kinds == {t for t in TensorType if t is not TensorType.U32}
    kinds = [parse_kv(m.kv) for m in models]
    assert {kind.type for kind in kinds} == set(KV_TYPES)
    grouped = [m for m, kind in zip(models, kinds, strict=True) if kind.groups > 1]
    assert {parse_kv(m.kv).type for m in grouped} == {"i8", "i4"}
    assert any(m.content.spec.head_dim % 2 for m in grouped)
    assert any(m.content.spec.n_heads > m.content.spec.layers[0].n_kv_heads for m in grouped)
    assert any("layers.0.k_feedback" in m.content.tensors for m in grouped if m.kv.startswith("i4"))
    assert len(MATRIX_TYPES) == 6
