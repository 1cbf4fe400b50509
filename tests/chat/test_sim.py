"""tinychat with the real simulator: the complete firmware app, real models."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cbuild
import pytest

from tinychat import ChatError, Device, SimOptions, errors, model_store

Run = Callable[..., "subprocess.CompletedProcess[str]"]
BOARDS = cbuild.ROOT / "firmware" / "boards"
SECTOR = 4096


@pytest.fixture(scope="session")
def sim_program() -> str:
    """tlm-sim, built from this tree."""
    app, sim = cbuild.ROOT / "firmware" / "app", BOARDS / "sim_posix"
    tools = cbuild.RUNTIME / "tools"
    parts = [sim / n for n in ("main.c", "line.c", "sim_board.c", "sim_flash.c")] + [tools / "tlm_pool.c"]
    flags = [f"-I{app}", f"-I{sim}", f"-I{BOARDS}", f"-I{tools}", "-pthread"]
    return str(cbuild.program("gcc", *parts, *sorted(app.glob("*.c")), flags=flags, name="tlm-sim"))


@pytest.fixture
def real(sim_program: str, monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    """Makes the real simulator the one that tinychat finds, in this process and in commands."""
    monkeypatch.setenv("TINYCHAT_SIM", sim_program)
    env["TINYCHAT_SIM"] = sim_program


def export(checkpoint: Path, folder: Path) -> str:
    """A q4_0 blob of a checkpoint."""
    out = folder / f"{checkpoint.name}.tlm"
    command = ["from tinyexport.cli import main; main()", "quantize", str(checkpoint), "--q4_0", "-o", str(out)]
    path = os.pathsep.join([str(cbuild.ROOT / "export"), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", *command], check=True, timeout=120, env=os.environ | {"PYTHONPATH": path})
    return str(out)


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bundled example, a story model."""
    return export(cbuild.ROOT / "examples" / "tinybuddy", tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="session")
def talk(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """TinyTalk, a chat model."""
    return export(shared / "checkpoints" / "tinytalk-pruned", tmp_path_factory.mktemp("blobs"))


pytestmark = pytest.mark.usefixtures("real")


def test_same_seed_same_text(story: str) -> None:
    with Device.open(f"sim:{story}") as device:
        first = device.generate("Once upon a time", seed=7, max_tokens=40).wait()
        again = device.generate("Once upon a time", seed=7, max_tokens=40).wait()
        other = device.generate("Once upon a time", seed=8, max_tokens=40).wait()
        drawn = device.generate("Once upon a time", max_tokens=40).wait()
        assert drawn.stats is not None
        repeated = device.generate("Once upon a time", seed=drawn.stats.seed, max_tokens=40).wait()
    assert first.text == again.text != other.text
    assert [t.logprob for t in first.tokens] == [t.logprob for t in again.tokens]
    assert repeated.text == drawn.text
    assert all(t.logprob <= 0 for t in first.tokens)


def test_make_chat_prints_one_story(tinychat: Run, story: str) -> None:
    result = tinychat("--sim", story, "--temp", "0", "-n", "20", "-p", "Once upon a time")
    assert result.returncode == 0 and result.stderr == ""
    assert len(result.stdout.split()) > 8
    row = json.loads(tinychat("--sim", story, "--temp", "0", "-n", "20", "--json", "Once upon a time").stdout)
    assert row["text"] + "\n" == result.stdout
    assert (row["tokens"], row["stop_reason"]) == (20, "length")
    assert row["decode_tok_s"] > 0 and row["prefill_tok_s"] > 0


def test_true_log_probabilities_on_request(story: str) -> None:
    with Device.open(f"sim:{story}") as device:
        plain = device.generate("Once", seed=1, max_tokens=5, top_k=4).wait()
        true = device.generate("Once", seed=1, max_tokens=5, top_k=4, true_logprob=True).wait()
    assert plain.text == true.text
    assert all(t.logprob_all is None for t in plain.tokens)
    assert all(t.logprob_all is not None and t.logprob_all <= t.logprob + 1e-5 for t in true.tokens)


def test_a_board_is_imitated(tinychat: Run, story: str) -> None:
    desk = json.loads(tinychat("--sim", story, "info", "--json").stdout)
    like = json.loads(tinychat("--sim", story, "--like", "cardputer", "info", "--json").stdout)
    assert like["memory_total"] < 400_000 < desk["memory_total"]
    assert like["kv_type"] == "i8" and like["head_rows"] > 0 and like["batch_in_pages"] == 1
    forced = json.loads(tinychat("--sim", story, "--context", "64", "--kv", "i4", "info", "--json").stdout)
    assert (forced["context"], forced["kv_type"]) == (64, "i4")
    assert json.loads(tinychat("--sim", story, "--kv", "i4/2", "info", "--json").stdout)["kv_type"] == "i4/2"
    result = tinychat("--sim", story, "--like", "toaster", "hi")
    assert result.returncode == 1 and "cardputer" in result.stderr


def test_upload_into_the_simulators_flash(tinychat: Run, story: str, tmp_path: Path) -> None:
    image = str(tmp_path / "flash.img")
    with Device.open("sim:", SimOptions(flash=image)) as device:
        with pytest.raises(errors.NoModelError):
            device.chat("hi")
        device.upload(story)
        text = device.generate("Once", seed=1, max_tokens=10).wait().text
        device.set(temperature=0.25)
    assert text
    with Device.open("sim:", SimOptions(flash=image)) as device:
        assert device.generate("Once", seed=1, max_tokens=10, temperature=0.7).wait().text
        assert device.settings["temperature"] == 0.25
        device.reboot()
        assert device.info().model_state == "ready"
    fixed = tinychat("upload", story, "--sim", story)
    assert fixed.returncode == 1 and "can not be replaced" in fixed.stderr


@pytest.mark.parametrize("slots", [1, 2])
def test_a_flashed_model_partition_is_what_the_firmware_reads(
    sim_program: str, story: str, tmp_path: Path, slots: int
) -> None:
    """`tinychat flash --model` and `firmware/app/store.c` agree about the form of a slot."""
    blob, size = Path(story).read_bytes(), 1 << 20
    flash = bytearray(b"\xff" * (size + 2 * SECTOR))
    for at, data in model_store.slot_images(blob, size).items():
        flash[at : at + len(data)] = data
    image = tmp_path / "flash.img"
    image.write_bytes(flash)
    url, process = listening(sim_program, "--flash", str(image), "--slots", str(slots))
    try:
        with Device.open(url) as device:
            facts = device.info()
            assert (facts.model_state, facts.slot, facts.slots) == ("ready", 0, slots)
            assert facts.model_bytes == len(blob)
    finally:
        process.kill()
        process.wait()


def listening(sim_program: str, *args: str) -> tuple[str, subprocess.Popen[bytes]]:
    """A simulator on a free TCP port, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([sim_program, *args, "--tcp", str(port)], stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    return f"socket://127.0.0.1:{port}", process


@pytest.fixture
def served(sim_program: str, story: str) -> Iterator[str]:
    url, process = listening(sim_program, story)
    yield url
    process.kill()
    process.wait()


def test_two_hosts_at_once(served: str) -> None:
    """The second takes the device over; the first is told, takes it back, and no reply is wrong."""
    first = Device.open(served)
    expected = first.generate("Once", seed=3, max_tokens=10).wait().text
    first.close()
    second = Device.open(served)
    assert second.generate("Once", seed=3, max_tokens=10).wait().text == expected
    second.close()
    first.session.reconnect()
    assert first.generate("Once", seed=3, max_tokens=10).wait().text == expected
    first.close()


def test_a_prompt_longer_than_the_context(story: str) -> None:
    with Device.open(f"sim:{story}") as device:
        with pytest.raises(ChatError, match="longer than the model's context"):
            device.generate("word " * 300, seed=1).wait()
        assert device.generate("Once", seed=1, max_tokens=3).wait().text


def test_hostile_prompts_get_a_reply_or_a_named_error(story: str) -> None:
    with Device.open(f"sim:{story}") as device:
        for prompt in ("\x00\x01\x02", "\udcff\udcfe", "<|endoftext|>", "\U0001f431" * 20, " ", "\r\n\t"):
            try:
                assert device.generate(prompt, seed=1, max_tokens=3).wait().stats is not None
            except errors.DeviceError as err:
                assert err.code != "internal"
        assert device.generate("Once", seed=1, max_tokens=3).wait().text


# ---- TinyTalk --------------------------------------------------------------------------------------


def test_the_chat_template_is_applied(tinychat: Run, talk: str) -> None:
    result = tinychat("--sim", talk, "--temp", "0", stdin="hey, how are you?\n")
    assert result.stdout == "I'm good, thanks for asking. How about you?\n"


def test_a_long_chat_drops_its_oldest_exchanges_once_in_a_while(tinychat: Run, talk: str) -> None:
    lines = "".join(f"tell me about day {n}\n" for n in range(12))
    result = tinychat("--sim", talk, "--context", "96", "--seed", "1", "-n", "20", "--json", stdin=lines)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 12
    dropping = [n for n, row in enumerate(rows) if row["dropped_exchanges"]]
    assert 1 <= len(dropping) < 6
    assert all(rows[n]["reread_tokens"] for n in dropping)
    assert all(row["cached_tokens"] > 0 for n, row in enumerate(rows) if n and n not in dropping)
    assert all(row["position"] <= 96 for row in rows)


def test_stopping_keeps_the_chat_usable(talk: str) -> None:
    with Device.open(f"sim:{talk}") as device:
        reply = device.chat("tell me a long story", seed=2, ignore_stop=True, max_tokens=200)
        for token in reply:
            if token.index == 3:
                reply.stop()
        assert reply.stats is not None and reply.stats.stop_reason in ("stopped", "length")
        position = device.position
        after = device.chat("and then?", seed=2, max_tokens=5).wait().as_dict()
        assert position and after["cached_tokens"] >= position - 1


def test_replies_follow_a_grammar_file_and_a_schema(tinychat: Run, story: str, tmp_path: Path) -> None:
    grammar, schema = tmp_path / "g.txt", tmp_path / "s.json"
    grammar.write_text('reply = " turn " ("on" | "off") " the " ("lamp" | "fan " [1-9])')
    schema.write_text('{"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}')
    for seed in range(3):
        args = ("--sim", story, "--seed", str(seed), "--json", "Lamp?")
        row = json.loads(tinychat(*args, "--grammar", str(grammar)).stdout)
        assert re.fullmatch(" turn (on|off) the (lamp|fan [1-9])", row["text"]) and row["stop_reason"] == "grammar"
        row = json.loads(tinychat(*args, "--schema", str(schema)).stdout)
        assert json.loads(row["text"]) in ({"on": True}, {"on": False})
    for text, words in (("reply = (", "is missing"), ("\udcff", "can not be read")):
        grammar.write_bytes(text.encode("utf-8", "surrogateescape"))
        result = tinychat("--sim", story, "--grammar", str(grammar), "hi")
        assert result.returncode == 1 and words in result.stderr, result.stderr
    missing = tinychat("--sim", story, "--grammar", str(tmp_path / "none"), "hi")
    assert missing.returncode == 1 and "can not be read: No such file" in missing.stderr
    assert tinychat("--sim", story, "--grammar", "a", "--schema", "b", "hi").returncode == 2
