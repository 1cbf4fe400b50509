"""Instruction budgets of the reference kernels on the emulated cores."""

from __future__ import annotations

import os

import budgets
import pytest
from insn_count import build
from kernel_counts import measure


@pytest.mark.parametrize("name", build.TARGETS)
def test_no_kernel_takes_more_than_its_budget(name: str) -> None:
    """After a change that is meant: `python tests/emu/kernel_counts.py --update --reason WHY`."""
    if reason := build.missing(build.TARGETS[name]):
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    budgets.check(measure(build.TARGETS[name]))
