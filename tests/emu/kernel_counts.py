"""Instructions of the reference kernels on the emulated cores, for the table of budgets (tests/budgets.py).

python tests/emu/kernel_counts.py [--update --reason WHY]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import budgets
import cbuild
from insn_count import HERE, OUT, ROOT, build, counts, program

KINDS = ("f32", "f16", "q8_0", "q4_0", "t2", "t1")


def _cases() -> dict[str, str]:
    """The call of each case in kernel_cases.c."""
    found = {}
    for kind in KINDS:
        types = f"TLM_TENSOR_TYPE_{kind.upper()}, tlm_k_ref_linear_{kind}"
        found[f"linear_{kind}/16x128"] = f"linear({types}, 128, 1)"
    for kind in ("q4_0", "q8_0"):
        types = f"TLM_TENSOR_TYPE_{kind.upper()}, tlm_k_ref_linear_{kind}"
        found[f"linear_{kind}/16x512"] = f"linear({types}, 512, 1)"
        found[f"linear_{kind}/16x128x4"] = f"linear({types}, 128, 4)"
        found[f"row_{kind}/128"] = f"row(TLM_TENSOR_TYPE_{kind.upper()}, tlm_k_ref_row_{kind})"
    for name in ("quant_block", "quant_vector"):
        found[f"{name}/128"] = f"(void)tlm_k_ref_{name}(x, 128, 0.0f, codes, scales, sums)"
    for name in ("norm_layer", "norm_rms"):
        found[f"{name}/128"] = f"tlm_k_ref_{name}(x, 128, 1e-5f, gain, gain, y)"
    for name in ("gelu_tanh", "silu"):
        found[f"act_{name}/128"] = f"tlm_k_ref_act_{name}(y, NULL, 128)"
    for name in ("add", "mul"):
        found[f"{name}/128"] = f"tlm_k_ref_{name}(y, x, 128)"
    found["keys/128"] = "tlm_k_ref_centre(y, 1, 128, 128, x, gain)"
    found["bound/128"] = "(void)tlm_k_ref_bound(&bound, x, data, 128, y)"
    found["rope/8x16"] = "tlm_k_ref_rope(y, 8, 16, 16, x)"
    for kind in ("f32", "f16", "i8", "i4"):
        at = f"TLM_KV_{kind.upper()}"
        found[f"kv_store_{kind}/16"] = f"store({at}, tlm_k_ref_kv_store_{kind}, 0, false)"
        found[f"attn_{kind}/2x8x48"] = f"attend({at}, tlm_k_ref_attn_{kind})"
    found["kv_feed/16"] = "feed(tlm_k_ref_kv_feed)"
    return found


CASES = _cases()


def measure(target: build.Target) -> budgets.Measured:
    """All cases on one core; the first pair of marks holds nothing, and is taken off."""
    folder = OUT / f"kernels-{target.name}"
    folder.mkdir(parents=True, exist_ok=True)
    with cbuild.locked(folder):
        lines = ["CASE((void)0)", *(f"CASE({call})" for call in CASES.values())]
        (folder / "cases.h").write_text("\n".join(lines) + "\n", encoding="utf-8")
        sources = [HERE / "kernel_cases.c", *sorted((ROOT / "runtime_c/src/kernels/ref").glob("*.c"))]
        elf = program(target, "kernels", sources)
        nothing, *found = [c.instructions for c in counts(target, elf, 2 + 2 * len(CASES))[::2]]
    measured = {case: count - nothing for case, count in zip(CASES, found, strict=True)}
    return budgets.Measured(target.name, budgets.compiler_version(f"{target.prefix}gcc"), measured)


def all_targets() -> Iterator[budgets.Measured]:
    """Every emulated core."""
    yield from (measure(target) for target in build.TARGETS.values())


if __name__ == "__main__":
    budgets.command(all_targets)
