"""The C core: functions, memory, eval, sampler, blob checks; several compilers, with and without sanitizers."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import blobs
import cbuild
import pytest

HERE = Path(__file__).parent
CHECKED = ["gcc", "clang", "clang-asan"]
OK, ERR_FP = "0", "2"  # tlm_err
MXCSR = ("0x8000", "0x0040", "0x6000")  # results to zero, operands to zero, round towards zero


@pytest.mark.parametrize("variant", CHECKED)
def test_math(variant: str) -> None:
    assert cbuild.run([cbuild.program(variant, HERE / "core_math.c")]).endswith("ok\n")


@pytest.mark.parametrize("variant", CHECKED)
def test_sampler(variant: str) -> None:
    assert cbuild.run([cbuild.program(variant, HERE / "core_sampler.c")]).endswith("ok\n")


@pytest.mark.parametrize("variant", ["gcc", "clang"])
def test_self_test_notices_wrong_arithmetic(variant: str) -> None:
    source, self_test = HERE / "core_fp.c", cbuild.RUNTIME / "src/tlm_selftest.c"
    right = cbuild.program(variant, source)
    cbuild.run([right, OK])
    if platform.machine() != "x86_64":
        pytest.skip("flush to zero and fused multiply-add are set up for x86-64 here")
    for bits in MXCSR:
        cbuild.run([right, ERR_FP, bits])
    if "fma" in Path("/proc/cpuinfo").read_text():
        fused = cbuild.program(variant, source, self_test, flags=["-mfma", "-ffp-contract=fast"], name="core_fp_fused")
        cbuild.run([fused, ERR_FP])


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


@pytest.mark.parametrize("blob", [blobs.tiny, blobs.certified])
@pytest.mark.parametrize("variant", ["gcc", "clang-asan"])
def test_every_cut_and_every_bit(variant: str, blob: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / "tiny.tlm"
    path.write_bytes(blob())
    assert cbuild.run([cbuild.program(variant, HERE / "core_open.c"), path]).endswith("ok\n")


@pytest.mark.parametrize("variant", CHECKED)
def test_certified_head(variant: str, tmp_path: Path) -> None:
    path = tmp_path / "certified.tlm"
    path.write_bytes(blobs.certified(900))
    assert cbuild.run([cbuild.program(variant, HERE / "core_head.c"), path]).endswith("ok\n")


@pytest.mark.parametrize("backend", ["avx2", "avx512vnni"])
@pytest.mark.parametrize("variant", ["gcc", "clang-asan"])
def test_backend_equals_the_reference_kernels(variant: str, backend: str) -> None:
    out = cbuild.run([cbuild.program(variant, HERE / "test_backends.c"), backend])
    if out.startswith("SKIP"):
        pytest.skip(out.strip())
    assert out.startswith("ok")
