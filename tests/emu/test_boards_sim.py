"""The program tlm-sim: its lines (pipes, pseudo terminal, TCP), its options, its flash image."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import families
import pytest
import serial
from models import ROOT, changed, exported, small, talker, tinybuddy
from rawhost import RawHost
from simlib import Sim, simulator

from tinychat import Device
from tinychat.protocol import Error
from tinychat.upload import Upload
from tinyexport import boards, pipeline, placement, plan
from tinyexport.blob import reader, writer
from tinyexport.runtime import Model


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sim") / "talker.tlm"
    path.write_bytes(talker())
    return path


def run(*args: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [str(a) for a in (simulator(), *args)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(processes: list[subprocess.Popen[bytes]], *args: str | Path) -> str:
    """Starts a simulator that listens, and returns what it prints first: where."""
    process = subprocess.Popen([str(a) for a in (simulator(), *args)], stdout=subprocess.PIPE)
    processes.append(process)
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def test_lines_through_a_pipe(blob: Path) -> None:
    done = run(blob, stdin=b"hello\nand you\n/info\n")
    assert done.returncode == 0 and done.stdout.count(b"tokens") == 2 and b"tinybuddy" in done.stdout


def test_a_pseudo_terminal(blob: Path, started: list[subprocess.Popen[bytes]]) -> None:
    path = start(started, blob, "--pty")
    with Device.open(path) as device:
        assert device.chat("hello", seed=1).wait().text
    with serial.Serial(path, timeout=10) as line:  # what a person with any terminal program sees
        time.sleep(2.1)  # right after frames, text is taken for the rest of one
        line.write(b"hello again\r")
        assert b"tokens" in line.read_until(b"tok")[-200:] + line.read_until(b"> ")


def test_two_hosts_on_one_port(blob: Path, started: list[subprocess.Popen[bytes]]) -> None:
    url = start(started, blob, "--tcp", "0")
    with Device.open(url) as device:
        assert device.chat("hello", seed=1).wait().text
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5) as second:
            assert b"another host" in second.recv(100)
        assert device.chat("still here", seed=1).wait().text
    with Device.open(url) as device:
        assert device.info()["position"] > 0, "the conversation outlives the connection"


def test_a_flash_image_keeps_model_and_settings(
    blob: Path, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    image = tmp_path / "flash.img"
    with Device.open(start(started, blob, "--flash", image, "--flash-bytes", "1048576", "--tcp", "0")) as device:
        assert device.info()["slots"] == 2 and device.info()["model"] == "tinybuddy"
        Upload(device.session, small(2, "q8_0")).run()
        device.session.connect()
        device.set(top_k=9)
        device.reboot()
        assert device.info()["model"] == "small q8_0 2" and device.settings["top_k"] == 9
    started[0].kill()
    started[0].wait()
    with Device.open(start(started, "--flash", image, "--tcp", "0")) as device:
        assert device.info()["model"] == "small q8_0 2" and device.settings["top_k"] == 9


def test_no_other_file_is_taken_for_flash(tmp_path: Path) -> None:
    """A disk image, or a blob that is a multiple of a sector long, was written to as if it were flash."""
    for begin in (b"\0\0\0\0", b"TLM\x1a", b"%PDF"):
        other = tmp_path / "other"
        other.write_bytes(begin + b"\xff" * (65536 - 4))
        done = run("--flash", other)
        assert done.returncode == 1 and b"not a flash image" in done.stderr
        assert other.read_bytes() == begin + b"\xff" * (65536 - 4)
    full = run("--flash", "/dev/full")
    assert full.returncode == 1 and b"No space left" in full.stderr


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (("--kv", "i3"), 1, "--kv is one of"),
        (("--kv", "f32/2"), 1, "--kv is one of"),
        (("--kv", "i4/"), 1, "--kv is one of"),
        (("--kv", "i4/0"), 1, "--kv is one of"),
        (("--kv", "i4/ 2"), 1, "--kv is one of"),
        (("--kv", "i4/64"), 1, "--kv is one of"),
        (("--kv", "i8/99999999999999999999"), 1, "--kv is one of"),
        (("--like", "toaster"), 1, "--like knows"),
        (("--threads", "0"), 2, "usage"),
        (("--context",), 2, "usage"),
        (("--flash", "/nonexistent/flash"), 1, "No such file"),
    ],
)
def test_bad_options(blob: Path, args: tuple[str, ...], status: int, words: str) -> None:
    done = run(blob, *args)
    assert done.returncode == status and words in done.stderr.decode()


def test_bad_blobs(tmp_path: Path) -> None:
    bad = tmp_path / "bad.tlm"
    for data, words in ((b"", "empty"), (b"garbage" * 50, "not a"), (tinybuddy()[:-100], "cut off")):
        bad.write_bytes(data)
        done = run(bad)
        assert done.returncode == 1 and done.stderr.startswith(b"tlm-sim: ") and words in done.stderr.decode(), (
            done.stderr
        )


@pytest.mark.parametrize(
    ("before", "after", "more"),
    [("", "", 128), ("<|endoftext|>", "", 128), ("x", "<|endoftext|>y", 127), ("\u4e16", "\n", 124)],
)
def test_the_plan_knows_what_template_the_firmware_takes(before: str, after: str, more: int) -> None:
    """What stands before the last special token of the prefix, or after the first one behind the words, is no part."""

    def of(extra: int) -> bytes:
        chat = dataclasses.replace(reader.read(talker()).chat, user_prefix=before + "u" * extra, reply_prefix=after)
        return changed(talker(), lambda content: dataclasses.replace(content, chat=chat))

    for extra, error in ((more, Error.NONE), (more + 1, Error.MODEL_TEMPLATE)):
        data = of(extra)
        found = plan.make_plan(data, boards.find_board("cardputer"))
        assert (found.fits, "chat template" in found.reason) == (error == Error.NONE, error != Error.NONE)
        assert RawHost(Sim(data)).hello().model_error == error


def test_options_change_nothing_but_speed(blob: Path) -> None:
    replies = set()
    for args in (
        (),
        ("--backend", "ref"),
        ("--threads", "3"),
        ("--batch", "1"),
        ("--head-rows", "64"),
        ("--like", "cardputer"),
    ):
        done = run(blob, *args, stdin=b"/set temp 0\nhello\n")
        replies.add(done.stdout.split(b"hello\r\n")[-1].split(b"\r\n[")[0])
    assert len(replies) == 1, replies


def as_on(board: str, blob: Path, started: list[subprocess.Popen[bytes]], *args: str) -> Device:
    return Device.open(start(started, blob, "--like", board, *args, "--tcp", "0"))


@pytest.mark.parametrize("board", boards.boards())
def test_the_plan_is_what_the_firmware_does(
    shared: Path, tmp_path: Path, started: list[subprocess.Popen[bytes]], board: str
) -> None:
    """Context and bytes of TinyTalk: `tinyexport plan` asks the runtime, the firmware's app decides."""
    path = tmp_path / "tinytalk.tlm"
    path.write_bytes(exported(shared / "checkpoints" / "tinytalk-pruned", "--q4_0"))
    for kv in ("i8", "i4", "i4/4", "i4/16", None):
        planned = plan.make_plan(path.read_bytes(), boards.find_board(board), kv=kv)
        with as_on(board, path, started, *(("--kv", kv) if kv else ())) as device:
            info = device.info()
        assert (info["context"], info["kv_type"]) == (planned.context, kv or "i8")
        assert (info["memory_used"], info["memory_total"]) == (planned.ram_bytes, planned.ram_room)


def test_keys_fitted_to_int4_make_it_the_default(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """TinyTalk's shape on a Cardputer, with and without what `--kv-smooth` leaves in a blob."""
    folder = families.write("tinytalk", tmp_path / "tinytalk", real=True)
    plain = pipeline.quantize(pipeline.SourceOptions(str(folder)), pipeline.QuantizeOptions()).content
    fitted = dataclasses.replace(plain, tensors=plain.tensors | families.fitted_keys(plain.spec))
    path, board = tmp_path / "seeded.tlm", boards.find_board("cardputer")
    for content, asked, kind in ((plain, None, "i8"), (fitted, None, "i4"), (fitted, "i8", "i8")):
        path.write_bytes(writer.build(content))
        planned = plan.make_plan(path.read_bytes(), board, kv=asked)
        with as_on("cardputer", path, started, *(("--kv", asked) if asked else ())) as device:
            info, settings = device.info(), device.settings
        assert planned.kv_type == info["kv_type"] == settings["kv_type"] == kind
        assert planned.context == info["context"] == (256 if kind == "i4" else 128)


def test_the_tokenizer_works_in_idle_pages(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """On a board the work memory of the tokenizer lies in the cache's unused pages; what is said does not change."""
    path = tmp_path / "smalltalk.tlm"
    path.write_bytes(exported(ROOT / "examples" / "smalltalk"))
    board = boards.find_board("cardputer")
    found, fits = placement.memory(Model(path.read_bytes()), board, 256, "i8")
    assert fits and found.own < 5000 < 63_000 < found.kv, "a model whose cache is large enough to lend"
    said = []
    for like in (("--like", "cardputer"), ("--batch", "16")):
        with Device.open(start(started, path, *like, "--tcp", "0")) as device:
            assert device.info()["context"] == 256
            replies = [
                device.chat(f"turn {i}: " + "tell me more, please. " * (i % 5), max_tokens=15, temperature=0.0).wait()
                for i in range(40)
            ]
            said.append([(reply.text, reply.stats.position) for reply in replies])
    assert said[0] == said[1]
    assert sum(position > 192 for _, position in said[0]) > 5, "turns came when the idle pages were too few"
