"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a file to write to, which then takes the place of `path`; when the block fails, nothing has changed.

    It lies in the same folder and is synced before it is renamed. Of a link, what it points to is replaced. What is
    no plain file (/dev/null, a pipe) is written to as it is. An OSError names `path`, whatever step it came from.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            yield target
            return
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", dir=target.parent)
        os.close(handle)
        try:
            yield Path(name)
            _finish(name)
            os.replace(name, target)
        except BaseException:  # Ctrl-C too
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as err:
        if err.errno is None:  # numpy has its own words for a full disk
            raise OSError(errno.EIO, str(err), str(path)) from err
        err.filename = str(path)
        raise


def _finish(name: str) -> None:
    """On the disk, with the permissions that a new file has."""
    handle = os.open(name, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(name, 0o666 & ~mask)
