"""Encoding by the C runtime itself, from the packed section."""

from __future__ import annotations

import ctypes as c

import numpy as np

from ..native import check, lib
from .model import Tokenizer

SPECIAL = 1  # TLM_ENCODE_SPECIAL


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text, its special pieces included; RuntimeFault when the library is not built."""
    section, data = tokenizer.pack(), text.encode("utf-8")
    ids = np.empty(len(data) + 16, np.uint32)
    count = c.c_size_t()
    for _ in range(2):  # a normaliser may make more of the text than it has bytes
        code = lib().tlm_py_section_encode(
            section, len(section), data, len(data), SPECIAL, ids.ctypes.data, ids.size, c.byref(count)
        )
        if count.value <= ids.size:
            break
        ids = np.empty(count.value, np.uint32)
    check(code)
    return [int(i) for i in ids[: count.value]]
