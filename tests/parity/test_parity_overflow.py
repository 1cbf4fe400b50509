"""Models whose values overflow: C and the oracle refuse the same evaluations, and agree on the bits of the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from random_spec import RandomModel, random_model
from test_parity import backends, same_bits

from tinyexport import quant
from tinyexport.blob import writer
from tinyexport.errors import QuantError
from tinyexport.native import NativeFault
from tinyexport.reference.oracle import Oracle
from tinyexport.reference.oracle_math import OracleError
from tinyexport.runtime import Model


def overflowing(seed: int) -> RandomModel:
    """A random model with one tensor scaled far out of its usual range."""
    model = random_model(seed)
    rng = np.random.default_rng([seed, 2])
    tensors = dict(model.content.tensors)
    # Scales of keys out of their range are refused with the blob.
    name = str(rng.choice(sorted(n for n in tensors if not n.endswith(".k_range"))))
    factor = np.float32(rng.choice([1e4, 1e12, 1e19, 1e30, 1e36]))
    values = np.clip(tensors[name].dequantise(), -10, 10) * factor
    kind = tensors[name].kind.name.lower()
    try:
        tensors[name] = quant.quantise(kind, values)
    except QuantError:  # float16 scales: as far as they go
        tensors[name] = quant.quantise(kind, values / np.float32(np.abs(values).max() / 60000))
    return dataclasses.replace(model, content=dataclasses.replace(model.content, tensors=tensors))


def outcome(run: Callable[..., np.ndarray], *arguments: object) -> np.ndarray | None:
    try:
        return run(*arguments)
    except OracleError:
        return None
    except NativeFault as fault:
        assert fault.name == "TLM_ERR_NUMERIC"
        return None


def test_overflow_is_refused_alike() -> None:
    refused = 0
    for seed in range(1000, 1100):
        random = overflowing(seed)
        oracle = Oracle(random.content, random.kv, random.context)
        expected = outcome(oracle.eval, random.ids)
        refused += expected is None
        model = Model(writer.build(random.content))
        for backend in backends():
            session = model.session(context=random.context, kv=random.kv, backend=backend)
            got = outcome(session.eval, random.ids, "all")
            assert (got is None) == (expected is None), f"seed {seed}, {backend}"
            assert session.position == oracle.position, f"seed {seed}, {backend}"
            if got is not None and np.isfinite(expected).all():
                assert same_bits(got, expected), f"seed {seed}, {backend}"
    assert 5 <= refused <= 95, "the test should see both outcomes"
