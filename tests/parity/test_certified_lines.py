"""How much of a certified head a token reads: the loads of an instrumented build, as distinct 64-byte lines.

The goals are those that the project set itself for TinyTalk over chat text, in shares of the plain q4_0 head. All bytes
of the section and of its tensors count: rotation, norms, biases and ids included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cbuild
import pytest

from tinyexport.blob.schema import TensorType, tensor_bytes
from tinyexport.pipeline import OWN, QuantizeOptions, SourceOptions, quantize, read_text
from tinyexport.runtime import Model

HERE = Path(__file__).resolve().parent
POSITIONS = 240
GREEDY, TOP_40 = 0.40, 0.65


@pytest.fixture(scope="module")
def counting_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime with reference kernels, each load of which calls lines.c."""
    if not Path("/usr/bin/gcc").exists():
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("lines")
    src, tools = cbuild.RUNTIME / "src", cbuild.RUNTIME / "tools"
    watched = [*src.glob("*.c"), src / "kernels/select.c", *(src / "kernels/ref").glob("*.c")]
    objects = []
    for path in [*watched, *tools.glob("tlm_p*.c"), HERE / "lines.c"]:
        out = folder / f"{path.parent.name}-{path.name}.o"
        count = ["-fsanitize=thread"] if path in watched else []
        flags = [*cbuild.NUMERIC, *cbuild.INCLUDES, f"-I{tools}", "-D_POSIX_C_SOURCE=200809L", "-O1", "-fPIC"]
        cbuild.run(["gcc", *flags, *count, "-c", path, "-o", out])
        objects.append(out)
    library = folder / "libtlm_py.so"
    cbuild.run(["gcc", "-shared", *objects, "-lpthread", "-o", library])
    return library


@pytest.mark.parametrize("learned", ["chat", "own"])
def test_most_lines_of_the_head_stay_unread(learned: str, shared: Path, counting_library: Path, tmp_path: Path) -> None:
    """Learned from the second half of the chat text, or from what the model writes itself."""
    text = read_text(shared / "text" / "chat-val.txt.xz").splitlines(keepends=True)
    half = len(text) // 2
    seen = tmp_path / "seen.txt"
    seen.write_text("".join(text[half:]), "utf-8")
    made = quantize(
        SourceOptions(str(shared / "checkpoints" / "tinytalk-pruned")),
        QuantizeOptions(head="certified", head_text=seen if learned == "chat" else OWN),
    )
    path = tmp_path / "model.tlm"
    path.write_bytes(made.data)
    ids = Model(made.data).encode("".join(text[:half]), special=True)[1000 : 1000 + POSITIONS]
    done = subprocess.run(
        [sys.executable, HERE / "lines_run.py", path],
        input=json.dumps(ids),
        env={**os.environ, "TINYEXPORT_LIB": str(counting_library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout)
    spec, head = made.content.spec, made.content.head
    plain = tensor_bytes(TensorType.Q4_0, spec.vocab, spec.dim) / 64
    print(learned, {name: count / plain for name, count in lines.items()})
    assert lines["all"] > plain  # the counter sees all stages
    assert lines["greedy"] <= GREEDY * plain
    assert lines["top_40"] <= TOP_40 * plain
    assert lines["greedy"] < 0.6 * lines["all"]
    assert head is not None
    if learned == "own":
        return  # the model's own text is easier than the chat's, so the export finds fewer lines than are read here
    assert lines["greedy"] * 64 == pytest.approx(head.greedy_bytes, rel=0.15)  # what `plan` goes by
    assert lines["top_40"] * 64 == pytest.approx(head.top40_bytes, rel=0.15)
