"""Instruction budgets of the reference kernels on the emulated cores."""

from __future__ import annotations

import budgets
import pytest
from insn_count import build, need
from kernel_counts import measure


@pytest.mark.parametrize("name", build.TARGETS)
def test_no_kernel_takes_more_than_its_budget(name: str) -> None:
    """After a change that is meant: `python tests/emu/kernel_counts.py --update --reason WHY`."""
    need(build.TARGETS[name])
    budgets.check(measure(build.TARGETS[name]))
