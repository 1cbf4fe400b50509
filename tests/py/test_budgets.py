"""The table of instruction budgets: what passes, what fails, what an update must say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import budgets
import pytest
from budgets import BudgetError, Measured


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A table with one target."""
    compilers, table = budgets.load(tmp_path / "none.json")
    budgets.updated(compilers, table, Measured("x", "cc 1", {"add/8": 100, "add/16": 200}), "first")
    budgets.save(compilers, table, tmp_path / "table.json")
    return tmp_path / "table.json"


def test_three_percent_and_no_more(path: Path) -> None:
    budgets.check(Measured("x", "cc 1", {"add/8": 103, "add/16": 150}), path)
    with pytest.raises(BudgetError, match=r"add/8: 100 -> 104 \(\+4\.0%\)"):
        budgets.check(Measured("x", "cc 1", {"add/8": 104, "add/16": 200}), path)


@pytest.mark.parametrize("counts", [{"add/8": 100}, {"add/8": 100, "add/16": 200, "mul/8": 1}, {}])
def test_the_table_has_every_case_and_no_other(path: Path, counts: dict[str, int]) -> None:
    with pytest.raises(BudgetError, match="not both"):
        budgets.check(Measured("x", "cc 1", counts), path)


def test_another_compiler_is_no_judge(path: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"cc 1, here is cc 2"):
        budgets.check(Measured("x", "cc 2", {"add/8": 900, "add/16": 900}), path)


def test_a_rise_needs_a_reason_and_a_fall_does_not(path: Path) -> None:
    compilers, table = budgets.load(path)
    budgets.updated(compilers, table, Measured("x", "cc 1", {"add/8": 90, "add/16": 205}), "")
    assert table["x"]["add/8"] == {"instructions": 90, "reason": "first"}
    for counts in ({"add/8": 93, "add/16": 205}, {"add/8": 90, "add/16": 205, "mul/8": 1}):
        with pytest.raises(BudgetError, match="--reason"):
            budgets.updated(compilers, table, Measured("x", "cc 1", counts), "")
    budgets.updated(compilers, table, Measured("x", "cc 1", {"add/8": 93, "add/16": 205}), "wider")
    assert table["x"]["add/8"] == {"instructions": 93, "reason": "wider"}
    assert table["x"]["add/16"]["reason"] == "first"


def committed(revision: str) -> str | None:
    """The table as of a commit; None where there is no such commit or no table in it."""
    name = f"{revision}:{budgets.TABLE.relative_to(budgets.TABLE.parents[2])}"
    done = subprocess.run(["git", "show", name], capture_output=True, text=True, cwd=budgets.TABLE.parent, check=False)
    return done.stdout if done.returncode == 0 else None


def test_the_committed_table_says_why_it_rose(tmp_path: Path) -> None:
    """Against the commit before: a count that was raised by hand keeps its old reason, and is found."""
    here = budgets.TABLE.read_text(encoding="utf-8")
    before = committed("HEAD~1" if committed("HEAD") == here else "HEAD")
    if before is None:
        pytest.skip("no earlier table to compare with")
    (tmp_path / "before.json").write_text(before, encoding="utf-8")
    old_compilers, old = budgets.load(tmp_path / "before.json")
    compilers, table = budgets.load()
    for target, cases in table.items():
        for case, entry in cases.items():
            assert entry["reason"], f"{target} {case}"
            was = old.get(target, {}).get(case)
            if was and compilers.get(target) == old_compilers.get(target):
                silent = budgets.rose(was["instructions"], entry["instructions"]) and entry["reason"] == was["reason"]
                assert not silent, f"{target} {case} rose without a reason"
