"""THE blob format (.tlm), declared once.

Every record, enumeration and limit of the format stands here and nowhere else. The Python packers
(`writer.py`, `reader.py`) use these declarations directly; `cgen.py` turns them into the C header
`runtime_c/include/tlm_blob_gen.h` and into the tables of `runtime_c/BLOB.md`. A test fails when
either is stale.

All numbers are little-endian. A record is packed without implicit padding and every field is
naturally aligned, so that C reads it in place from memory-mapped flash.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MAGIC = b"TLM\x1a"
VERSION_MAJOR = 1
VERSION_MINOR = 0
ALIGN = 64  # sections and tensors start on a cache line of the device
TAIL_ZEROS = 64  # zero bytes after the last tensor: vector kernels may read ahead
CRC_START = 8  # the CRC-32 (zlib) covers bytes CRC_START..file_bytes
NO_TENSOR = 0xFFFF  # a tensor id that is absent
NO_TOKEN = 0xFFFFFFFF  # a token id that is absent
BLOCK = 32  # columns that share one scale in q8_0 and q4_0
COL_PAD = 16  # columns are padded to a multiple of this

# Limits that `tlm_model_open` and the exporter both enforce.
MAX_DIM = 16384
MAX_LAYERS = 256
MAX_HEADS = 1024
MAX_HEAD_DIM = 1024
MAX_VOCAB = 1 << 20
MAX_CONTEXT = 1 << 20
KEY_SCALE_MAX = 1 << 20  # scales of cached keys lie within 1/this..this
MAX_TERNARY_COLS = 65536  # int32 sums stay exact in float products (NUMERICS rule 8)
MAX_HEAD_STAGES = 6


class Section(enum.IntEnum):
    """Kinds of section. SPEC, TENSORS and DATA are required, each kind occurs at most once."""

    SPEC = 1  # one `spec` record, then n_layers `layer` records
    TENSORS = 2  # `tensor` records; a tensor id is an index into them
    DATA = 3  # packed weights, each tensor on an ALIGN boundary, TAIL_ZEROS after the last
    TOKENIZER = 4  # see `schema_tok.py`
    CHAT = 5  # one `chat` record, stop ids, strings
    INFO = 6  # key NUL value NUL ... (UTF-8), keys ascending: name, arch, licence, facts...
    HEAD = 7  # one `head` record, then ids, biases and norms of the rows (required feature CERTIFIED_HEAD)


class Feature(enum.IntFlag):
    """Bits of `required_features`: a reader that does not know a set bit refuses the blob."""

    CERTIFIED_HEAD = 2  # 1: one whose biases were f16, which no reader knows any more


class TensorType(enum.IntEnum):
    """How a tensor is packed (BLOB.md, "Weight layout")."""

    F32 = 0
    F16 = 1
    Q8_0 = 2
    Q4_0 = 3
    T2 = 4  # ternary, 2 bits a weight
    T1 = 5  # ternary, 5 weights a byte
    U32 = 6  # integers: the RoPE turns


class NormKind(enum.IntEnum):
    """How activations are normalised (NUMERICS rule 11)."""

    LAYER = 0  # mean and variance, gain, bias
    RMS = 1  # root mean square, gain


class PosKind(enum.IntEnum):
    """How a position enters the model."""

    NONE = 0
    LEARNED = 1  # a row of pos_embed is added to the token embedding
    ROPE = 2  # rotary, half-split pairs (x[i], x[i + rope_dims/2]); rope_turns holds u32 turns


class Act(enum.IntEnum):
    """Activation of the feed-forward part (NUMERICS rule 14)."""

    SILU = 0
    GELU_TANH = 1
    GELU_ERF = 2
    RELU = 3
    RELU2 = 4


class FfnKind(enum.IntEnum):
    """Form of the feed-forward part."""

    PLAIN = 0  # down(act(up(x)))
    GATED = 1  # down(act(gate(x)) * up(x))


class InputQuant(enum.IntEnum):
    """How the input of a packed linear layer is quantised (NUMERICS rule 6)."""

    PLAIN = 0  # per 32 columns for q8_0 and q4_0, per vector for t2 and t1
    CLAMP = 1  # as PLAIN, amax at least 1e-5 (BitNet b1.58)
    NORM_CLAMP = 2  # a unit-gain RMS norm with norm_eps first, then CLAMP (norm inside BitLinear)


class ChatKind(enum.IntEnum):
    """What a prompt is to the model."""

    STORY = 0  # the prompt is continued as it is
    TURNS = 1  # user_prefix + text + reply_prefix, reply, turn_end


@dataclass(frozen=True)
class PackInfo:
    """Geometry of a packed type: `group` rows share a byte, `tile` rows are stored together."""

    group: int
    tile: int


PACKING: dict[TensorType, PackInfo] = {
    TensorType.F32: PackInfo(1, 1),
    TensorType.F16: PackInfo(1, 1),
    TensorType.Q8_0: PackInfo(1, 8),
    TensorType.Q4_0: PackInfo(2, 8),
    TensorType.T2: PackInfo(4, 8),
    TensorType.T1: PackInfo(5, 5),
    TensorType.U32: PackInfo(1, 1),
}


def round_up(n: int, to: int) -> int:
    """The least multiple of `to` that is at least `n`."""
    return -(-n // to) * to


def tile_bytes(kind: TensorType, cols: int) -> int:
    """Bytes of one tile of `PACKING[kind].tile` rows with `cols` columns."""
    np_ = round_up(cols, COL_PAD)
    blocks = -(-np_ // BLOCK)
    match kind:
        case TensorType.F32:
            return 4 * np_
        case TensorType.F16:
            return 2 * np_
        case TensorType.Q8_0:
            return 16 * blocks + 8 * np_
        case TensorType.Q4_0:
            return 16 * blocks + 4 * np_
        case TensorType.T2:
            return 2 * np_
        case TensorType.T1:
            return np_
        case TensorType.U32:
            return 4 * np_
    raise ValueError(kind)


def tensor_bytes(kind: TensorType, rows: int, cols: int) -> int:
    """Bytes of a whole packed tensor, row and column pads included."""
    return -(-rows // PACKING[kind].tile) * tile_bytes(kind, cols)


# ---- records ------------------------------------------------------------------------------------

_CODES = {"u8": "B", "u16": "H", "u32": "I", "i32": "i", "f32": "f"}
_SIZES = {"u8": 1, "u16": 2, "u32": 4, "i32": 4, "f32": 4}


@dataclass(frozen=True)
class Field:
    """One field of a record: `count` > 1 is a fixed array."""

    name: str
    kind: str
    doc: str
    count: int = 1

    @property
    def size(self) -> int:
        """Bytes, all elements of an array."""
        return _SIZES[self.kind] * self.count


@dataclass(frozen=True)
class Record:
    """A fixed-size little-endian record; `name` is the C struct tag without `tlm_` and `_rec`."""

    name: str
    doc: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        for field in self.fields:
            if self.offset(field.name) % _SIZES[field.kind]:
                raise ValueError(f"{self.name}.{field.name} is not naturally aligned")

    @property
    def size(self) -> int:
        """Bytes of the record."""
        return sum(f.size for f in self.fields)

    @property
    def format(self) -> str:
        """The `struct` format."""
        return "<" + "".join(f"{f.count}{_CODES[f.kind]}" for f in self.fields)

    def offset(self, name: str) -> int:
        """Byte offset of the field `name`."""
        at = 0
        for field in self.fields:
            if field.name == name:
                return at
            at += field.size
        raise KeyError(name)

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """Pack `values`; fields named `reserved*` are zero, any other missing field is an error."""
        flat: list[Any] = []
        for field in self.fields:
            zero: Any = 0 if field.count == 1 else (0,) * field.count
            value = zero if field.name.startswith("reserved") else values[field.name]
            flat.extend(value if field.count > 1 else (value,))
        return struct.pack(self.format, *flat)

    def unpack(self, data: bytes | memoryview, at: int = 0) -> dict[str, Any]:
        """The fields of the record at byte `at`; ValueError when it does not fit."""
        if at < 0 or at + self.size > len(data):
            raise ValueError(f"{self.name} record at {at} is cut off")
        flat = list(struct.unpack_from(self.format, data, at))
        out: dict[str, Any] = {}
        for field in self.fields:
            taken, flat = flat[: field.count], flat[field.count :]
            out[field.name] = taken[0] if field.count == 1 else tuple(taken)
        return out


def _ids(pairs: Iterable[tuple[str, str]]) -> tuple[Field, ...]:
    return tuple(Field(name, "u16", doc) for name, doc in pairs)


HEADER = Record(
    "header",
    "First bytes of the file; `n_sections` section records follow.",
    (
        Field("magic", "u8", "'T' 'L' 'M' 0x1A", 4),
        Field("crc32", "u32", "CRC-32 (zlib) of bytes CRC_START..file_bytes: all that follows"),
        Field("version_major", "u16", "a reader refuses another major version"),
        Field("version_minor", "u16", "a higher minor version only adds what may be ignored"),
        Field("file_bytes", "u32", "length of the whole blob"),
        Field("n_sections", "u32", "number of section records"),
        Field("required_features", "u32", "`Feature` bits; an unknown one is refused"),
        Field("reserved", "u32", "zero", 10),
    ),
)

SECTION = Record(
    "section",
    "Section table entry: kinds and offsets ascend, gaps are zero bytes shorter than 64.",
    (
        Field("kind", "u32", "`Section`"),
        Field("offset", "u32", "from the start of the file, a multiple of 64"),
        Field("bytes", "u32", "length without the gap after it"),
        Field("reserved", "u32", "zero"),
    ),
)

SPEC = Record(
    "spec",
    "The architecture as data.",
    (
        Field("dim", "u32", "width of the residual stream"),
        Field("n_layers", "u32", "number of layer records that follow"),
        Field("n_heads", "u32", "query heads"),
        Field("head_dim", "u32", "elements of a head (q has n_heads * head_dim rows)"),
        Field("vocab", "u32", "rows of tok_embed and of the head, pads not counted"),
        Field("context", "u32", "largest number of positions the model was built for"),
        Field("rope_dims", "u32", "leading elements of a head that are rotated, even; 0 without RoPE"),
        Field("norm_kind", "u8", "`NormKind`"),
        Field("pos_kind", "u8", "`PosKind`"),
        Field("act", "u8", "`Act`"),
        Field("input_quant", "u8", "`InputQuant`"),
        Field("norm_eps", "f32", "added to the (mean) square before the root"),
        Field("attn_scale", "f32", "factor of q.k: 1/sqrt(head_dim), or what the model was trained with"),
        *_ids(
            (
                ("tok_embed", "[vocab, dim]"),
                ("pos_embed", "f32 [context, dim], or none"),
                ("rope_turns", "u32 [1, rope_dims/2], or none"),
                ("final_norm", "f32 [1, dim], or none"),
                ("final_norm_bias", "f32 [1, dim], or none"),
                ("head", "[vocab, dim]; equal to tok_embed when tied; none beside a HEAD section"),
                ("head_bias", "f32 [1, vocab], or none; none beside a HEAD section"),
                ("reserved_id", "zero"),
            )
        ),
    ),
)

LAYER = Record(
    "layer",
    "One transformer layer; a bias or an extra norm exists when its tensor id is not 0xFFFF.",
    (
        Field("window", "u32", "attention window in positions, itself included; 0 = global"),
        Field("n_kv_heads", "u32", "key/value heads, a divisor of n_heads"),
        Field("ffn_dim", "u32", "hidden width of the feed-forward part"),
        Field("ffn_kind", "u8", "`FfnKind`"),
        Field("reserved", "u8", "zero", 3),
        *_ids(
            (
                ("attn_norm", "f32 [1, dim], or none: not normed"),
                ("attn_norm_bias", "f32 [1, dim], or none"),
                ("wq", "[n_heads*head_dim, dim]"),
                ("bq", "f32 [1, rows of wq], or none"),
                ("wk", "[n_kv_heads*head_dim, dim]"),
                ("bk", "f32 [1, rows of wk], or none"),
                ("k_range", "f32 [2, rows of wk]: centre and scale of cached keys (NUMERICS rule 12), or none"),
                ("k_feedback", "q4_0 [head_dim, rows of wk]: rounding of an i4 cache (NUMERICS rule 15), or none"),
                ("wv", "[n_kv_heads*head_dim, dim]"),
                ("bv", "f32 [1, rows of wv], or none"),
                ("attn_sub_norm", "f32 [1, n_heads*head_dim], norm before wo, or none"),
                ("wo", "[dim, n_heads*head_dim]"),
                ("bo", "f32 [1, dim], or none"),
                ("ffn_norm", "f32 [1, dim], or none: not normed"),
                ("ffn_norm_bias", "f32 [1, dim], or none"),
                ("w_gate", "[ffn_dim, dim], gated only"),
                ("b_gate", "f32 [1, ffn_dim], or none"),
                ("w_up", "[ffn_dim, dim]"),
                ("b_up", "f32 [1, ffn_dim], or none"),
                ("ffn_sub_norm", "f32 [1, ffn_dim], norm before w_down, or none"),
                ("w_down", "[dim, ffn_dim]"),
                ("b_down", "f32 [1, dim], or none"),
            )
        ),
    ),
)

TENSOR = Record(
    "tensor",
    "Where a tensor lies and how it is packed.",
    (
        Field("type", "u8", "`TensorType`"),
        Field("reserved", "u8", "zero", 3),
        Field("rows", "u32", "real rows; a vector has 1"),
        Field("cols", "u32", "real columns"),
        Field("offset", "u32", "from the start of the file, a multiple of 64, inside DATA"),
        Field("bytes", "u32", "pads included: tensor_bytes(type, rows, cols)"),
        Field("scale", "f32", "scale of the whole tensor for t2 and t1, else 1"),
    ),
)

CHAT = Record(
    "chat",
    "How to talk to the model; n_stop_ids u32 ids follow, then n_strings strings.",
    (
        Field("kind", "u8", "`ChatKind`"),
        Field("add_bos", "u8", "1: the tokenizer's BOS starts every context"),
        Field("n_stop_ids", "u16", "token ids that end a reply"),
        Field("n_strings", "u16", "u16 length + UTF-8 each, at least CHAT_FIXED_STRINGS"),
        Field("reserved", "u16", "zero"),
        Field("temperature", "f32", "sampling defaults; 0 = greedy"),
        Field("top_k", "u32", "0 = the candidate limit"),
        Field("top_p", "f32", "1 = off"),
        Field("min_p", "f32", "0 = off"),
        Field("repeat_penalty", "f32", "1 = off"),
        Field("repeat_window", "u32", "tokens looked back at"),
        Field("max_tokens", "u32", "reply length when the user names none"),
    ),
)

# Rows stand in the order in which a search meets them, and are counted up to a multiple of 8. After the record, each on
# the next multiple of 64 and zero up to there: ids u32 (pads: NO_TOKEN), biases i8, then for each stage but the last
# the norms u8 of what the later stages hold of a row. Its tensors follow all others in TENSORS, in this order.
HEAD_TENSORS = ("rotation", "offset", "centre")  # [dim, dim], f32 [1, dim], f32 [1, dim]; then the stages [vocab, cols]
HEAD = Record(
    "head",
    "A certified head (NUMERICS rule 20): its rows in stages of columns, with bounds on the stages not yet read.",
    (
        Field("n_stages", "u32", "1..MAX_HEAD_STAGES; q4_0 or q8_0, together dim columns, all but the last 16*k"),
        Field(
            "greedy_bytes", "u32", "64 * lines that a greedy token read on the text of the export, a mean; 0 = unknown"
        ),
        Field("top40_bytes", "u32", "likewise for the 40 best tokens"),
        Field("bias_scale", "f32", "bias of a row = code * bias_scale; +0..2^120"),
        Field("reserved", "u32", "zero", 6),
        Field("norm_scale", "f32", "norm of a row after stage i <= code * norm_scale[i]; +0 past n_stages - 2", 6),
    ),
)

# The first strings of the CHAT section, in this order; stop strings follow. Special tokens written
# in these three are matched as special tokens, those in the user's own text are not.
CHAT_STRINGS = ("user_prefix", "reply_prefix", "turn_end")
CHAT_FIXED_STRINGS = len(CHAT_STRINGS)

RECORDS = (HEADER, SECTION, SPEC, LAYER, TENSOR, CHAT, HEAD)
ENUMS: tuple[type[enum.IntEnum] | type[enum.IntFlag], ...] = (
    Section,
    Feature,
    TensorType,
    NormKind,
    PosKind,
    Act,
    FfnKind,
    InputQuant,
    ChatKind,
)
CONSTANTS = {
    "VERSION_MAJOR": VERSION_MAJOR,
    "VERSION_MINOR": VERSION_MINOR,
    "BLOB_ALIGN": ALIGN,
    "BLOB_TAIL_ZEROS": TAIL_ZEROS,
    "CRC_START": CRC_START,
    "NO_TENSOR": NO_TENSOR,
    "NO_TOKEN": NO_TOKEN,
    "BLOCK": BLOCK,
    "COL_PAD": COL_PAD,
    "MAX_DIM": MAX_DIM,
    "MAX_LAYERS": MAX_LAYERS,
    "MAX_HEADS": MAX_HEADS,
    "MAX_HEAD_DIM": MAX_HEAD_DIM,
    "MAX_VOCAB": MAX_VOCAB,
    "MAX_CONTEXT": MAX_CONTEXT,
    "MAX_TERNARY_COLS": MAX_TERNARY_COLS,
    "KEY_SCALE_MAX": KEY_SCALE_MAX,
    "MAX_HEAD_STAGES": MAX_HEAD_STAGES,
    "HEAD_FIXED_TENSORS": len(HEAD_TENSORS),
    "CHAT_FIXED_STRINGS": CHAT_FIXED_STRINGS,
}
