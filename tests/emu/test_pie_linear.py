"""The linear kernels, run as they are and compared bit for bit with the C reference."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from pie_host import build, make_case
from pie_run import run_linear

COLUMNS = (48, 64, 128, 172, 272, 336, 384, 512)
ROWS = (1, 8, 11, 16, 23, 8, 13, 16)


@pytest.fixture(scope="module")
def reference() -> ctypes.CDLL:
    return build()


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equality of bits: -0.0 is not +0.0."""
    return bool((found.view(np.uint32) == expected.view(np.uint32)).all())


@pytest.mark.parametrize("extreme", ["", "mix", "one sign"])
@pytest.mark.parametrize("kind", ["q4_0", "q8_0", "t2"])
def test_matvec_equals_the_reference(reference: ctypes.CDLL, kind: str, extreme: str) -> None:
    for rows, n in zip(ROWS, COLUMNS, strict=True):
        case = make_case(kind, rows, n, 2, rows * n, extreme)
        expected = case.reference(reference)
        for b in range(case.batch):
            found, _ = run_linear(f"linear_{kind}", case, slice(b, b + 1))
            assert same(found[:, :rows], expected[b : b + 1]), (rows, n, b)


@pytest.mark.parametrize("kind", ["q4_0", "q8_0", "t2"])
def test_a_single_block(reference: ctypes.CDLL, kind: str) -> None:
    """Slices of a certified head."""
    for rows, n in ((9, 16), (8, 12), (24, 32), (17, 20)):
        case = make_case(kind, rows, n, 1, rows)
        found, _ = run_linear(f"linear_{kind}", case, slice(0, 1))
        assert same(found[:, :rows], case.reference(reference)), (rows, n)


@pytest.mark.parametrize("extreme", ["", "mix"])
@pytest.mark.parametrize("kind", ["q4_0", "q8_0"])
def test_batches_equal_the_reference(reference: ctypes.CDLL, kind: str, extreme: str) -> None:
    for index, (rows, n) in enumerate(zip(ROWS, COLUMNS, strict=True)):
        case = make_case(kind, rows, n, 4 + 2 * (index % 7), rows + n, extreme)
        found, _ = run_linear(f"batch_{kind}", case, slice(0, case.batch))
        assert same(found[:, :rows], case.reference(reference)), (rows, n, case.batch)


@pytest.mark.parametrize("extreme", ["", "mix", "one sign"])
def test_fours_equal_the_reference(reference: ctypes.CDLL, extreme: str) -> None:
    for rows, n in zip((*ROWS, 9), (*COLUMNS, 1472), strict=True):
        case = make_case("q4_0", rows, n, 4, rows + n, extreme)
        found, _ = run_linear("four_q4_0", case, slice(0, 4))
        assert same(found[:, :rows], case.reference(reference)), (rows, n)


def test_t2_batches_equal_the_reference(reference: ctypes.CDLL) -> None:
    for batch in (2, 3, 7, 16):
        case = make_case("t2", 8 + batch, 48 + 16 * batch, batch, batch)
        found, _ = run_linear("linear_t2", case, slice(0, batch))
        assert same(found[:, : case.rows], case.reference(reference)), batch


def test_pad_rows_come_out_as_zero() -> None:
    """Whoever copies too many rows gets zeros, not garbage."""
    for kind in ("q4_0", "q8_0"):
        found, _ = run_linear(f"linear_{kind}", make_case(kind, 5, 128, 1, 5), slice(0, 1))
        assert not found[:, 5:].any()
