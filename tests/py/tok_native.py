"""The tokenizer of runtime_c alone, built from its sources and driven through ctypes."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "runtime_c"
SPECIAL, BOS, CONTINUE = 1, 2, 4
NO_TOKEN = 0xFFFFFFFF
ERRORS = (
    "OK ARG FP MAGIC VERSION TRUNCATED CRC FORMAT LIMIT WEIGHTS ALIGN MEMORY TOKEN CONTEXT NUMERIC TOKENIZER OVERFLOW"
).split()


def sources() -> list[str]:
    """The C files of the tokenizer and the harness around them."""
    return [*map(str, sorted((RUNTIME / "src").glob("tlm_tok*.c"))), str(ROOT / "tests" / "c" / "tok_harness.c")]


def compiler() -> str:
    """A C compiler, or a skipped test."""
    found = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        import pytest

        pytest.skip("no C compiler")
    return found


@cache
def library() -> ctypes.CDLL:
    """The tokenizer as a shared library, built once a run."""
    out = Path(tempfile.mkdtemp(prefix="tlm_tok_")) / "libtok.so"
    flags = ["-std=c99", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
    includes = [f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}"]
    subprocess.run([compiler(), *flags, *includes, *sources(), "-o", str(out)], check=True)
    lib = ctypes.CDLL(str(out))
    p, size, u32 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32
    psize = ctypes.POINTER(size)
    lib.harness_open.restype = p
    lib.harness_open.argtypes = [ctypes.c_char_p, u32, u32, ctypes.POINTER(ctypes.c_int)]
    lib.harness_close.argtypes = [p]
    lib.harness_encode.argtypes = [p, ctypes.c_char_p, size, u32, p, size, psize]
    lib.harness_piece.argtypes = [p, u32, p, size, psize]
    lib.harness_decode.argtypes = [p, p, size, ctypes.c_int, ctypes.c_int, p, size, p, psize]
    for name in ("bos", "eos"):
        getattr(lib, f"harness_{name}").argtypes = [p]
        getattr(lib, f"harness_{name}").restype = u32
    lib.harness_token_id.argtypes = [p, ctypes.c_char_p, size]
    lib.harness_token_id.restype = u32
    lib.harness_class.argtypes = [u32]
    lib.harness_class.restype = u32
    return lib


class NativeError(Exception):
    """A tlm_err of the C side, by its name without TLM_ERR_."""


def _raise(code: int) -> None:
    if code:
        raise NativeError(ERRORS[code])


class NativeTokenizer:
    """tlm_encode, tlm_piece and tlm_decode over one packed section."""

    def __init__(self, section: bytes, vocab: int = 1 << 20) -> None:
        self.lib = library()
        err = ctypes.c_int()
        self.handle = self.lib.harness_open(section, len(section), vocab, ctypes.byref(err))
        _raise(err.value)

    def __del__(self) -> None:
        if getattr(self, "handle", None) and sys is not None:
            self.lib.harness_close(self.handle)

    def encode(self, text: str | bytes, flags: int = 0, cap: int | None = None) -> list[int]:
        """Ids of a text; with `cap` at most so many (NativeError OVERFLOW when there are more)."""
        data = text.encode("utf-8") if isinstance(text, str) else text
        room = 16 * len(data) + 16 if cap is None else cap
        ids = (ctypes.c_uint32 * max(room, 1))()
        count = ctypes.c_size_t()
        _raise(self.lib.harness_encode(self.handle, data, len(data), flags, ids, room, ctypes.byref(count)))
        return list(ids[: count.value])

    def piece(self, token: int, cap: int = 512) -> bytes:
        out, size = ctypes.create_string_buffer(max(cap, 1)), ctypes.c_size_t()
        _raise(self.lib.harness_piece(self.handle, token, out, cap, ctypes.byref(size)))
        return ctypes.string_at(out, size.value)

    def stream(self, ids: list[int], replace: bool = False, started: bool = False) -> list[bytes]:
        """What tlm_decode hands out for each id, and at last what tlm_decode_end does."""
        n, cap = len(ids), 64 * len(ids) + 8192
        array, ends = (ctypes.c_uint32 * max(n, 1))(*ids), (ctypes.c_size_t * max(n, 1))()
        out, size = ctypes.create_string_buffer(cap), ctypes.c_size_t()
        _raise(self.lib.harness_decode(self.handle, array, n, replace, started, out, cap, ends, ctypes.byref(size)))
        cuts, text = [0, *ends[:n], size.value], ctypes.string_at(out, size.value)
        return [text[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]

    def decode(self, ids: list[int], replace: bool = False, started: bool = False) -> bytes:
        return b"".join(self.stream(ids, replace, started))

    def bos(self) -> int:
        return int(self.lib.harness_bos(self.handle))

    def eos(self) -> int:
        return int(self.lib.harness_eos(self.handle))

    def token_id(self, piece: bytes) -> int:
        return int(self.lib.harness_token_id(self.handle, piece, len(piece)))
