"""The command: pipes, scripts, exit codes, and clear words for all that can go wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_device import FakeDevice, make_blob, reply_pieces, serve

from tinychat.protocol import Error, ModelState
from tinychat.terminal import on_interrupt

Run = Callable[..., "subprocess.CompletedProcess[str]"]
RANDOM_SEED = 4242  # what the fake device draws


def said(text: str, seed: int = RANDOM_SEED, position: int = 0) -> str:
    """What is printed for a reply."""
    return b"".join(reply_pieces(text.encode(), seed, position)).decode().lstrip() + "\n"


def lines(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_pipe_gets_the_reply_and_nothing_else(tinychat: Run, blob: Path) -> None:
    result = tinychat("--sim", str(blob), stdin="hi\n")
    assert (result.returncode, result.stdout, result.stderr) == (0, said("hi"), "")


def test_several_lines_are_several_turns(tinychat: Run, blob: Path) -> None:
    result = tinychat("--sim", str(blob), "--json", stdin="one\n\ntwo\n")
    first, second = lines(result)
    assert (first["prompt"], second["prompt"]) == ("one", "two")
    assert second["cached_tokens"] == first["position"] > 0
    assert second["text"].lstrip() + "\n" == said("two", position=first["position"])
    wanted = {
        "text",
        "tokens",
        "prompt_tokens",
        "stop_reason",
        "prefill_tok_s",
        "decode_tok_s",
        "first_token_s",
        "seed",
    }
    assert wanted <= first.keys()


@pytest.mark.parametrize("args", [["hello", "there"], ["hello there"], ["-p", "hello there"]])
def test_one_reply_and_out(tinychat: Run, blob: Path, args: list[str]) -> None:
    result = tinychat("--sim", str(blob), "--seed", "5", *args, stdin="not read\n")
    assert (result.returncode, result.stdout) == (0, said("hello there", 5))


def test_options_stand_before_or_after_the_command(tinychat: Run, blob: Path) -> None:
    before = lines(tinychat("--sim", str(blob), "--json", "info"))[0]
    after = lines(tinychat("info", "--json", "--sim", str(blob)))[0]
    after["uptime_us"] = before["uptime_us"]
    assert before == after
    assert (before["event"], before["board"], before["kv_type"]) == ("info", "fake", "i8")


def test_a_prompt_that_is_also_the_name_of_a_command(tinychat: Run, blob: Path) -> None:
    assert tinychat("--sim", str(blob), "-p", "info").stdout == said("info")


def test_json_streams_tokens_on_request(tinychat: Run, blob: Path) -> None:
    *tokens, reply = lines(tinychat("--sim", str(blob), "--json", "--tokens", "hello"))
    assert [t["event"] for t in tokens] == ["token"] * reply["tokens"]
    assert "".join(t["text"] for t in tokens) == reply["text"]


def test_text_that_is_not_utf8_goes_through(tinychat: Run, blob: Path, env: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tinychat", "--sim", str(blob), "--json"],
        input=b"caf\xe9\n",
        capture_output=True,
        timeout=60,
        env=env,
    )
    assert result.returncode == 0
    row = json.loads(result.stdout)
    assert row["text"].encode() == b"".join(reply_pieces(b"caf\xe9", RANDOM_SEED, 0))


def test_story_models_continue_each_line_by_itself(tinychat: Run, blob: Path) -> None:
    result = tinychat("--sim", str(blob), stdin="Once\nTwice\n", fake={"story": True})
    pieces = [b"".join(reply_pieces(t, RANDOM_SEED, 0)).decode() for t in (b"Once", b"Twice")]
    assert result.stdout == "\n".join(pieces) + "\n"


def test_a_reader_that_goes_away_is_no_error(env: dict[str, str], blob: Path) -> None:
    command = f"{sys.executable} -m tinychat --sim {blob} -n 400 hi"
    fake = json.dumps({"endless": True})
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -c 5"],
        capture_output=True,
        text=True,
        timeout=60,
        env=env | {"FAKE": fake},
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_ctrl_c_ends_a_pipe_with_what_was_said(env: dict[str, str], blob: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tinychat", "--sim", str(blob), "-n", "1000", "hi"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env | {"FAKE": '{"endless": true, "step_s": 0.02}'},
        bufsize=0,
    )
    assert process.stdout is not None
    begin = process.stdout.read(2)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert begin == b"on" and rest.endswith(b"\n") and len(rest) < 3000
    assert b"Traceback" not in err


def test_a_background_job_goes_on_ignoring_ctrl_c() -> None:
    hits: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    try:
        for outside, wanted in ((signal.SIG_IGN, []), (signal.default_int_handler, [1])):
            signal.signal(signal.SIGINT, outside)
            with on_interrupt(lambda: hits.append(1)):
                signal.raise_signal(signal.SIGINT)
            assert (hits, signal.getsignal(signal.SIGINT)) == (wanted, outside)
    finally:
        signal.signal(signal.SIGINT, before)


def test_upload_settings_reset_and_bench(tinychat: Run, blob: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tlm"
    other.write_bytes(make_blob(30_000, 2))
    result = tinychat("upload", str(other), "--sim", str(blob))
    assert (result.returncode, result.stdout) == (0, "fake is on the device.\n")
    rows = lines(tinychat("upload", str(other), "--sim", str(blob), "--json"))
    assert {r["stage"] for r in rows[:-1]} == {"send", "verify", "activate"}
    assert rows[-1] == {"event": "uploaded", "model": "fake", "bytes": 30_000}
    held = lines(tinychat("settings", "temp=0.25", "n=7", "--json", "--sim", str(blob)))[0]
    assert (held["temperature"], held["max_tokens"], held["kv_type"]) == (0.25, 7, "auto")
    assert lines(tinychat("reset", "--json", "--sim", str(blob)))[0]["event"] == "reset"
    *rows, end = lines(tinychat("bench", "--json", "--sim", str(blob)))
    assert {"decode", "prefill", "first token", "heap free"} <= {r["name"] for r in rows}
    assert end["line"].startswith("tinychat bench | fake") and end["missing"]


def test_bench_says_what_is_missing_in_words(tinychat: Run, blob: Path) -> None:
    out = tinychat("bench", "--sim", str(blob)).stdout
    assert "not provided by this device: (5)" in out
    assert "for a report:\ntinychat bench | " in out


# ---- what can go wrong ----------------------------------------------------------------------------


def fails(result: subprocess.CompletedProcess[str], *words: str, status: int = 1) -> None:
    """One sentence and a hint on standard error, nothing on standard output."""
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    assert result.stderr.startswith("tinychat: ")
    assert len(result.stderr.strip().splitlines()) <= 2


def test_no_port(tinychat: Run, tmp_path: Path) -> None:
    fails(tinychat("--port", str(tmp_path / "ttyNOT"), "hi"), "There is no port", "--sim")
    fails(tinychat("--port", "socket://127.0.0.1:1", "hi"), "Nothing accepts connections")
    fails(tinychat("--port", "http://x", "hi"), "not a kind of port")
    fails(tinychat("--port", "socket://nowhere", "hi"), "host and a port")


def test_no_board_on_usb(tinychat: Run) -> None:
    from tinychat import boards

    if any(p.known for p in boards.list_ports()):
        pytest.skip("a board is plugged in here")
    fails(tinychat("hi"), "No board was found", "--sim model.tlm")
    fails(tinychat("list"), "No board was found")
    assert json.loads(tinychat("hi", "--json").stdout)["code"] == "no_port"


def test_missing_and_damaged_blobs(tinychat: Run, blob: Path, tmp_path: Path) -> None:
    fails(tinychat("--sim", str(tmp_path / "no.tlm"), "hi"), "There is no file", "tinyexport quantize")
    fails(tinychat("--sim", str(tmp_path), "hi"), "is a folder")
    blob.write_bytes(b"\x7fELF" + bytes(100))
    fails(tinychat("--sim", str(blob), "hi"), "not a .tlm blob")
    fails(tinychat("upload", str(blob)), "not a .tlm blob")


def test_a_simulator_that_does_not_start(tinychat: Run, blob: Path, tmp_path: Path) -> None:
    fails(tinychat("--sim", str(blob), "hi", fake={"fail": True}), "The blob is damaged (checksum).")
    fails(tinychat("--sim", str(blob), "hi", TINYCHAT_SIM=str(tmp_path / "none")), "not an executable")
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    fails(tinychat("--sim", str(blob), "hi", TINYCHAT_SIM=str(broken)), "does not start")


def test_no_model_and_wrong_versions(tinychat: Run, blob: Path) -> None:
    fails(tinychat("--sim", str(blob), "hi", fake={"model": None}), "no model", "tinychat upload")
    unusable = {"model_state": ModelState.UNUSABLE, "model_error": Error.MODEL_VERSION}
    fails(tinychat("--sim", str(blob), "hi", fake=unusable), "can not be used: the blob is of a newer version")
    fails(tinychat("--sim", str(blob), "hi", fake={"major": 2}), "version 2 of the protocol", "update tinychat")
    fails(tinychat("--sim", str(blob), "hi", fake={"major": 0}), "version 0 of the protocol", "tinychat flash")
    row = json.loads(tinychat("--sim", str(blob), "hi", "--json", fake={"model": None}).stdout)
    assert (row["event"], row["code"]) == ("error", "no_model")


def test_a_device_lost_in_the_middle_of_a_reply(tinychat: Run, blob: Path, tmp_path: Path) -> None:
    fake = {"endless": True, "die_after": 5, "once": str(tmp_path / "died")}
    result = tinychat("--sim", str(blob), "hi", fake=fake)
    assert result.returncode == 1
    assert "lost in the middle of a reply and is back" in result.stderr
    assert result.stdout.startswith("on and on")


def test_wrong_usage(tinychat: Run, blob: Path) -> None:
    for args in (
        ["--nonsense"],
        ["--sim", str(blob), "--port", "COM3", "hi"],
        ["--like", "cardputer", "hi"],
        ["--sim", str(blob), "--kv", "q9", "hi"],
        ["--sim", str(blob), "--kv", "i4/0", "hi"],
        ["upload"],
        ["flash"],
        ["settings", "colour=red"],
        ["--sim", str(blob), "-p", "a", "b"],
    ):
        result = tinychat(*args)
        assert (result.returncode, result.stdout) == (2, ""), args
        assert "Error:" in result.stderr
    fails(tinychat("--sim", str(blob), "--temp", "hot", "hi"), "temperature can not be 'hot'")
    fails(tinychat("--sim", str(blob), "--seed", "-1", "hi"), "seed can not be -1")


def test_help_and_version(tinychat: Run) -> None:
    text = tinychat("--help").stdout
    for word in ("--sim", "--like", "--temp", "upload", "flash", "monitor", "echo hi"):
        assert word in text
    assert tinychat("upload", "--help").returncode == 0
    assert tinychat("--version").stdout.startswith("tinychat")


# ---- other lines ----------------------------------------------------------------------------------


@pytest.fixture
def tcp() -> Iterator[str]:
    """A fake device that listens on a port."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        device = FakeDevice(boot_text="boot: fake\r\n")
        while True:
            try:
                line, _ = server.accept()
            except OSError:
                return
            with line:
                serve(device, line.fileno(), line.fileno())

    threading.Thread(target=run, daemon=True).start()
    yield f"socket://127.0.0.1:{server.getsockname()[1]}"
    server.close()


def test_a_socket(tinychat: Run, tcp: str) -> None:
    result = tinychat("--port", tcp, "hi")
    assert (result.returncode, result.stdout) == (0, said("hi"))
    assert lines(tinychat("info", "--json", TINYCHAT_PORT=tcp))[0]["position"] > 0
    assert tinychat("--port", tcp, "hi").stdout == said("hi"), "a new chat begins a new conversation"
    assert tinychat("--port", tcp, "--continue", "hi").stdout != said("hi")


def test_context_and_kv_of_a_real_board_are_stored_there(tinychat: Run, tcp: str) -> None:
    assert tinychat("--port", tcp, "--context", "100", "--kv", "i4", "hi").returncode == 0
    held = lines(tinychat("settings", "--port", tcp, "--json"))[0]
    assert (held["context"], held["kv_type"]) == (100, "i4")


@pytest.mark.skipif(sys.platform == "win32", reason="ptys are a Unix thing")
class TestSerialPort:
    """A pty stands in for a USB port."""

    @pytest.fixture
    def port(self) -> Iterator[str]:
        import tty

        ours, theirs = os.openpty()
        tty.setraw(theirs)
        device = FakeDevice()
        threading.Thread(target=serve, args=(device, ours, ours), daemon=True).start()
        yield os.ttyname(theirs)
        os.close(theirs)

    def test_chat(self, tinychat: Run, port: str) -> None:
        result = tinychat("--port", port, "hi")
        assert (result.returncode, result.stdout) == (0, said("hi"))

    def test_busy(self, tinychat: Run, port: str) -> None:
        import serial

        with serial.Serial(port, exclusive=True):
            fails(tinychat("--port", port, "hi"), "in use by another program")

    @pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may open everything")
    def test_permission(self, tinychat: Run, port: str) -> None:
        os.chmod(port, 0)
        fails(tinychat("--port", port, "hi"), "may not open", "dialout", "udev")


def test_permission_words() -> None:
    """The same without being another user: what pyserial raises."""
    import errno

    from tinychat import errors
    from tinychat.transport_serial import open_error

    err = open_error("/dev/ttyACM0", OSError(errno.EACCES, "Permission denied: '/dev/ttyACM0'"))
    assert isinstance(err, errors.PermissionFault)
    if sys.platform.startswith("linux"):
        assert "dialout" in err.hint and "udev" in err.hint
    for message, kind in (
        ("could not open port 'COM3': PermissionError(13, 'Access is denied.', None, 5)", errors.PortBusyError),
        ("could not open port 'COM3': FileNotFoundError(2, 'The system cannot find the file')", errors.NoPortError),
        ("[Errno 16] Device or resource busy", errors.PortBusyError),
        ("something else", errors.NoPortError),
    ):
        assert type(open_error("COM3", OSError(message))) is kind, message


def test_monitor_shows_text_and_log_lines(env: dict[str, str]) -> None:
    ours = socket.create_server(("127.0.0.1", 0))
    url = f"socket://127.0.0.1:{ours.getsockname()[1]}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tinychat", "monitor", "--frames", "--port", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )
    device = FakeDevice()
    device.output += b"boot: \x1b[2Jhello\r\n"
    device.send("log", 0, level=1, text="it is warm")
    device.send("pong", 0, uptime_us=0, busy=0, data=b"")
    line, _ = ours.accept()
    line.sendall(device.take())
    assert process.stdout is not None
    shown = b"".join(process.stdout.readline() for _ in range(3)).decode()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert shown == "boot: \N{REPLACEMENT CHARACTER}[2Jhello\n[warning] it is warm\n<pong>\n"
    assert process.returncode == 0


def test_usb_ids_name_the_boards(monkeypatch: pytest.MonkeyPatch) -> None:
    from serial.tools import list_ports
    from serial.tools.list_ports_common import ListPortInfo

    from tinychat import boards, errors

    def port(name: str, vid: int | None, pid: int | None) -> ListPortInfo:
        info = ListPortInfo(name)
        info.vid, info.pid = vid, pid
        return info

    found = [port("/dev/ttyS0", None, None), port("/dev/ttyUSB0", 0x10C4, 0xEA60), port("/dev/ttyACM0", 0x303A, 0x1001)]
    monkeypatch.setattr(list_ports, "comports", lambda: found)
    assert [p.device for p in boards.list_ports()] == ["/dev/ttyACM0", "/dev/ttyUSB0", "/dev/ttyS0"]
    with pytest.raises(errors.NoPortError, match="More than one board") as caught:
        boards.find_board()
    assert caught.value.hint == "choose one: --port /dev/ttyACM0"
    del found[1]
    assert boards.find_board().what == "ESP32 USB-Serial-JTAG"


def test_list(tinychat: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinychat import boards

    found = [
        boards.Port("/dev/ttyACM0", "ESP32 USB-Serial-JTAG", 0x303A, 0x1001, "7C:DF", "USB JTAG"),
        boards.Port("/dev/ttyS0", "", None, None, "", "n/a"),
    ]
    monkeypatch.setattr(boards, "list_ports", lambda: found)
    shown = tinychat("list").stdout
    assert "/dev/ttyACM0" in shown and "303a:1001" in shown and "ttyS0" not in shown
    assert "ttyS0" in tinychat("list", "--all").stdout
    assert [row["known"] for row in lines(tinychat("list", "--all", "--json"))] == [True, False]


def test_a_broken_socket_is_opened_again(tinychat: Run) -> None:
    """The other end hangs up in the middle of a reply and takes the next connection."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        device, tick = FakeDevice(endless=True), FakeDevice.tick
        line, _ = server.accept()
        device.tick = lambda: device.running.at < 4 and tick(device)  # type: ignore[method-assign,union-attr]
        threading.Thread(target=serve, args=(device, line.fileno(), line.fileno()), daemon=True).start()
        while device.running is None or device.running.at < 4:
            time.sleep(0.01)
        time.sleep(0.1)
        line.shutdown(socket.SHUT_RDWR)
        second, _ = server.accept()
        serve(FakeDevice(), second.fileno(), second.fileno())

    threading.Thread(target=run, daemon=True).start()
    result = tinychat("--port", f"socket://127.0.0.1:{server.getsockname()[1]}", "hi")
    assert result.returncode == 1
    assert "is back: 4 tokens of its reply had arrived, nothing else was lost" in result.stderr
    server.close()


def test_importing_tinychat_is_light(env: dict[str, str]) -> None:
    """No torch, and no tinyexport: a user of the serial port needs neither."""
    code = (
        "import sys; sys.modules['tinyexport'] = None; sys.modules['torch'] = None\n"
        "import tinychat, tinychat.cli, tinychat.console, tinychat.flash, tinychat.bench, tinychat.monitor\n"
        "print(sorted(m for m in ('numpy', 'esptool', 'torch') if sys.modules.get(m)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)
    assert result.stdout == "[]\n", result.stderr
