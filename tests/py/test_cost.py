"""The cost model's instructions are the counted ones."""

from __future__ import annotations

import budgets
import pytest

from tinyexport.cost import (
    BARRIER_S,
    BATCH_PER_TOKEN,
    BATCH_UNPACK,
    COUNTED,
    CPU_HZ,
    CYCLES_PER_WEIGHT,
    FIRMWARE_S,
    STALLS,
    FittedKeys,
    extras,
)

TINYTALK = {"dim": 128, "layers": 8, "heads": 16, "ffn": 512, "vocab": 14_019}
CORE, HEAD = 8 * 12 * 128 * 128, 14_019 * 128


@pytest.fixture(scope="module")
def table() -> budgets.Table:
    return budgets.load()[1]


def test_the_figures_are_those_of_the_table(table: budgets.Table) -> None:
    for target, cases in COUNTED.items():
        for case, count in cases.items():
            assert count == table[target][case]["instructions"], (target, case)


def instructions(position: int, decode: bool) -> float:
    """What the model takes for a token of TinyTalk's shape, without weights and waiting."""
    cost = extras(**TINYTALK, position=position, cores=1)
    cycles = cost.attention + cost.activation + cost.rest - 49 * BARRIER_S * CPU_HZ
    return (cycles + (cost.sampling - FIRMWARE_S * CPU_HZ if decode else 0)) / STALLS


def test_a_decoded_token_is_the_counted_one(table: budgets.Table) -> None:
    weights = CYCLES_PER_WEIGHT["esp32s3"]["q4_0"] / STALLS * (CORE + HEAD)
    found = table["esp32s3 token"]
    counted = sum(found[f"{part}, i8 cache"]["instructions"] for part in ("decode at 40", "sampling"))
    assert instructions(40, True) + weights == pytest.approx(counted, rel=0.03)


def test_a_prefill_is_the_counted_one(table: budgets.Table) -> None:
    """Three batches of 16 and one of 12; the last token is followed by the head."""
    body = sum(instructions(position, False) for position in range(60))
    weights = CORE / STALLS * (4 * BATCH_UNPACK + 60 * BATCH_PER_TOKEN)
    head = instructions(0, True) - instructions(0, False) + CYCLES_PER_WEIGHT["esp32s3"]["q4_0"] / STALLS * HEAD
    assert body + weights + head == pytest.approx(
        table["esp32s3 token"]["prefill of 60, i8 cache"]["instructions"], rel=0.05
    )


@pytest.mark.parametrize("cache", ["i8", "i4"])
def test_fitted_keys_take_what_was_counted(table: budgets.Table, cache: str) -> None:
    """What rules 12 and 15 add to a decoded token, and to a prefill of three batches of 16 and one of 12."""
    channels = TINYTALK["layers"] * TINYTALK["dim"]
    keys = FittedKeys(channels, channels, channels if cache == "i4" else 0)

    def modelled(batch: int) -> float:
        return extras(**TINYTALK, position=0, cores=1, keys=keys, batch=batch).keys / STALLS

    for window, here in (("decode at 40", modelled(1)), ("prefill of 60", 48 * modelled(16) + 12 * modelled(12))):
        case = f"{window}, {cache} cache"
        fitted, plain = (table["esp32s3 token"][key]["instructions"] for key in (f"{case}, fitted keys", case))
        assert here == pytest.approx(fitted - plain, rel=0.1)


def test_fed_keys_of_an_odd_shape_are_the_references() -> None:
    """Counted on a RISC-V core: several times what the assembly takes, more for longer heads."""

    def modelled(**keys: int) -> float:
        return extras(**TINYTALK, position=0, cores=1, keys=FittedKeys(**keys), batch=16).keys / STALLS

    assert modelled(odd=1024) > 5 * modelled(fed=1024) > 0
    assert modelled(odd=1024, head_dim=64) > 6 * modelled(odd=1024)
