"""python lines_run.py BLOB < IDS: mean lines of the head that a token reads, counted by lines.c.

A process of its own, since a process loads one runtime.
"""

from __future__ import annotations

import ctypes
import json
import sys

from tinyexport.blob import reader, schema
from tinyexport.blob.schema import Section
from tinyexport.native import lib
from tinyexport.runtime import Model, Sampler


def watched_ranges(data: bytes) -> list[tuple[int, int]]:
    """(offset, bytes) of the head's tensors with what lies between them, and of its section."""
    rows = [
        schema.SECTION.unpack(data, schema.HEADER.size + i * schema.SECTION.size)
        for i in range(schema.HEADER.unpack(data)["n_sections"])
    ]
    at = {row["kind"]: row for row in rows}
    n = len(reader.read(data).head.tensors)
    table = at[Section.TENSORS]
    first = schema.TENSOR.unpack(data, table["offset"] + table["bytes"] - n * schema.TENSOR.size)["offset"]
    end = at[Section.DATA]["offset"] + at[Section.DATA]["bytes"]
    return [(first, end - first), (at[Section.HEAD]["offset"], at[Section.HEAD]["bytes"])]


def measure(path: str, ids: list[int]) -> dict[str, float]:
    """Mean lines a token, for the best token and for the 40 best; and the lines of all logits."""
    model = Model(path)
    blob = ctypes.c_void_p.from_address(model._handle).value
    for offset, size in watched_ranges(model.data):
        lib().lines_watch(ctypes.c_void_p(blob + offset), size)
    out = {}
    for name, top_k in (("greedy", 1), ("top_40", 40)):
        session, sampler, total = model.session(kv="i8", head_rows=512), Sampler(top_k=top_k), 0
        for i in range(len(ids)):
            lib().lines_reset()
            session.eval_sample([ids[i]], sampler)
            total += lib().lines_count()
            sampler.sample()
        out[name] = total / len(ids)
    lib().lines_reset()
    model.session(kv="i8").eval([ids[0]])
    out["all"] = lib().lines_count()
    return out


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], json.load(sys.stdin))))
