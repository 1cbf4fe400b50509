"""What a blob holds, as Python objects, and the rules that bind the parts together.

`check` is the one list of those rules: the writer refuses to write, and the reader refuses to return, what breaks it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..errors import BlobError
from ..quant import QTensor
from ..spec import LAYER_TENSORS, LayerSpec, ModelSpec, layer_name, tensor_names
from .schema import (
    CHAT_FIXED_STRINGS,
    COL_PAD,
    KEY_SCALE_MAX,
    MAX_CONTEXT,
    MAX_DIM,
    MAX_HEAD_DIM,
    MAX_HEAD_STAGES,
    MAX_HEADS,
    MAX_LAYERS,
    MAX_TERNARY_COLS,
    MAX_VOCAB,
    ChatKind,
    FfnKind,
    PosKind,
    TensorType,
)

MAX_CANDIDATES = 256  # NUMERICS rule 22
MAX_REPEAT = 256
MAX_BIAS_SCALE = 2.0**120  # 128 of it are finite
MAX_REPLY = MAX_CONTEXT
TERNARY = (TensorType.T2, TensorType.T1)
MATRICES = frozenset(("tok_embed", "head", "wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down"))
REQUIRED = MATRICES | {"pos_embed"}
VECTORS = {"k_feedback": TensorType.Q4_0}  # types of what is no matrix, where it is not f32
_DAMAGED = "export the checkpoint again"


@dataclass(frozen=True)
class ChatSpec:
    """The CHAT section: how to talk to the model, and its sampling defaults."""

    kind: ChatKind = ChatKind.STORY
    add_bos: bool = False
    stop_ids: tuple[int, ...] = ()
    user_prefix: str = ""
    reply_prefix: str = ""
    turn_end: str = ""
    stop_strings: tuple[str, ...] = ()
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    repeat_window: int = 0
    max_tokens: int = 256


@dataclass(frozen=True, eq=False)
class CertifiedHead:
    """The HEAD section and its tensors: the rows of the output head in stages of columns (NUMERICS rule 20).

    Rows of the stages and elements of the arrays stand in stored order; `ids` names the token of each. `greedy_bytes`
    and `top40_bytes` are what the export measured, 0 where it did not.
    """

    rotation: QTensor
    offset: QTensor
    centre: QTensor
    stages: tuple[QTensor, ...]
    ids: np.ndarray  # uint32 [vocab]
    bias: np.ndarray  # int8 [vocab]
    bias_scale: np.float32
    norms: np.ndarray  # uint8 [stages - 1, vocab]
    norm_scale: np.ndarray  # float32 [stages - 1]
    greedy_bytes: int = 0
    top40_bytes: int = 0

    @property
    def tensors(self) -> tuple[QTensor, ...]:
        """In the order of their records."""
        return (self.rotation, self.offset, self.centre, *self.stages)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors and of the section's arrays."""
        arrays = self.ids.nbytes + self.bias.nbytes + self.norms.nbytes
        return sum(t.nbytes for t in self.tensors) + arrays

    @property
    def biases(self) -> np.ndarray:
        """float32 [vocab], in stored order."""
        return self.bias.astype(np.float32) * self.bias_scale

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """The head as float32 rows [vocab, dim] and biases [vocab] in id order; equal but for rounding."""
        parts = np.concatenate([t.dequantise() for t in self.stages], axis=1).astype(np.float64)
        rows = parts @ self.rotation.dequantise() + self.centre.codes
        bias = self.biases + parts @ self.offset.codes[0]
        order = np.argsort(self.ids)
        return rows[order].astype(np.float32), bias[order].astype(np.float32)


@dataclass(frozen=True)
class BlobContent:
    """A whole blob. `tensors` are keyed by the names of `spec.tensor_names`; vectors are f32 with one row.

    With a certified head the spec is not tied, and `tensors` holds neither `head` nor `head_bias`.
    """

    spec: ModelSpec
    tensors: dict[str, QTensor]
    tokenizer: bytes | None = None
    chat: ChatSpec | None = None
    info: dict[str, str] = field(default_factory=dict)
    head: CertifiedHead | None = None


def rope_turns(freqs: tuple[float, ...]) -> np.ndarray:
    """Rule 12: radians per position as u32 fractions of a turn, uint32 [pairs]."""
    turns = np.rint(np.asarray(freqs, np.float64) / (2 * math.pi) * 2.0**32)
    return (turns.astype(np.int64) & 0xFFFFFFFF).astype(np.uint32)


def rope_freqs(turns: np.ndarray) -> tuple[float, ...]:
    """Radians per position that `rope_turns` maps back to exactly these turns."""
    return tuple(float(t) / 2.0**32 * (2 * math.pi) for t in turns)


def reading_order(spec: ModelSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    """`tensor_names`, with the RoPE turns after the embeddings: the order of tensor records and of the data."""
    for name, shape in tensor_names(spec):
        if spec.pos_kind is PosKind.ROPE and name == layer_name(0, LAYER_TENSORS[0]):
            yield "rope_turns", (spec.rope_dims // 2,)
        yield name, shape


def fail(message: str) -> BlobError:
    """A BlobError with the usual hint."""
    return BlobError(message, _DAMAGED)


def check(content: BlobContent) -> None:
    """BlobError when parts contradict each other, the format or its limits."""
    _check_spec(content.spec)
    _check_tensors(content)
    if content.chat is not None:
        _check_chat(content.chat, content.spec.vocab)
    for key, value in content.info.items():
        if not key or "\0" in key or "\0" in value:
            raise fail(f"the info key {key!r} or its value can not be stored")


def _within(what: str, value: int, limit: int, least: int = 1) -> None:
    if not least <= value <= limit:
        raise fail(f"{what} is {value}, not within {least}..{limit}")


def _stored(value: float) -> float:
    """A number as the blob's float32 holds it."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _is_temperature(value: float) -> bool:
    """+0, or a number whose inverse is finite."""
    return math.copysign(1.0, value) > 0 and (value == 0 or 2.0**-126 <= value < math.inf)


def _check_spec(spec: ModelSpec) -> None:
    _within("dim", spec.dim, MAX_DIM)
    _within("the number of layers", len(spec.layers), MAX_LAYERS)
    _within("the number of heads", spec.n_heads, MAX_HEADS)
    _within("head_dim", spec.head_dim, MAX_HEAD_DIM)
    _within("n_heads * head_dim", spec.n_heads * spec.head_dim, MAX_DIM)
    _within("vocab", spec.vocab, MAX_VOCAB)
    _within("context", spec.context, MAX_CONTEXT)
    if not 0 <= _stored(spec.norm_eps) < math.inf:
        raise fail("norm_eps is negative or not finite")
    if not 0 < _stored(spec.attn_scale) < math.inf:
        raise fail("attn_scale is not a positive number")
    _check_rope(spec)
    for layer in spec.layers:
        _check_layer(layer, spec.n_heads)


def _check_rope(spec: ModelSpec) -> None:
    if spec.pos_kind is not PosKind.ROPE:
        if spec.rope_dims or spec.rope_freqs:
            raise fail("a model without RoPE has rotated dimensions")
        return
    _within("rope_dims", spec.rope_dims, spec.head_dim, 2)
    if spec.rope_dims % 2 or len(spec.rope_freqs) != spec.rope_dims // 2:
        raise fail("rope_dims is odd, or the number of frequencies is not half of it")
    if not all(math.isfinite(f) and abs(f) < 2.0**20 for f in spec.rope_freqs):
        raise fail("a RoPE frequency is not finite")


def _check_layer(layer: LayerSpec, n_heads: int) -> None:
    _within("the number of kv heads", layer.n_kv_heads, n_heads)
    _within("ffn_dim", layer.ffn_dim, MAX_TERNARY_COLS)
    _within("a window", layer.window, 0xFFFFFFFF, 0)
    if n_heads % layer.n_kv_heads:
        raise fail(f"{layer.n_kv_heads} kv heads do not divide {n_heads} heads")
    if layer.ffn_kind not in (FfnKind.PLAIN, FfnKind.GATED):
        raise fail("an unknown kind of feed-forward layer")


def _check_tensors(content: BlobContent) -> None:
    left = dict(content.tensors)
    if content.head is not None:
        _check_certified(content)
    for name, shape in tensor_names(content.spec):
        part = name.rpartition(".")[2]
        if content.head is not None and part in ("head", "head_bias"):
            continue
        tensor = left.pop(name, None)
        if tensor is None:
            if part in REQUIRED:
                raise fail(f"the tensor {name} is missing")
        else:
            _check_tensor(name, part, shape, tensor)
            _check_bias(name, part, content)
    if left:
        raise fail(f"the tensor {sorted(left)[0]} does not belong to this architecture")


def _check_tensor(name: str, part: str, shape: tuple[int, ...], t: QTensor) -> None:
    if (t.rows, t.cols) != (shape if len(shape) == 2 else (1, *shape)):
        raise fail(f"{name} is [{t.rows}, {t.cols}], not {list(shape)}")
    if t.kind is TensorType.U32 or (part not in MATRICES and t.kind is not VECTORS.get(part, TensorType.F32)):
        raise fail(f"{name} can not be of type {t.kind.name.lower()}")
    if t.kind in TERNARY:
        if math.copysign(1.0, t.scale) < 0 or not _stored(t.scale) < math.inf:
            raise fail(f"the scale of {name} is negative or not finite")
        if t.cols > MAX_TERNARY_COLS:
            raise fail(f"{name} has more than {MAX_TERNARY_COLS} columns")
    elif part == "k_range" and not ((t.codes[1] >= 1 / KEY_SCALE_MAX) & (t.codes[1] <= KEY_SCALE_MAX)).all():
        raise fail(f"a scale of {name} is out of its range")
    elif t.scale != 1.0:
        raise fail(f"{name} has a scale of its own, which its type does not have")


def _check_certified(content: BlobContent) -> None:
    head, spec = content.head, content.spec
    assert head is not None
    if spec.tied:
        raise fail("a certified head can not be tied to the embedding")
    _within("the number of stages of the head", len(head.stages), MAX_HEAD_STAGES)
    _check_tensor("rotation", "head", (spec.dim, spec.dim), head.rotation)
    for name, vector in (("offset", head.offset), ("centre", head.centre)):
        _check_tensor(name, name, (spec.dim,), vector)
    for k, t in enumerate(head.stages):
        if t.kind not in (TensorType.Q4_0, TensorType.Q8_0) or t.rows != spec.vocab:
            raise fail(f"stage {k} of the head has the wrong type or shape")
        if t.cols % COL_PAD and t is not head.stages[-1]:
            raise fail(f"stage {k} of the head has {t.cols} columns")
    if sum(t.cols for t in head.stages) != spec.dim:
        raise fail("the stages of the head have not as many columns as the model is wide")
    if not 0 <= head.bias_scale <= MAX_BIAS_SCALE:
        raise fail("the bias scale of the head is negative or too large")
    if not np.array_equal(np.sort(head.ids), np.arange(spec.vocab)):
        raise fail("the head does not hold each token once")
    if not ((head.norm_scale >= 0) & np.isfinite(head.norm_scale)).all():
        raise fail("a norm scale of the head is negative or not finite")
    if not norms_cover(head):
        raise fail("a norm of the head is smaller than its row")


def norms_cover(head: CertifiedHead) -> bool:
    """Whether each stored norm, squared, is at least the squares that later stages hold of its row, with room."""
    dim = sum(t.cols for t in head.stages)
    squares = np.zeros(len(head.ids))
    for k in range(len(head.stages) - 1, 0, -1):
        squares += (head.stages[k].dequantise().astype(np.float64) ** 2).sum(1)
        norm = head.norms[k - 1] * head.norm_scale[k - 1].astype(np.float64)
        if (norm**2 < squares * (1 + (dim + 64) * 2.0**-22)).any():
            return False
    return True


def _check_bias(name: str, part: str, content: BlobContent) -> None:
    if not part.endswith("norm_bias"):
        return
    if name.removesuffix("_bias") not in content.tensors:
        raise fail(f"{name} exists without its norm")


def _check_chat(chat: ChatSpec, vocab: int) -> None:
    if any(not 0 <= i < vocab for i in chat.stop_ids):
        raise fail("a stop id is not a token of the model")
    _within("the number of stop ids", len(chat.stop_ids), 0xFFFF, 0)
    _within("the number of stop strings", len(chat.stop_strings), 0xFFFF - CHAT_FIXED_STRINGS, 0)
    texts = (chat.user_prefix, chat.reply_prefix, chat.turn_end, *chat.stop_strings)
    if any(len(s.encode()) > 0xFFFF for s in texts) or any(not s for s in chat.stop_strings):
        raise fail("a string of the chat template is too long, or a stop string is empty")
    ok = (
        _is_temperature(_stored(chat.temperature))
        and 0 <= chat.top_k <= MAX_CANDIDATES
        and 0 < _stored(chat.top_p) <= 1
        and 0 <= _stored(chat.min_p) < 1
        and 1 <= _stored(chat.repeat_penalty) < math.inf
        and 0 <= chat.repeat_window <= MAX_REPEAT
        and 1 <= chat.max_tokens <= MAX_REPLY
    )
    if not ok:
        raise fail("a sampling default is out of its range")
