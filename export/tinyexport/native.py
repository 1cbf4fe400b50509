"""The shared library behind `runtime.py`: where it is, the signatures of its functions, its errors.

The functions are those of runtime_c/tools/tlm_py.c; runtime_c/include/tlm.h is their manual.
"""

from __future__ import annotations

import ctypes as c
import os
import sys
from functools import lru_cache
from pathlib import Path

from .errors import RuntimeFault

_VOID, _STR, _U32, _SIZE = c.c_void_p, c.c_char_p, c.c_uint32, c.c_size_t
_HINTS = {
    "TLM_ERR_MAGIC": "make a blob with `tinyexport quantize`",
    "TLM_ERR_VERSION": "export the checkpoint again with this version",
    "TLM_ERR_TRUNCATED": "copy or export the blob again",
    "TLM_ERR_CRC": "copy or export the blob again",
    "TLM_ERR_FORMAT": "export the checkpoint again",
    "TLM_ERR_LIMIT": "export the checkpoint again",
    "TLM_ERR_WEIGHTS": "export the checkpoint again",
    "TLM_ERR_NUMERIC": "the weights may be damaged, or a sampling option extreme",
    "TLM_ERR_CONTEXT": "shorten the text, or raise --context up to what the model has",
    "TLM_ERR_TOKEN": "the ids belong to another tokenizer",
    "TLM_ERR_TOKENIZER": "export the checkpoint with its tokenizer",
    "TLM_ERR_FP": "build the library without -ffast-math",
    "TLM_ERR_ARG": "see the ranges in runtime_c/include/tlm.h",
}


OWN_BLOCKS = 3  # TLM_OWN_BLOCKS


class Options(c.Structure):
    """tlm_py_options."""

    _fields_ = [
        ("context", _U32),
        ("kv_type", _U32),
        ("kv_groups", _U32),
        ("batch", _U32),
        ("head_rows", _U32),
        ("threads", _U32),
        ("batch_in_pages", c.c_uint8),
        ("repack", c.c_uint8),
        ("pin", c.c_uint8),
        ("own", c.c_uint64 * OWN_BLOCKS),
        ("backend", _STR),
    ]


# name -> (result, arguments)
_SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "open": (_VOID, [_VOID, _SIZE, _VOID]),
    "close": (None, [_VOID]),
    "vocab": (_U32, [_VOID]),
    "context": (_U32, [_VOID]),
    "bos": (_U32, [_VOID]),
    "eos": (_U32, [_VOID]),
    "token_id": (_U32, [_VOID, _VOID, _SIZE]),
    "encode": (c.c_int32, [_VOID, _VOID, _SIZE, _U32, _VOID, _SIZE, _VOID]),
    "section_encode": (c.c_int32, [_VOID, _U32, _VOID, _SIZE, _U32, _VOID, _SIZE, _VOID]),
    "piece": (c.c_int32, [_VOID, _U32, _VOID, _SIZE, _VOID]),
    "decoder_new": (_VOID, [c.c_bool, c.c_bool]),
    "free": (None, [_VOID]),
    "decode": (c.c_int32, [_VOID, _VOID, _U32, _VOID, _SIZE, _VOID]),
    "decode_end": (_SIZE, [_VOID, _VOID, _SIZE]),
    "decode_pending": (_U32, [_VOID]),
    "need": (c.c_int32, [_VOID, c.POINTER(Options), _VOID]),
    "place": (c.c_int32, [_VOID, c.POINTER(Options), _VOID, _U32, _U32, _VOID, _VOID, _VOID, _U32]),
    "session_new": (_VOID, [_VOID, c.POINTER(Options), _VOID, _VOID]),
    "session_free": (None, [_VOID]),
    "eval": (c.c_int32, [_VOID, _VOID, _U32, _VOID, _VOID]),
    "eval_sample": (c.c_int32, [_VOID, _VOID, _U32, _VOID]),
    "position": (_U32, [_VOID]),
    "next_batch": (_U32, [_VOID]),
    "rewind": (c.c_int32, [_VOID, _U32]),
    "backend": (_STR, [_VOID]),
    "sampler_new": (_VOID, [_VOID, _U32, _U32, c.c_uint64, c.c_bool, _VOID, _U32, _VOID]),
    "sampler_free": (None, [_VOID]),
    "sampler_accept": (None, [_VOID, _U32]),
    "sampler_feed": (c.c_int32, [_VOID, _VOID, _U32, _U32]),
    "sample": (c.c_int32, [_VOID, _VOID, _VOID]),
    "bench": (c.c_int32, [_VOID, _U32, _U32, _VOID]),
    "err_name": (_STR, [c.c_int32]),
    "err_text": (_STR, [c.c_int32]),
    "math": (None, [_U32, _VOID, _VOID, _SIZE]),
    "sincos": (None, [_VOID, _VOID, _VOID, _SIZE]),
    "kv_scale": (c.c_bool, [_VOID, _U32, _U32, _VOID, _VOID]),
    "has_backend": (c.c_bool, [_STR]),
    "quant": (c.c_bool, [_STR, c.c_bool, _VOID, _U32, c.c_float, _VOID, _VOID, _VOID]),
    "act": (c.c_bool, [_STR, _U32, _VOID, _VOID, _U32]),
    "norm": (c.c_bool, [_STR, _U32, _VOID, _U32, c.c_float, _VOID, _VOID, _VOID]),
    "linear": (
        c.c_bool,
        [_STR, _U32, _VOID, _SIZE, _U32, _U32, c.c_float, c.c_bool, _VOID, _U32, _U32, _VOID],
    ),
}


def library_path() -> Path:
    """TINYEXPORT_LIB, or the library that was compiled at install."""
    given = os.environ.get("TINYEXPORT_LIB")
    if given:
        return Path(given)
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    return Path(__file__).parent / "_native" / f"libtlm_py{suffix}"


@lru_cache(maxsize=1)
def lib() -> c.CDLL:
    """The loaded library; RuntimeFault when it is not there or not of this version."""
    path = library_path()
    try:
        loaded = c.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(loaded, f"tlm_py_{name}")
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as err:
        raise RuntimeFault(
            f"the compiled runtime can not be loaded from {path}: {err}",
            "install with `pip install .`, or build runtime_c with CMake and set TINYEXPORT_LIB to libtlm_py.so",
        ) from err
    return loaded


class NativeFault(RuntimeFault):
    """A tlm_err of the C library; `name` is its constant, such as TLM_ERR_CONTEXT."""

    def __init__(self, code: int) -> None:
        """Message and hint belong to the code."""
        self.name = lib().tlm_py_err_name(code).decode()
        super().__init__(lib().tlm_py_err_text(code).decode(), _HINTS.get(self.name, ""))


def check(code: int) -> None:
    """Raise a NativeFault unless `code` is TLM_OK."""
    if code:
        raise NativeFault(code)
