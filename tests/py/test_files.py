"""Files are written whole or not at all, and nothing but files is replaced."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tinyexport.files import replacing


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, OSError(28, "No space left"), OSError("9 of 99")])
def test_a_failure_leaves_what_there_was(tmp_path: Path, failure: type[BaseException] | BaseException) -> None:
    path = tmp_path / ("x" * 250)
    path.write_text("old")
    with pytest.raises(BaseException) as caught, replacing(path) as aside:
        aside.write_text("half")
        raise failure
    assert path.read_text() == "old" and names(tmp_path) == [path.name]
    if isinstance(caught.value, OSError):
        assert caught.value.filename == str(path) and caught.value.strerror in ("No space left", "9 of 99")


def test_success_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "ein Wört.txt"
    for text in ("one", "two"):
        with replacing(path) as aside:
            aside.write_text(text)
        assert path.read_text() == text and names(tmp_path) == [path.name]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_folder_that_is_not_there_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "x"
    with pytest.raises(FileNotFoundError) as caught, replacing(path):
        pass
    assert caught.value.filename == str(path)


def test_of_a_link_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with replacing(link) as aside:
        aside.write_text("new")
    assert link.is_symlink() and target.read_text() == "new"


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    """As root, `quantize -o /dev/null` put a file in the place of /dev/null."""
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
    reader.start()
    with replacing(pipe) as aside:
        aside.write_text("through")
    reader.join(10)
    assert got == ["through"] and pipe.is_fifo() and names(tmp_path) == ["pipe"]
