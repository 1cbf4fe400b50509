"""The C core: functions, memory, eval, sampler, blob checks; several compilers, with and without sanitizers."""

from __future__ import annotations

from pathlib import Path

import blobs
import cbuild
import pytest

HERE = Path(__file__).parent
CHECKED = ["gcc", "clang", "clang-asan"]


@pytest.mark.parametrize("variant", CHECKED)
def test_math(variant: str) -> None:
    assert cbuild.run([cbuild.program(variant, HERE / "core_math.c")]).endswith("ok\n")


@pytest.fixture(scope="session")
def blob_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("blobs")
    for name in blobs.SPECS:
        (folder / f"{name}.tlm").write_bytes(blobs.blob(name))
    return {name: folder / f"{name}.tlm" for name in blobs.SPECS}


@pytest.mark.parametrize("name", blobs.SPECS)
@pytest.mark.parametrize("variant", CHECKED)
def test_session(variant: str, name: str, blob_files: dict[str, Path]) -> None:
    program = cbuild.program(variant, HERE / "core_session.c")
    assert cbuild.run([program, blob_files[name]]).endswith("ok\n")
