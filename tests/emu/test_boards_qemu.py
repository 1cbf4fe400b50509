"""The complete firmware on emulated processors: what it says and computes is what this machine does, bit for bit.

`tinychat` talks to each through `socket://`; the truth is the simulated board with the same blob and KV type.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from models import exported, small, talker, tinybuddy
from qemu import TARGETS, running
from simlib import Sim, SimClock, SimLink

from tinychat import ChatError, Device
from tinychat.protocol import AUTO, Error
from tinychat.upload import Upload

FPU = ("rv32imafc", "m7")
TYPES = ("f32", "f16", "q8_0", "q4_0", "t2", "t1")


def probe(device: Device, ids: list[int]) -> list[tuple[int, int]]:
    """CRC of all logits and the best id after each of `ids`."""
    rows = []
    device.session.call("probe", patience=60, on_event=rows.append, flags=0, ids=ids)
    return [(r.crc, r.best) for r in rows if r.name == "probe_row"]


def say(device: Device, text: str, **options: float) -> list[tuple[int, str, float]]:
    reply = device.chat(text, **options)
    tokens = [(t.id, t.text, t.logprob) for t in reply]
    assert reply.stats is not None
    return tokens


@lru_cache(maxsize=2)
def desk(blob: bytes, context: int) -> Device:
    clock = SimClock()
    return Device(SimLink(Sim(blob, context=context, kv="i8"), clock), clock)


def ids_of(vocab: int, n: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(vocab).integers(0, vocab, n)]


@pytest.mark.parametrize("name", TARGETS)
def test_chat_upload_and_power_off(name: str, tmp_path: Path) -> None:
    """A life of a board: empty, a model comes over the serial line, a conversation, power off, another model."""
    with running(name, tmp_path) as emulator:
        device = emulator.device()
        assert device.info()["model_state"] == "none" and device.info()["selfcheck"] == []
        with pytest.raises(ChatError, match="no model"):
            device.chat("hello").wait()
        Upload(device.session, talker()).run()
        device.session.connect()
        info = device.info()
        assert info["board"] == f"qemu_{emulator.target.folder[5:]}" and info["kernels"] == "ref"
        twin = desk(talker(), info["context"])
        twin.reset()
        for turn in range(3):
            options = {"temperature": 0.8, "seed": turn, "max_tokens": 10}
            assert say(device, f"turn {turn}", **options) == say(twin, f"turn {turn}", **options)
        device.set(top_k=17)
        emulator.power_cycle()
        device = emulator.device()
        if emulator.target.folder == "qemu_cortexm":  # its flash is memory
            assert device.info()["model_state"] == "none"
            return
        assert device.info()["model"] == "tinybuddy" and device.settings["top_k"] == 17
        Upload(device.session, small(2, "q8_0")).run()
        device.session.connect()
        assert device.info()["model"] == "small q8_0 2"


@lru_cache
def expected(n: int, kv: str) -> list[tuple[int, int]]:
    clock = SimClock()
    return probe(Device(SimLink(Sim(tiny(n), kv=kv), clock), clock), ids_of(24, 40))


def tiny(n: int) -> bytes:
    """One weight type each; Llama-like and GPT-like in turn."""
    return small(n, TYPES[n], dim=48)


@pytest.mark.parametrize("name", TARGETS)
def test_every_type_has_the_same_bits(name: str, tmp_path: Path) -> None:
    """Every weight type with every KV type, RoPE and learned positions, RMS and LayerNorm, a window and GQA."""
    for n, kind in enumerate(TYPES):
        with running(name, tmp_path, tiny(n)) as emulator:
            device = emulator.device()
            for kv in ("f32", "f16", "i8", "i4", *(("i4/2",) if n % 2 else ())):  # GPT-like: two kv heads
                device.set(kv_type=kv)
                assert probe(device, ids_of(24, 40)) == expected(n, kv), f"{kind} with KV {kv}"


REAL: dict[str, tuple[str, tuple[str, ...]]] = {
    "stories260k": ("stories260k", ()),
    "ternary": ("bitnet-stories-1m-packed", ()),
    "tinytalk": ("tinytalk-pruned", ("--q4_0",)),
}


def check_trained(name: str, blob: bytes, prompt: str, folder: Path) -> None:
    with running(name, folder, blob) as emulator:
        device = emulator.device()
        info = device.info()
        assert info["selfcheck"] == [] and info["context"] >= 96
        twin = desk(blob, info["context"])
        ids = ids_of(info["vocab"], 16 if name in FPU else 5)
        assert probe(device, ids) == probe(twin, ids)
        options = {"temperature": 0.7, "top_k": 40, "seed": 11, "max_tokens": 12 if name in FPU else 4}
        device.reset()
        twin.reset()
        assert say(device, prompt, **options) == say(twin, prompt, **options)


@pytest.mark.parametrize("name", TARGETS)
def test_tinybuddy(name: str, tmp_path: Path) -> None:
    check_trained(name, tinybuddy(), "Once upon a time", tmp_path)


@pytest.mark.parametrize("model", REAL)
@pytest.mark.parametrize("name", TARGETS)
def test_real_models(name: str, model: str, shared: Path, tmp_path: Path) -> None:
    """Trained checkpoints: the logits of a prefill, and a reply. The processors without FPU get fewer tokens."""
    checkpoint, options = REAL[model]
    blob = exported(shared / "checkpoints" / checkpoint, *options)
    check_trained(name, blob, "hey, how are you?", tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_refusals(name: str, tmp_path: Path) -> None:
    with running(name, tmp_path, small(2, "q8_0")) as emulator:
        device = emulator.device()
        with pytest.raises(ChatError) as caught:
            device.session.call("upload_begin", "upload_is", slot=AUTO, size=1 << 30, sha256=bytes(32))
        assert caught.value.number == Error.STORE_SIZE  # type: ignore[attr-defined]
        garbage = bytes(range(256)) * 8
        with pytest.raises(ChatError) as caught:
            Upload(device.session, garbage).run()
        assert caught.value.number == Error.MODEL_FORMAT  # type: ignore[attr-defined]
        assert device.info()["model"] == "small q8_0 2"
