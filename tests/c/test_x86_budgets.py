"""No x86 kernel takes more instructions than tests/bench/budgets.json grants; x86_counts.py measures and updates."""

from __future__ import annotations

import budgets
import pytest
import x86_counts


@pytest.mark.parametrize("target", x86_counts.TARGETS)
def test_instructions(target: str) -> None:
    why = x86_counts.missing()
    if why:
        pytest.skip(why)
    measured = x86_counts.measure(target)
    if measured is None:
        pytest.skip("not on this CPU")
    budgets.check(measured)
