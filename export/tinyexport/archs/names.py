"""Which tensor is which: the spellings that checkpoints use, as tables.

`recognise` sorts the names of a checkpoint into canonical parts (`spec.LAYER_TENSORS` and a few
fused ones), buffers that carry no weights, and leftovers. It looks at names and shapes only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_LEAVES = {
    **dict.fromkeys(("weight", "scale", "gamma", "g", "gain", "w", "kernel"), "weight"),
    **dict.fromkeys(("bias", "beta", "b"), "bias"),
    "weight_scale": "weight_scale",
}
_ATTN = _set("attn attention self_attn self_attention selfattention mha sa attn_block attention_block att")
_FFN = _set("mlp ffn feed_forward feedforward ff ffwd ffww ffn_block mlp_block swiglu feedfoward")
_QKV = {
    **dict.fromkeys(_set("q_proj wq q query q_lin w_q to_q q_linear query_proj attn_q qw"), "wq"),
    **dict.fromkeys(_set("k_proj wk k key k_lin w_k to_k k_linear key_proj attn_k"), "wk"),
    **dict.fromkeys(_set("v_proj wv v value v_lin w_v to_v v_linear value_proj attn_v"), "wv"),
    **dict.fromkeys(
        _set("qkv c_attn qkv_proj in_proj in_proj_weight wqkv w_qkv to_qkv c_qkv attn_qkv qkv_linear"), "wqkv"
    ),
    **dict.fromkeys(_set("kv kv_proj wkv w_kv to_kv"), "wkv"),
}
_WO = _set("o_proj out_proj wo o w_o proj c_proj out output dense to_out out_lin o_linear attn_output proj_out fc_out")
_FFN_PARTS = {
    **dict.fromkeys(_set("gate_proj gate w_gate wg fc_gate ffn_gate gate_fc linear_gate"), "w_gate"),
    **dict.fromkeys(
        _set("up_proj up w_up wu c_fc fc_in fc_up ffn_up up_fc linear_in linear_up dense_h_to_4h wi"), "w_up"
    ),
    **dict.fromkeys(
        _set(
            "down_proj down w_down wd c_proj proj fc_out fc_down ffn_down out_proj linear_out linear_down dense_4h_to_h"
        ),
        "w_down",
    ),
    **dict.fromkeys(_set("gate_up_proj gate_up w_gate_up up_gate w13 gate_up_fc"), "w_gate_up"),
}
_NUMBERED = re.compile(r"^(?:w|fc|lin|linear|dense|l|layer|proj|)_?(\d+)$")
_ATTN_NORM = _set(
    "input_layernorm attention_norm attn_norm attn_ln ln_1 ln1 norm1 norm_1 rms1 rms_1 rmsnorm1 rms_norm1 rmsnorm_1"
    " rms_norm_1 pre_attn_norm attention_layernorm ln_attn norm_attn attn_rmsnorm rms_attn n1 norm_att pre_norm1"
)
_FFN_NORM = _set(
    "post_attention_layernorm ffn_norm mlp_norm ffn_ln ln_2 ln2 norm2 norm_2 rms2 rms_2 rmsnorm2 rms_norm2 rmsnorm_2"
    " rms_norm_2 pre_ffn_norm ffn_layernorm ln_ffn norm_ffn ln_mlp norm_mlp mlp_rmsnorm rms_ffn n2 ff_norm"
    " feed_forward_norm feedforward_norm pre_norm2"
)
_SUB_NORM = {
    **dict.fromkeys(_set("attn_sub_norm inner_attn_ln attn_subln sub_attn_norm"), "attn_sub_norm"),
    **dict.fromkeys(_set("ffn_sub_norm ffn_layernorm_inner ffn_subln sub_ffn_norm"), "ffn_sub_norm"),
}
_GLOBAL = {
    **dict.fromkeys(
        _set(
            "embed_tokens tok_embeddings tok_embedding tok_emb tok_embed token_embedding token_embeddings token_embed"
            " token_emb wte embed embedding embeddings emb word_embeddings word_embedding token_embd tokens"
            " token_embedding_table te tokemb embed_in"
        ),
        "tok_embed",
    ),
    **dict.fromkeys(
        _set(
            "wpe pos_emb pos_embed pos_embedding pos_embeddings position_embedding position_embeddings position_embed"
            " position_emb pos embed_positions position_embedding_table position_embd positions pe posemb"
            " positional_embedding positional_embeddings"
        ),
        "pos_embed",
    ),
    **dict.fromkeys(
        _set(
            "norm ln_f lnf final_norm norm_f final_ln rms_final final_layernorm final_layer_norm ln_final norm_final"
            " final_rmsnorm out_norm output_norm norm_out rms_f rmsnorm rms_norm ln_out final_rms_norm"
        ),
        "final_norm",
    ),
    **dict.fromkeys(
        _set(
            "lm_head head output output_proj output_head out_head unembed classifier vocab to_logits lm"
            " logits embed_out"
        ),
        "head",
    ),
    "rope_freqs": "rope_factors",  # GGUF: divisors of the RoPE frequencies
}  # fmt: skip
_BUFFERS = _set(
    "inv_freq original_inv_freq freqs freqs_cis freq_cis freqs_cos freqs_sin cos sin cos_cached sin_cached cos_cache"
    " sin_cache rope_cache rope_cos rope_sin masked_bias mask causal_mask attn_mask attention_mask tril position_ids"
)
_LAYER_WORD = re.compile(r"^(?:layers?|blocks?|h|blk)_?(\d+)$")
_GROUPED = re.compile(r"^(attn|attention|mlp|ffn)_(.+)$")

FUSED = {"wqkv": ("wq", "wk", "wv"), "wkv": ("wk", "wv"), "w_gate_up": ("w_gate", "w_up")}
BIAS_OF = {"wq": "bq", "wk": "bk", "wv": "bv", "wo": "bo", "w_gate": "b_gate", "w_up": "b_up", "w_down": "b_down"}
_BIAS_NAMES = {**BIAS_OF, "wqkv": "bqkv", "wkv": "bkv", "w_gate_up": "b_gate_up"}
_CAN_BIAS = frozenset(_BIAS_NAMES) | {"attn_norm", "ffn_norm", "final_norm", "head"}


def bias_name(part: str) -> str:
    """Canonical name of the bias of a part: wq -> bq, attn_norm -> attn_norm_bias."""
    return _BIAS_NAMES.get(part, part + "_bias")


@dataclass
class Recognised:
    """`parts`: (layer or None, canonical or fused part) -> checkpoint name. The rest by what it is."""

    parts: dict[tuple[int | None, str], str] = field(default_factory=dict)
    scales: dict[str, str] = field(default_factory=dict)  # checkpoint weight name -> name of its weight_scale
    inner_norms: dict[str, str] = field(default_factory=dict)  # weight name -> gain of the norm inside its BitLinear
    buffers: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def n_layers(self) -> int:
        """One more than the largest layer number."""
        return max((layer for layer, _ in self.parts if layer is not None), default=-1) + 1


def is_buffer(name: str, tensor: np.ndarray) -> bool:
    """Whether a tensor carries no weights: attention masks, RoPE tables, position ids."""
    last = name.rsplit(".", 1)[-1].lower()
    if last in _BUFFERS or tensor.dtype == np.bool_:
        return True
    square = tensor.ndim >= 2 and tensor.shape[-1] == tensor.shape[-2] and tensor.size == tensor.shape[-1] ** 2
    return last == "bias" and square  # GPT-2 keeps its causal mask as attn.bias


def recognise(
    tensors: Mapping[str, np.ndarray], mapped: Mapping[tuple[int | None, str], str] | None = None
) -> Recognised:
    """Sort every tensor name of a checkpoint; `mapped` parts are taken as they are."""
    found = Recognised(parts=dict(mapped or {}))
    taken = set(found.parts.values())
    numbered: dict[int, dict[int, dict[str, str]]] = {}  # layer -> number -> leaf -> name
    for name, tensor in tensors.items():
        if name in taken:
            continue
        if is_buffer(name, tensor):
            found.buffers.append(name)
            continue
        layer, tail, leaf = _split(name)
        if tail and leaf == "weight_scale":
            found.scales[name.removesuffix("weight_scale") + "weight"] = name
            continue
        part = _layer_part(tail) if layer is not None else _global_part(tail)
        if part is None and layer is not None and (number := _ffn_number(tail)) is not None:
            numbered.setdefault(layer, {}).setdefault(number, {})[leaf] = name
        elif part is None and _is_inner_norm(tail):
            found.inner_norms[_weight_beside(name, tensors)] = name
        else:
            _place(found, layer, part, leaf, name)
    for layer_number, by_number in numbered.items():
        _place_numbered(found, tensors, layer_number, by_number)
    return found


def _split(name: str) -> tuple[int | None, list[str], str]:
    """Layer number, lower-case components without containers, and leaf of a name."""
    components = name.lower().split(".")
    leaf = _LEAVES.get(components[-1], "")
    if leaf and len(components) > 1:
        components.pop()
    for at, component in enumerate(components):
        inside = _LAYER_WORD.match(component)
        if inside or (component.isdigit() and at > 0):
            return int(inside.group(1) if inside else component), components[at + 1 :], leaf or "weight"
    return None, components, leaf or "weight"


def _global_part(tail: list[str]) -> str | None:
    if any(_GLOBAL.get(word) == "pos_embed" for word in tail):
        return "pos_embed" if tail[-1] in _GLOBAL else None
    return _GLOBAL.get(tail[-1])


def _layer_part(tail: list[str]) -> str | None:
    """Canonical part of a layer tensor by its components, or None."""
    if not tail:
        return None
    last, before = tail[-1], set(tail[:-1])
    if last in _SUB_NORM:
        return _SUB_NORM[last]
    in_attn, in_ffn = bool(before & _ATTN), bool(before & _FFN)
    if last in _ATTN_NORM or last in _FFN_NORM:
        return "attn_norm" if last in _ATTN_NORM else "ffn_norm"
    if last in ("norm", "ln", "layernorm", "layer_norm") and tail[-2:-1] and (tail[-2] in _ATTN or tail[-2] in _FFN):
        return "attn_norm" if tail[-2] in _ATTN else "ffn_norm"
    grouped = _GROUPED.match(last)
    if grouped and not (in_attn or in_ffn):
        return _layer_part([grouped.group(1), grouped.group(2)]) or (_QKV | _FFN_PARTS).get(last)
    if last in _QKV and not in_ffn:
        return _QKV[last]
    if in_attn:
        return "wo" if last in _WO else _wrapped(tail)
    if in_ffn:
        return _FFN_PARTS.get(last) or _wrapped(tail)
    if last in ("wo", "o_proj", "out_proj", "attn_output"):
        return "wo"
    return _FFN_PARTS.get(last) or _wrapped(tail)


def _wrapped(tail: list[str]) -> str | None:
    """`q_proj.linear` and `to_out.0` are q_proj and to_out."""
    if len(tail) > 1 and tail[-1] in ("linear", "lin", "0", "layer", "proj"):
        return _layer_part(tail[:-1]) if tail[-2] not in _FFN else None
    return None


def _ffn_number(tail: list[str]) -> int | None:
    """3 of `feed_forward.w3`, 2 of `ffn.net.2`: the role follows from the others and the shapes."""
    grouped = _GROUPED.match(tail[-1]) if tail else None
    if grouped:
        tail = [*tail[:-1], grouped.group(1), grouped.group(2)]
    number = _NUMBERED.match(tail[-1]) if tail else None
    if number is None or set(tail[:-1]) & _ATTN:
        return None
    return int(number.group(1))


def _is_inner_norm(tail: list[str]) -> bool:
    """Whether this is the norm that some BitLinear layers hold: q_proj.norm."""
    return len(tail) > 1 and tail[-1] in ("norm", "rms_norm", "rmsnorm", "ln") and _layer_part(tail[:-1]) is not None


def _weight_beside(norm: str, tensors: Mapping[str, np.ndarray]) -> str:
    """The weight of the linear layer that a norm stands in: q_proj.norm.weight -> q_proj.weight."""
    stem = norm.rsplit(".", 2)[0]
    return next((name for name in (f"{stem}.weight", f"{stem}.linear.weight") if name in tensors), f"{stem}.weight")


def _place(found: Recognised, layer: int | None, part: str | None, leaf: str, name: str) -> None:
    if part is not None and leaf == "bias":
        part = bias_name(part) if part in _CAN_BIAS else None
    key = (layer, part or "")
    if part is None or key in found.parts:
        found.unknown.append(name)
    else:
        found.parts[key] = name


def _place_numbered(
    found: Recognised, tensors: Mapping[str, np.ndarray], layer: int, by_number: dict[int, dict[str, str]]
) -> None:
    """Roles of w1, w2, w3 or 0, 2 among those that are vacant, by the shapes of the weights.

    Two of different shape are up and down. Of three the odd one is down; where all are square, 1, 3, 2 are gate, up,
    down as in Llama.
    """
    numbers = sorted(by_number)
    shapes = [tensors[by_number[n]["weight"]].shape if "weight" in by_number[n] else () for n in numbers]
    roles = ["w_down"] if (layer, "w_gate_up") in found.parts else ["w_gate", "w_up", "w_down"]
    roles = [role for role in roles if (layer, role) not in found.parts]
    if len(numbers) == len(roles) == 3 and shapes[2] == shapes[0]:
        roles = ["w_gate", "w_down", "w_up"]
    elif len(numbers) == 2 and len(roles) == 3:
        alike = shapes[0] == shapes[1] and len(set(shapes[0])) == 2
        roles = ["w_gate", "w_up"] if alike else ["w_up", "w_down"]
    elif len(numbers) < len(roles):
        roles = roles[-len(numbers) :]
    for role, number in zip_longest(roles, numbers):
        for leaf, name in by_number.get(number, {}).items():
            _place(found, layer, role, leaf, name)
