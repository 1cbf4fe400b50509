"""The plan: memory that fits the pieces, and a cost model that predicts what others measured."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tinyexport import pipeline, placement, plan
from tinyexport.blob import reader
from tinyexport.blob.writer import build
from tinyexport.cost import CPU_HZ, TIERS, FittedKeys, extras, stream_seconds
from tinyexport.errors import ConfigError
from tinyexport.quant import QTensor
from tinyexport.runtime import Model

sys.path.insert(0, str(Path(__file__).parent))
import families

ROOT = Path(__file__).resolve().parents[2]
QIO, OCTAL = TIERS["QIO flash 80"], TIERS["octal PSRAM DTR 80"]
REST_S = 0.010  # exp, attention and norms of the 3M and 5M models, estimated where they were published


@pytest.mark.parametrize(
    ("nbytes", "weights", "cpw", "cores", "measured_ms", "within"),
    [
        pytest.param(12.6e6, 3.15e6, 2.0, 2, 410.7, 0.03, id="3M fp32, two cores"),
        pytest.param(3.26e6, 3.15e6, 5.1, 1, 171.0, 0.03, id="3M int8, one core (fitted)"),
        pytest.param(3.26e6, 3.15e6, 5.1, 2, 115.3, 0.03, id="3M int8, two cores"),
        pytest.param(1.68e6, 3.15e6, 11.0, 2, 104.5, 0.03, id="3M int4, two cores"),
        pytest.param(5.22e6, 5.03e6, 5.1, 2, 178.7, 0.03, id="5M int8, two cores"),
        pytest.param(2.69e6, 5.03e6, 11.0, 2, 161.1, 0.03, id="5M int4, two cores"),
    ],
)
def test_published_tokens(nbytes, weights, cpw, cores, measured_ms, within) -> None:
    """Public measurements of a CoreS3 with quad flash and 64-byte lines."""
    modelled = 1e3 * (stream_seconds(nbytes, weights, QIO, 64, cpw, cores) + REST_S)
    assert modelled == pytest.approx(measured_ms, rel=within)


@pytest.mark.parametrize(("line", "measured_ms"), [(32, 20.8), (64, 14.6)])
def test_published_head_stream(line: int, measured_ms: float) -> None:
    """An int4 head of 25,353 x 96 in octal PSRAM, one stream on the bus."""
    nbytes, weights = 25_353 * 52, 25_353 * 96
    modelled = 1e3 * stream_seconds(nbytes, weights, OCTAL, line, 0.6, 2) / 1.06
    assert modelled == pytest.approx(measured_ms, rel=0.03)


@pytest.mark.parametrize(
    ("tier", "cycles"), [("QIO flash 80", (168, 264, 456)), ("octal PSRAM DTR 80", (96, 120, 168))]
)
def test_line_fills(tier: str, cycles: tuple[int, ...]) -> None:
    assert tuple(round(TIERS[tier].line_cycles(n)) for n in (16, 32, 64)) == cycles


@pytest.fixture(scope="module")
def tinytalk(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The shape of TinyTalk with seeded weights."""
    path = families.write("tinytalk", tmp_path_factory.mktemp("plan") / "tinytalk", real=True)
    return pipeline.quantize(pipeline.SourceOptions(str(path)), pipeline.QuantizeOptions(preset="q4_0")).data


def test_tinytalk_on_the_cardputer(tinytalk: bytes) -> None:
    board = plan.find_board("cardputer")
    int8 = plan.make_plan(tinytalk, board)
    assert int8.fits and int8.kv_type == "i8" and int8.note.startswith("--kv i4 holds")
    result = plan.make_plan(tinytalk, board, kv="i4")
    assert result.fits and result.modelled and result.note == ""
    assert result.context >= 240
    assert result.flash_bytes == len(tinytalk) <= result.flash_room
    assert result.ram_bytes + result.ram_parts["pinned"] <= result.ram_room
    assert result.first_token_s <= 0.35 and sum(result.batches) == result.prompt_tokens == 60
    assert set(result.assumptions) == {"ram_room", "ram_bytes", "bytes_per_token", "decode_tok_s", "first_token_s"}
    assert result.decode_tok_s["low"] < result.decode_tok_s["mid"] < result.decode_tok_s["high"]
    # every linear weight and the head once, about 0.56 bytes a weight
    assert result.bytes_per_token + result.ram_parts["pinned"] == pytest.approx(3_367_296 * 18 / 32, rel=0.05)
    assert 128 <= int8.context < result.context and int8.by_kv["i8"]["missing_bytes"] > 200_000


def test_fitted_keys_are_in_the_plan(tinytalk: bytes) -> None:
    """Centred keys for every cache, fed ones for int4's alone; groups of fewer than four heads go to the reference."""
    content, board = reader.read(tinytalk), plan.find_board("cardputer")
    dims, fitted = content.spec.n_heads * content.spec.head_dim, families.fitted_keys(content.spec)
    centred = {name: t for name, t in fitted.items() if name.endswith("k_range")}

    def rest_ms(tensors: dict[str, QTensor], kv: str) -> float:
        data = build(replace(content, tensors=content.tensors | tensors))
        return plan.make_plan(data, board, context=64, kv=kv).parts_ms["rest"]

    for kv in ("i8", "i4"):
        plain, with_range, with_both = rest_ms({}, kv), rest_ms(centred, kv), rest_ms(fitted, kv)
        assert with_range > plain and (with_both > with_range) == (kv == "i4")
        keys = FittedKeys(8 * dims, 8 * dims, 8 * dims if kv == "i4" else 0)
        cost = extras(dims, 8, 16, 512, content.spec.vocab, 0, 1, keys)
        assert with_both - plain == pytest.approx(cost.keys / CPU_HZ * 1e3, rel=1e-3)
    one, four, eight = (rest_ms(fitted, kv) for kv in ("i4", "i4/4", "i4/8"))
    assert one == four < eight


def test_more_is_asked_than_there_is(tinytalk: bytes) -> None:
    board = plan.find_board("cardputer")
    result = plan.make_plan(tinytalk, board, context=256, kv="f32")
    assert not result.fits and f"{result.missing_bytes:,} B are missing" in result.reason
    assert result.limit == "does not fit" and result.missing_bytes > 1_500_000
    with pytest.raises(ConfigError):
        plan.make_plan(tinytalk, board, context=4096)


def test_finer_scales_are_refused_where_they_do_not_fit(tinytalk: bytes) -> None:
    board = plan.find_board("cardputer")
    whole = plan.make_plan(tinytalk, board, context=256, kv="i4")
    assert whole.fits and list(whole.by_kv) == ["i4"]
    finer = plan.make_plan(tinytalk, board, context=256, kv="i4/4")
    assert (finer.fits, finer.context, finer.limit) == (False, 0, "does not fit") and finer.missing_bytes > 0
    assert list(finer.by_kv) == ["i4", "i4/2", "i4/4"]
    fits = [row["context"] for row in finer.by_kv.values()]
    assert fits == sorted(fits, reverse=True) and fits[0] == 256 > fits[-1] > 0
    assert finer.reason.endswith(f"what fits: 256 with i4, {fits[1]} with i4/2, {fits[2]} with i4/4")
    assert plan.make_plan(tinytalk, board, context=fits[2], kv="i4/4").fits
    with pytest.raises(ConfigError, match="16 kv heads of layer 0 do not fall into 3") as caught:
        plan.make_plan(tinytalk, board, kv="i4/3")
    assert caught.value.hint.endswith("i4/8, i4/16")


@pytest.mark.parametrize("kind", ["i8/2", "i4/4", "i4/16"])
def test_the_bytes_of_a_plan_are_those_of_the_runtime(tinytalk: bytes, kind: str) -> None:
    board = plan.find_board("cardputer")
    result = plan.make_plan(tinytalk, board, kv=kind)
    need = Model(tinytalk).need(context=result.context, kv=kind)
    assert result.kv_type == kind and result.ram_parts["kv"] == need["page"] * need["pages"]
    assert result.by_kv[kind]["kv_bytes"] == result.ram_parts["kv"]
    groups = int(kind[3:])
    codes = {"i8": 2 * 16 * 128, "i4": 16 * 128}[kind[:2]]
    assert need["page"] == codes + groups * 2 * 16 * 2
    coarse = plan.make_plan(tinytalk, board, context=result.context, kv=kind[:2])
    assert result.parts_ms["attention"] > coarse.parts_ms["attention"]


def test_psram_holds_the_whole_context(tinytalk: bytes) -> None:
    result = plan.make_plan(tinytalk, plan.find_board("esp32-s3-devkitc-1-n8r8"))
    assert result.fits and result.context == 256 and result.kv_type == "i8"


def test_what_is_missing_is_just_enough(tinytalk: bytes) -> None:
    model, board = Model(tinytalk), plan.find_board("cardputer")
    for context, kv in ((256, "i8"), (256, "f16"), (160, "i8")):
        first, *rest = board.pieces
        lacks = placement.missing(model, board, context, kv)
        assert lacks > 0 and not placement.memory(model, board, context, kv)[1]
        assert placement.memory(model, board, context, kv, (first + lacks, *rest))[1]
        assert not placement.memory(model, board, context, kv, (first + lacks - 64, *rest))[1]
    assert placement.missing(model, board, 64, "i4") == 0


def test_weights_that_have_room_in_ram_are_not_read_from_flash(tinytalk: bytes) -> None:
    board = plan.find_board("cardputer")
    short, full = (plan.make_plan(tinytalk, board, context=n, kv="i4") for n in (64, 240))
    assert short.pinned_tensors > full.pinned_tensors and short.ram_parts["pinned"] > 150_000
    saved = full.bytes_per_token - short.bytes_per_token
    assert saved == short.ram_parts["pinned"] - full.ram_parts["pinned"]
    faster_ms = full.parts_ms["core"] - short.parts_ms["core"]
    assert faster_ms * 1e3 / (saved / 1024) == pytest.approx(29, rel=0.2)  # 29 us a KB
    external = plan.make_plan(tinytalk, plan.find_board("esp32-s3-devkitc-1-n8r8"))
    assert external.bytes_per_token < 1024, "the whole model lies in PSRAM"
    assert external.decode_tok_s["mid"] > 2 * full.decode_tok_s["mid"]


def test_a_blob_too_large_for_flash(tinytalk: bytes) -> None:
    import dataclasses

    small = dataclasses.replace(plan.find_board("cardputer"), model_partition=1 << 20)
    result = plan.make_plan(tinytalk, small)
    assert not result.fits and "partition" in result.reason


def test_every_board_names_what_it_rests_on() -> None:
    for board in plan.boards().values():
        assert board.source and board.flash_tier in TIERS and board.model_partition < board.flash
        assert bool(board.psram) == (board.psram_tier in TIERS) and len(board.pieces) <= 4
        rounding = sum(board.heap) + board.psram - board.stack - board.reserve - sum(board.pieces)
        assert 0 <= rounding < 64 * len(board.pieces)
    assert CPU_HZ == 240e6


def test_quantize_says_when_nothing_fits(tinytalk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    assert plan.fits_nowhere(tinytalk) is None
    shrunk = {n: dataclasses.replace(b, model_partition=1 << 20) for n, b in plan.boards().items()}
    monkeypatch.setattr(plan, "boards", lambda: shrunk)
    why = plan.fits_nowhere(tinytalk)
    assert why is not None and all(name in why for name in shrunk)


def test_a_certified_head_is_modelled_with_what_it_reads(tmp_path: Path) -> None:
    """The example's head at top-k 40, at the best token alone, and without certificates."""
    source = pipeline.SourceOptions(str(ROOT / "examples" / "smalltalk"))
    text = ROOT / "examples" / "smalltalk" / "greetings.txt"
    board = plan.find_board("esp32-s3-devkitc-1-n8")
    plain = plan.make_plan(pipeline.quantize(source, pipeline.QuantizeOptions()).data, board)
    options = pipeline.QuantizeOptions(head="certified", head_text=text)
    certified = plan.make_plan(pipeline.quantize(source, options).data, board)
    assert plain.head_share == 1 and plain.greedy_tok_s == plain.decode_tok_s["mid"]
    assert 0 < certified.head_share < 1.3
    assert certified.greedy_tok_s > certified.decode_tok_s["mid"]
