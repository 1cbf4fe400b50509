"""The ESP32-S3's instruction budgets; goals that are reached stay so."""

from __future__ import annotations

import budgets
import pytest
from insn_count import need
from pie_counts import kernels, tokens
from pie_token import TARGET, measure

from tinyexport.cost import STALLS, extras

# Instructions a weight, or a weight and vector: what the project asks for, where it is reached. In fours it is not for
# q4_0 (0.283 at 128 columns, 0.275 at 512) and for q8_0 at 128 (0.279): runtime_c/PERFORMANCE.md tells why.
GOALS = {
    "linear_q4_0/128x128": 0.36,
    "linear_q4_0/128x512": 0.36,
    "linear_q8_0/128x128": 0.36,
    "linear_q8_0/128x512": 0.36,
    "linear_t2/128x128": 0.25,
    "linear_t2/128x512": 0.25,
    "linear_t2/128x128x4": 0.27,
    "linear_t2/128x512x4": 0.27,
    "linear_t2/128x128x16": 0.27,
    "batch_q4_0/128x128x8": 0.27,
    "batch_q4_0/128x128x16": 0.27,
    "batch_q4_0/128x512x8": 0.27,
    "batch_q4_0/128x512x16": 0.27,
    "batch_q8_0/128x128x8": 0.27,
    "batch_q8_0/128x128x16": 0.27,
    "batch_q8_0/128x512x4": 0.27,
    "batch_q8_0/128x512x8": 0.27,
    "batch_q8_0/128x512x16": 0.27,
}


@pytest.fixture(scope="module")
def measured() -> budgets.Measured:
    return kernels()


def test_no_kernel_takes_more_than_its_budget(measured: budgets.Measured) -> None:
    """After a change that is meant: `python tests/emu/pie_counts.py --update --reason WHY`."""
    budgets.check(measured)


@pytest.mark.parametrize("key", GOALS)
def test_goals(measured: budgets.Measured, key: str) -> None:
    weights = 1
    for size in key.split("/")[1].split("x"):
        weights *= int(size)
    assert measured.counts[key] / weights <= GOALS[key]


def test_tinytalk() -> None:
    """Whole tokens by counts alone."""
    need(TARGET)
    found = tokens()
    for case, count in found.counts.items():
        window = case.split(",")[0]
        assert count <= {"decode at 40": 2.2e6, "prefill of 60": 60e6, "sampling": 1e4}[window]
    budgets.check(found)


@pytest.mark.parametrize("groups", [4, 16])
def test_finer_scales_take_what_the_plan_takes(groups: int) -> None:
    """What a decoded token takes more than with one scale a position."""
    need(TARGET)
    one, finer = (measure(kind)["decode at 40"].total for kind in ("i4", f"i4/{groups}"))
    of_plan = [extras(128, 8, 16, 512, 14_019, 40, 1, groups=n).attention / STALLS for n in (1, groups)]
    assert finer - one == pytest.approx(of_plan[1] - of_plan[0], rel=0.05)
