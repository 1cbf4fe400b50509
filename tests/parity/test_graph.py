"""(a2): C on an f32 blob of the dequantised weights against PyTorch fp32 on the same weights, for random models."""

from __future__ import annotations

import os

import pytest
from random_spec import random_model

from tinyexport.blob.schema import InputQuant
from tinyexport.reference.oracle_math import OracleError
from tinyexport.verify import GRAPH_LIMIT, graph_comparison

SEEDS = int(os.environ.get("TLM_GRAPH_SEEDS", "220"))
PER_TEST = 22


@pytest.mark.parametrize("first", range(0, SEEDS, PER_TEST))
def test_random_graphs(first: int) -> None:
    pytest.importorskip("torch")
    compared = 0
    for seed in range(first, first + PER_TEST):
        model = random_model(10_000 + seed)
        if model.content.spec.vocab > 20_000:
            continue  # the same graph, only slower
        try:
            result = graph_comparison(model.content, [int(i) for i in model.ids[:40]])
        except OracleError:
            continue
        compared += 1
        assert result.max_rel_err <= GRAPH_LIMIT, (10_000 + seed, result, model.content.spec)
    assert compared >= PER_TEST // 2


def test_the_seeds_reach_every_input_quantisation() -> None:
    seen = {random_model(10_000 + seed).content.spec.input_quant for seed in range(60)}
    assert seen == set(InputQuant)
