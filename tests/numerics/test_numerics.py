"""The golden vectors: the oracle still makes them, and the C library computes them with every backend."""

from __future__ import annotations

import base64
import ctypes as c
import json
import re
from typing import Any

import make
import numpy as np
import pytest
from make import HERE, from_hex

from tinyexport.blob.schema import Act, NormKind, TensorType
from tinyexport.native import lib
from tinyexport.reference import oracle_math as om
from tinyexport.runtime import Model

BACKENDS = [b for b in ("ref", "avx2", "avx512vnni") if lib().tlm_py_has_backend(b.encode())]
PARTS = {"exp": 0, "log": 1, "sqrt": 2, "sigmoid": 3, "f16": 4}
ROOT = HERE.parents[1]


def golden(file: str) -> Any:
    return json.loads((HERE / file).read_text())


def at(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


@pytest.mark.parametrize("file", make.FILES)
def test_the_oracle_makes_the_committed_vectors(file: str) -> None:
    assert json.loads(json.dumps(make.FILES[file]())) == golden(file), "run tests/numerics/make.py, if on purpose"


@pytest.mark.parametrize("name", PARTS)
def test_functions_in_c(name: str) -> None:
    x = from_hex(golden("functions.json")[name]["x"])
    y = np.empty_like(x)
    lib().tlm_py_math(PARTS[name], at(x), at(y), x.size)
    assert same(y, from_hex(golden("functions.json")[name]["y"]))


def test_sine_and_cosine_in_c() -> None:
    case = golden("functions.json")["sincos"]
    turns = from_hex(case["turns"])
    sine, cosine = np.empty_like(turns), np.empty_like(turns)
    lib().tlm_py_sincos(at(turns), at(sine), at(cosine), turns.size)
    assert same(sine, from_hex(case["sin"]))
    assert same(cosine, from_hex(case["cos"]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("act", list(Act))
def test_activations_in_c(backend: str, act: Act) -> None:
    case = golden("functions.json")[act.name.lower()]
    x, y = from_hex(case["x"]), from_hex(case["y"])
    up = make.Numbers(50).uniform(x.size)
    gated = x.copy()
    assert lib().tlm_py_act(backend.encode(), act, at(x), None, x.size)
    assert same(x, y)
    assert lib().tlm_py_act(backend.encode(), act, at(gated), at(up), x.size)
    assert same(gated, y * up)


@pytest.mark.parametrize("backend", BACKENDS)
def test_quantising_in_c(backend: str) -> None:
    for case in golden("quant.json"):
        x = from_hex(case["x"])
        n, blocks = x.size, -(-x.size // 32)
        codes, scales = np.zeros(n + 16, np.int8), np.zeros(blocks + 1, np.float32)
        sums = np.zeros(blocks + 1, np.int32)
        for whole in (False, True):
            floor = 1e-5 if whole else 0.0
            assert lib().tlm_py_quant(backend.encode(), whole, at(x), n, floor, at(codes), at(scales), at(sums))
            wanted = case["clamped_codes" if whole else "block_codes"]
            scale = from_hex(case["clamped_scale" if whole else "block_scales"])
            assert codes[:n].tolist() == wanted
            assert not codes[n:].any()
            assert same(scales[: scale.size], scale)
            padded = np.pad(np.array(wanted), (0, blocks * 32 - n)).reshape(blocks, 32)
            assert sums[:blocks].tolist() == padded.sum(axis=1).tolist()


def test_kv_scales_in_c() -> None:
    for case in golden("quant.json"):
        x = from_hex(case["x"])
        for key, top in (("kv_i8", 127), ("kv_i4", 7)):
            scale, inv = c.c_uint16(), c.c_float()
            assert lib().tlm_py_kv_scale(at(x), x.size, top, c.byref(scale), c.byref(inv))
            assert f"{scale.value << 16:08x}" == case[key]["scale"]
            assert om.round_codes(x * np.float32(inv.value)).tolist() == case[key]["codes"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("repack", [False, True])
def test_linear_layers_in_c(backend: str, repack: bool) -> None:
    for case in golden("kernels.json")["linear"]:
        x, wanted = from_hex(case["x"]), from_hex(case["y"])
        w = base64.b64decode(case["w"])
        kind, scale = TensorType[case["type"].upper()], from_hex(case["scale"])[0]
        for split in (0, 1, 2):
            y = np.full(2 * case["rows"], np.nan, np.float32)
            shape = (case["rows"], case["cols"])
            ok = lib().tlm_py_linear(backend.encode(), kind, w, len(w), *shape, scale, repack, at(x), 2, split, at(y))
            assert ok
            assert same(y, wanted), (case["type"], shape, split)


@pytest.mark.parametrize("backend", BACKENDS)
def test_norms_in_c(backend: str) -> None:
    data = golden("kernels.json")
    eps = from_hex(data["eps"])[0]
    for case in data["norm"]:
        x, g, b, wanted = (from_hex(case[key]) for key in "xgby")
        y = np.empty_like(x)
        kind = NormKind[case["kind"]]
        assert lib().tlm_py_norm(backend.encode(), kind, at(x), x.size, eps, at(g), at(b), at(y))
        assert same(y, wanted), (case["kind"], x.size)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kv", ["f32", "f16", "i8", "i4"])
def test_the_golden_model_in_c(backend: str, kv: str) -> None:
    case = golden("model.json")
    logits = Model(base64.b64decode(case["blob"])).session(kv=kv, backend=backend, batch=7).eval(case["ids"], "all")
    assert same(logits[case["positions"]], from_hex(case["logits"][kv]))


def test_values_that_are_not_finite_are_noticed() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        for n in (1, 40, 64):
            x = np.zeros(n, np.float32)
            x[n - 1] = bad
            codes, scales, sums = np.zeros(n + 16, np.int8), np.zeros(9, np.float32), np.zeros(9, np.int32)
            for backend in BACKENDS:
                for whole in (False, True):
                    args = (whole, at(x), n, 0.0, at(codes), at(scales), at(sums))
                    assert not lib().tlm_py_quant(backend.encode(), *args)


def test_constants_of_the_page_the_oracle_and_c_are_equal() -> None:
    """NUMERICS.md section 8, tlm_math.h and oracle_math.py hold the same numbers."""
    page = (ROOT / "runtime_c/NUMERICS.md").read_text()
    table = dict(re.findall(r"\| ([A-Z][A-Z0-9_]*) \| (-?0x[0-9a-fp.+-]+) ", page))
    code = (ROOT / "runtime_c/src/tlm_math.h").read_text()
    defines = dict(re.findall(r"#define TLM_(\w+) (-?0x[0-9a-fp.+-]+)f\b", code))
    lists = {"E": (om.E, 0), "A": (om.A, 1), "L": (om.L, 0)}
    assert len(table) == 29
    for name, text in table.items():
        value = float.fromhex(text)
        assert float.fromhex(defines[name]) == value, name
        if name[0] in lists and name[1:].isdigit():
            values, first = lists[name[0]]
            assert float(values[int(name[1:]) - first]) == value, name
        else:
            assert float(getattr(om, name)) == value, name
