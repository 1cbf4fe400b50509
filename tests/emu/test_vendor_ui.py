"""The chat screen of boards with a keyboard: wrapping, folding to ASCII, keys, pages, models from a card."""

from __future__ import annotations

import ctypes as c
from collections.abc import Iterator
from functools import lru_cache

import cbuild
import models
import pytest
import simlib

UI_COLS, UI_ROWS, UI_LINES = 40, 13, 96
RUB_OUT, TAB, ENTER, ESCAPE, UP, DOWN, LEFT, RIGHT = 8, 9, 13, 27, 128, 129, 130, 131
REPLY, PERSON, NOTE, BAR, INPUT, CHOSEN = range(6)
DRAWN, BRIGHTNESS, CLOSED, POSITION, MODEL_STATE, MODE, TEMPERATURE = range(7)
READY, RAW = 1, 1


@lru_cache
def library() -> c.CDLL:
    """App, screen and simulated board as a shared library."""
    archive = cbuild.library("gcc")
    out = cbuild.BUILD / "gcc" / "libtlm_ui.so"
    probe = simlib.ROOT / "tests/emu/ui_probe.c"
    sources = [*simlib.app_sources(), probe]
    with cbuild.locked(cbuild.BUILD / "gcc"):
        if simlib._stale(out, sources):
            flags = [*cbuild.NUMERIC, *cbuild.WARNINGS, "-O2", "-fPIC", "-shared", *simlib.INCLUDES, *cbuild.INCLUDES]
            new = out.with_suffix(".new")
            cbuild.run([cbuild.present("gcc"), *flags, *sources, archive, "-o", new])
            new.rename(out)
    lib = c.CDLL(str(out))
    lib.probe_new.restype = c.c_void_p
    lib.probe_new.argtypes = [c.c_void_p, c.c_size_t, c.c_void_p, c.c_uint32, c.c_uint8]
    lib.probe_card.argtypes = [c.c_void_p, c.c_void_p, c.c_uint32, c.c_uint8]
    lib.probe_key.argtypes = [c.c_void_p, c.c_uint8]
    lib.probe_turn.argtypes = [c.c_void_p, c.c_char_p, c.c_char_p, c.c_char_p]
    lib.probe_run.argtypes, lib.probe_run.restype = [c.c_void_p, c.c_uint32], c.c_uint32
    lib.probe_row.argtypes, lib.probe_row.restype = [c.c_void_p, c.c_uint8, c.c_void_p], c.c_void_p
    lib.probe_value.argtypes, lib.probe_value.restype = [c.c_void_p, c.c_uint8], c.c_uint32
    lib.probe_light.argtypes = [c.c_void_p, c.c_uint8]
    lib.probe_free.argtypes = [c.c_void_p]
    lib.ui_ascii.argtypes, lib.ui_ascii.restype = [c.c_char_p, c.c_size_t, c.c_char_p, c.c_void_p], c.c_size_t
    lib.ui_keys_next.argtypes, lib.ui_keys_next.restype = [c.c_void_p, c.c_uint64, c.c_uint64], c.c_uint8
    for name in ("ui_key_of_matrix", "ui_key_of_tca8418"):
        getattr(lib, name).restype = c.c_uint64
    lib.ui_scroll_line.restype = c.c_void_p
    lib.ui_scroll_line.argtypes = [c.c_void_p, c.c_uint32]
    lib.ui_scroll_add.argtypes = [c.c_void_p, c.c_char_p, c.c_size_t]
    return lib


# ---- text -------------------------------------------------------------------------------------------


def fold(data: bytes) -> str:
    lib, out, n = library(), c.create_string_buffer(3), c.c_size_t()
    text, at = "", 0
    while at < len(data):
        took = lib.ui_ascii(data[at:], len(data) - at, out, c.byref(n))
        assert 1 <= took <= len(data) - at and n.value <= 3
        text += out.raw[: n.value].decode("ascii")
        at += took
    return text


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("plain text, 100%!", "plain text, 100%!"),
        ("“Où est-il — là…?”", '"Ou est-il -- la...?"'),
        ("naïve café, Łódź, Ærø, straße", "naive cafe, Lodz, AErO".replace("O", "o") + ", strasse"),
        ("5 € → 3", "5 EUR -> 3"),
        ("e\u0301a\u200b", "ea"),
        ("日本。", "??."),
        ("\U0001f600", "?"),
        ("a\tb\x01c\x7f", "a b c"),
    ],
)
def test_text_becomes_ascii(text: str, folded: str) -> None:
    assert fold(text.encode()) == folded


def test_any_bytes_fold_to_printable_ascii() -> None:
    every = bytes(a for pair in ((x, y) for x in range(256) for y in (0x20, 0x80, 0xBF, 0xFF)) for a in pair)
    assert all(32 <= ord(ch) < 127 or ch == "\n" for ch in fold(every))
    assert fold(b"\xe2\x82") == "??"  # cut off


class Scroll(c.Structure):
    _fields_ = [("lines", c.c_char * (UI_LINES * (UI_COLS + 2))), ("begun", c.c_uint32)]


def scrolled(text: str, pieces: int = 1) -> list[str]:
    lib, scroll = library(), Scroll()
    data = text.encode()
    step = max(1, len(data) // pieces)
    for at in range(0, len(data), step):
        lib.ui_scroll_add(c.byref(scroll), data[at : at + step], len(data[at : at + step]))
    lines, back = [], 0
    while (line := lib.ui_scroll_line(c.byref(scroll), back)) is not None:
        raw = c.string_at(line, UI_COLS + 2)
        lines.append(raw[: raw[UI_COLS]].decode("ascii"))
        back += 1
    return lines[::-1]


STORY = "Once upon a time there was a little girl who lived in a small house near the forest with her mother. " * 6


@pytest.mark.parametrize("pieces", [1, 7, 10000])
def test_words_wrap_whole(pieces: int) -> None:
    lines = scrolled(STORY, pieces)
    assert all(len(line) <= UI_COLS for line in lines)
    assert " ".join(line.strip() for line in lines).split() == STORY.split()
    assert max(len(line) for line in lines) > 30


def test_a_word_longer_than_the_screen_is_cut() -> None:
    assert scrolled("x" * 95) == ["x" * 40, "x" * 40, "x" * 15]


def test_only_the_newest_lines_are_kept() -> None:
    lines = scrolled("\n".join(str(i) for i in range(300)))
    assert lines == [str(i) for i in range(300 - UI_LINES, 300)]


# ---- keys -------------------------------------------------------------------------------------------


class Keys(c.Structure):
    _fields_ = [("down", c.c_uint64), ("told", c.c_uint64), ("repeats", c.c_uint8), ("next_us", c.c_uint64)]


def bit(row: int, col: int) -> int:
    return 1 << (row * 14 + col)


FN, SHIFT = bit(2, 0), bit(2, 1)


def pressed(keys: Keys, down: int, us: int) -> list[int]:
    told = []
    while (key := library().ui_keys_next(c.byref(keys), down, us)) != 0:
        told.append(key)
        assert len(told) < 60
    return told


def test_both_keyboards_have_every_key_once() -> None:
    lib = library()
    matrix = [lib.ui_key_of_matrix(s, i) for s in range(8) for i in range(7)]
    adv = [k for code in range(256) if (k := lib.ui_key_of_tca8418(code))]
    assert sorted(matrix) == sorted(adv) == sorted(bit(r, col) for r in range(4) for col in range(14))
    assert lib.ui_key_of_matrix(8, 0) == lib.ui_key_of_matrix(0, 7) == 0


def test_a_key_is_told_once_while_it_is_held() -> None:
    keys = Keys()
    assert pressed(keys, bit(1, 1), 0) == [ord("q")]
    assert pressed(keys, bit(1, 1), 10_000_000) == []
    assert pressed(keys, bit(1, 1) | bit(1, 2), 10_000_001) == [ord("w")]
    assert pressed(keys, 0, 10_000_002) == []
    assert pressed(keys, SHIFT | bit(1, 1), 10_000_003) == [ord("Q")]


def test_fn_makes_arrows_and_escape() -> None:
    for row, col, key in ((2, 11, UP), (3, 11, DOWN), (3, 10, LEFT), (3, 12, RIGHT), (0, 0, ESCAPE)):
        keys = Keys()
        assert pressed(keys, FN, 0) == []
        assert pressed(keys, FN | bit(row, col), 1) == [key]


def test_rub_out_repeats_and_letters_do_not() -> None:
    keys = Keys()
    told = [key for ms in range(0, 1000, 10) for key in pressed(keys, bit(0, 13), ms * 1000)]
    assert told == [RUB_OUT] * 11


# ---- the screen -------------------------------------------------------------------------------------


class Screen:
    """A simulated board with a screen."""

    def __init__(self, blob: bytes | None = None, flash: int = 0, slots: int = 2) -> None:
        self.lib = library()
        self._blob, at = simlib.aligned(blob) if blob else (None, None)
        self._flash, flash_at = simlib.aligned(b"", flash + 8192) if flash else (None, None)
        self.handle = self.lib.probe_new(at, len(blob or b""), flash_at, flash, slots)
        assert self.handle
        self.run()

    def card(self, data: bytes, fails: bool = False) -> None:
        self._card = c.create_string_buffer(data, len(data))
        self.lib.probe_card(self.handle, self._card, len(data), fails)

    def press(self, *keys: int | str) -> None:
        for key in keys:
            for one in key if isinstance(key, str) else [chr(key)]:
                self.lib.probe_key(self.handle, ord(one))

    def run(self, steps: int = 100_000) -> int:
        return int(self.lib.probe_run(self.handle, steps))

    def row(self, number: int) -> tuple[str, int]:
        colour = c.c_uint8()
        at = self.lib.probe_row(self.handle, number, c.byref(colour))
        return c.string_at(at, UI_COLS).decode("ascii").rstrip(), colour.value

    def body(self, colour: int | None = None) -> list[str]:
        rows = [self.row(i) for i in range(1, UI_ROWS - 1)]
        return [text for text, used in rows if text and colour in (None, used)]

    def value(self, which: int) -> int:
        return int(self.lib.probe_value(self.handle, which))


@pytest.fixture
def screen() -> Iterator[Screen]:
    made = Screen(models.tinybuddy())
    yield made
    made.lib.probe_free(made.handle)


def test_brightness_set_by_a_host_is_seen_at_once(screen: Screen) -> None:
    """The screen took it at the next boot only."""
    assert screen.value(BRIGHTNESS) == 80
    assert screen.lib.probe_light(screen.handle, 30) == 0 and screen.value(BRIGHTNESS) == 30
    assert screen.lib.probe_light(screen.handle, 101) != 0 and screen.value(BRIGHTNESS) == 30


def test_a_typed_line_is_answered(screen: Screen) -> None:
    screen.press("hellp", RUB_OUT, "o", ENTER)
    screen.run(3)
    assert screen.body(PERSON) == ["hello"]
    assert screen.run() > 3
    assert screen.body(REPLY), "a reply"
    status, colour = screen.row(0)
    assert colour == BAR and "tok/s" in status and status.endswith("87%")
    assert screen.row(12)[0] == "> _"


def test_a_reply_begins_without_the_space_before_it(screen: Screen) -> None:
    screen.lib.probe_turn(screen.handle, b"one", b" ", b" two\n  three")
    screen.lib.probe_turn(screen.handle, b"four", b" five", b" six")
    screen.run()
    assert screen.body(REPLY) == ["two", "  three", "five six"]


def test_escape_stops_a_reply(screen: Screen) -> None:
    screen.press("Tell me a long story", ENTER)
    screen.run(2)
    screen.press(ESCAPE)
    screen.run()
    assert screen.body(NOTE)[-1] == "(stopped)"


def test_what_does_not_change_is_not_drawn_again(screen: Screen) -> None:
    screen.run(10)
    before = screen.value(DRAWN)
    screen.run(10)
    assert screen.value(DRAWN) == before
    screen.press("x")
    screen.run(1)
    assert screen.value(DRAWN) == before + 1


def test_scrolling_back_stays_within_what_there_is(screen: Screen) -> None:
    for _ in range(4):
        screen.press("hi", ENTER)
        screen.run()
    newest = screen.body()
    screen.press(*[UP] * 200)
    screen.run(1)
    oldest = screen.body()
    assert oldest != newest and len(oldest) >= 5
    screen.press(*[DOWN] * 200)
    screen.run(1)
    assert screen.body() == newest


def test_settings_change_and_are_in_force(screen: Screen) -> None:
    start = screen.value(TEMPERATURE)
    screen.press(TAB, RIGHT, RIGHT)
    screen.run(1)
    assert screen.value(TEMPERATURE) == start + 2
    assert any(text.startswith("temperature") for text in screen.body(CHOSEN))
    screen.press(*[LEFT] * 50)
    assert screen.value(TEMPERATURE) == 0
    screen.press(DOWN, DOWN, DOWN, RIGHT)
    assert screen.value(MODE) == RAW
    screen.run(1)
    assert screen.body(CHOSEN) == ["mode          story"]
    screen.press(DOWN, *[LEFT] * 20)
    assert screen.value(BRIGHTNESS) == 10
    screen.press(DOWN, ENTER)
    screen.run(1)
    assert screen.value(POSITION) == 0


def test_about_names_licence_and_attribution(screen: Screen) -> None:
    from tinyexport.blob.reader import read

    info = read(models.tinybuddy()).info
    screen.press(TAB, TAB, TAB)
    screen.run(1)
    text = " ".join(screen.body())
    for key in ("name", "licence", "attribution"):
        if info.get(key):
            assert info[key].split()[0] in text, key
    assert "licence" in text


def test_a_model_is_installed_from_the_card() -> None:
    screen = Screen(flash=1 << 20)
    assert screen.value(MODEL_STATE) != READY
    screen.card(models.tinybuddy())
    screen.press(TAB, TAB)
    screen.run(1)
    assert screen.body(CHOSEN) == ["model.tlm"]
    screen.press(ENTER)
    screen.run()
    assert screen.body(NOTE)[-1] == "(the model is installed)"
    assert (screen.value(MODEL_STATE), screen.value(CLOSED)) == (READY, 1)
    screen.press("hello", ENTER)
    screen.run(3)
    assert screen.body(PERSON) == ["hello"]


@pytest.mark.parametrize(("what", "fails"), [("card", True), ("garbage", False)])
@pytest.mark.parametrize("slots", [1, 2])
def test_a_bad_card_leaves_a_device_that_works(what: str, fails: bool, slots: int) -> None:
    screen = Screen(flash=1 << 20, slots=slots)
    good = models.tinybuddy()
    screen.card(good if fails else b"\x55" * 50_000, fails)
    screen.press(TAB, TAB, ENTER)
    screen.run()
    assert "(the model is installed)" not in screen.body(NOTE)
    assert screen.value(CLOSED) == 1
    screen.card(good)
    screen.press(TAB, TAB, ENTER)
    screen.run()
    assert screen.value(MODEL_STATE) == READY
