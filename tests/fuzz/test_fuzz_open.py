"""A blob that lies, with a right checksum, is refused by name or runs; it never makes the runtime read elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cbuild
import pytest

sys.path.insert(0, str(cbuild.ROOT / "tests" / "c"))
import blobs  # noqa: E402

ROUNDS = os.environ.get("TLM_FUZZ_ROUNDS", "1000")
SEED = os.environ.get("TLM_FUZZ_SEED", "1")
# Errors that lies of this kind must have met: a fuzzer that only ever breaks the checksum proves nothing.
EXPECTED = {"TLM_OK", "TLM_ERR_FORMAT", "TLM_ERR_LIMIT", "TLM_ERR_WEIGHTS", "TLM_ERR_TRUNCATED", "TLM_ERR_VERSION"}


@pytest.mark.parametrize("name", blobs.SPECS)
def test_lies(name: str, tmp_path: Path) -> None:
    path = tmp_path / "right.tlm"
    path.write_bytes(blobs.blob(name))
    fuzz = cbuild.program("clang-asan", Path(__file__).parent / "fuzz_open.c")
    lines = cbuild.run([fuzz, path, SEED, ROUNDS]).splitlines()
    tally = {name: int(count) for name, count in map(str.split, lines)}
    print(tally)
    assert sum(tally.values()) == int(ROUNDS) + 1
    if int(ROUNDS) >= 1000:
        assert {error for error, count in tally.items() if count} >= EXPECTED
