"""Does a blob fit a board, how fast will it be, and which limit binds. Every speed here is modelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .blob import reader
from .blob.schema import round_up, tensor_bytes
from .blob.writer import BlobContent
from .boards import Board, boards, find_board
from .cost import (
    BATCH_PER_TOKEN,
    BATCH_UNPACK,
    BOUND_CYCLES,
    CPU_HZ,
    CYCLES_PER_WEIGHT,
    STALLS,
    TIERS,
    Extras,
    FittedKeys,
    extras,
    stream_seconds,
)
from .errors import ConfigError
from .kv import KvKind, kv_kinds, parse_kv
from .placement import MAX_TEMPLATE, PROMPT_TOKENS, Memory, largest_context, memory, missing, template_bytes
from .policy import GROUPS
from .runtime import Model
from .spec import layer_name

__all__ = ["DECODE_POSITION", "PROMPT_TOKENS", "Board", "Plan", "boards", "find_board", "fits_nowhere", "make_plan"]

DECODE_POSITION = 64
KV_ORDER = ("i8", "i4")  # the second only where the model's keys are fitted to it, as on the device
SRAM = "SRAM"
FED_DIMS = (2, 4, 8, 16)  # of heads whose fed keys the ESP32-S3's kernel takes, four heads at a time


@dataclass(frozen=True)
class Stream:
    """Weights of one memory that are read one after the other; cycles of their products on one core."""

    nbytes: float = 0.0
    weights: float = 0.0
    cycles: float = 0.0

    def __add__(self, other: Stream) -> Stream:
        """Both, one after the other."""
        return Stream(self.nbytes + other.nbytes, self.weights + other.weights, self.cycles + other.cycles)

    def times(self, share: float) -> Stream:
        """A share of it."""
        return Stream(self.nbytes * share, self.weights * share, self.cycles * share)

    def seconds(self, tier: str, board: Board, slower: float, effort: float = 1.0) -> float:
        """Time to read and use it; `effort` scales the cycles, `slower` a line's overhead."""
        if tier == SRAM:
            return self.cycles * effort / board.cores / CPU_HZ
        per_weight = self.cycles * effort / max(self.weights, 1)
        return stream_seconds(self.nbytes, self.weights, TIERS[tier], board.line, per_weight, board.cores, slower)


@dataclass(frozen=True)
class Traffic:
    """What a token reads, by memory tier: `core` once a batch, and `head_share` of `head`, which is the whole head."""

    core: Mapping[str, Stream]
    head: Mapping[str, Stream]
    head_share: float = 1.0  # a certified head reads less

    def of(self, tier: str) -> int:
        """Bytes that a decoded token reads from this memory."""
        none = Stream()
        return round(self.core.get(tier, none).nbytes + self.head_share * self.head.get(tier, none).nbytes)


def traffic(content: BlobContent, board: Board, pinned: Mapping[str, tuple[int, int]], greedy: bool = False) -> Traffic:
    """Linear layers, head, norms and biases, one row of the tables; pinned parts from where their copies lie.

    Of a certified head what the blob's own sampling reads, or what the best token alone does (`greedy`).
    """
    cycles = CYCLES_PER_WEIGHT[board.kernels]
    head_name = "tok_embed" if content.spec.tied else "head"
    core: dict[str, Stream] = {}
    head: dict[str, Stream] = {}

    def add(part: dict[str, Stream], name: str, whole: Stream) -> None:
        copied, piece = pinned.get(name, (0, 0))
        share = copied / whole.nbytes
        near = board.psram_tier if board.psram and piece == len(board.pieces) - 1 else SRAM
        for tier, stream in ((near, whole.times(share)), (board.flash_tier, whole.times(1 - share))):
            part[tier] = part.get(tier, Stream()) + stream

    for name, t in content.tensors.items():
        size, weights = tensor_bytes(t.kind, t.rows, t.cols), t.rows * t.cols
        linear = name.rsplit(".", 1)[-1] in GROUPS["ATTN"] + GROUPS["FFN"] or name == head_name
        whole = Stream(size, weights, cycles.get(t.kind.name.lower(), 1.0) * weights) if linear else Stream(size)
        if name == head_name:
            add(head, name, whole)
        elif name not in ("tok_embed", "pos_embed"):
            add(core, name, whole)
        if name in ("tok_embed", "pos_embed"):
            core[board.flash_tier] = core.get(board.flash_tier, Stream()) + Stream(size // max(t.rows, 1))
    if content.head is None:
        return Traffic(core, head)
    size, weights = content.head.nbytes, content.spec.vocab * content.spec.dim
    work = sum(
        t.rows * (cycles[t.kind.name.lower()] * round_up(t.cols, 32) + BOUND_CYCLES) for t in content.head.stages
    )
    return Traffic(core, {board.flash_tier: Stream(size, weights, work)}, certified_bytes(content, greedy) / size)


def certified_bytes(content: BlobContent, greedy: bool) -> int:
    """Bytes of a certified head that a token reads, as the export measured."""
    head, chat = content.head, content.chat
    assert head is not None
    read = head.greedy_bytes if greedy or chat is None or chat.temperature == 0 else head.top40_bytes
    return read or head.nbytes


@dataclass(frozen=True)
class Speed:
    """Modelled seconds of one decoded token and of the first token of a prompt."""

    token_s: float
    first_token_s: float
    parts_ms: dict[str, float]


def _fitted_keys(content: BlobContent, kind: KvKind) -> FittedKeys:
    """What the blob's keys take in the cache."""
    spec, head_dim = content.spec, content.spec.head_dim

    def heads(part: str) -> list[int]:
        return [x.n_kv_heads for i, x in enumerate(spec.layers) if layer_name(i, part) in content.tensors]

    centred, fed = heads("k_range"), heads("k_feedback") if kind.type == "i4" else []
    by_fours = sum(n for n in fed if n % (4 * kind.groups) == 0 and head_dim in FED_DIMS)
    return FittedKeys(
        centred=sum(centred) * head_dim,
        scaled=len(centred) * spec.n_heads * head_dim,
        fed=by_fours * head_dim,
        odd=(sum(fed) - by_fours) * head_dim,
        head_dim=head_dim,
    )


def _token_extras(content: BlobContent, position: int, cores: int, keys: FittedKeys, groups: int, batch: int) -> Extras:
    spec = content.spec
    ffn = max(layer.ffn_dim for layer in spec.layers)
    return extras(spec.dim, len(spec.layers), spec.n_heads, ffn, spec.vocab, position, cores, keys, batch, groups)


def _batch_effort(n: int) -> float:
    """Cycles of a batch of n vectors, in those of one."""
    return 1.0 if n == 1 else (BATCH_UNPACK + BATCH_PER_TOKEN * n) / CYCLES_PER_WEIGHT["esp32s3"]["q4_0"]


def speed(
    content: BlobContent,
    board: Board,
    flow: Traffic,
    ram: Memory,
    position: int,
    slower: float,
    more: float,
) -> Speed:
    """The cost model; `slower` scales the line overhead, `more` everything that is not a weight product."""
    kind, batches = parse_kv(ram.kv_type), ram.batches
    keys = _fitted_keys(content, kind)

    def layers(effort: float) -> float:
        return sum(stream.seconds(tier, board, slower, effort) for tier, stream in flow.core.items())

    def token(at: int, batch: int) -> Extras:
        return _token_extras(content, at, board.cores, keys, kind.groups, batch)

    def tokens(at: int, n: int) -> float:
        return sum(more * token(at + i, n).seconds(False) for i in range(n))

    core = layers(1.0)
    head = sum(stream.times(flow.head_share).seconds(tier, board, slower) for tier, stream in flow.head.items())
    decode = token(position, 1)
    sampling = more * (decode.seconds(True) - decode.seconds(False))
    starts = [sum(batches[:i]) for i in range(len(batches))]
    prefill = sum(layers(_batch_effort(n)) + tokens(at, n) for at, n in zip(starts, batches, strict=True))
    parts = {
        "core": core * 1e3,
        "head": head * 1e3,
        "attention": more * decode.attention / 240e3,
        "rest": more * (decode.activation + decode.rest + decode.keys + decode.sampling) / 240e3,
    }
    return Speed(core + head + more * decode.seconds(True), prefill + head + sampling, parts)


@dataclass(frozen=True)
class Plan:
    """The answer of `tinyexport plan`. Speeds are modelled, never measured.

    `missing_bytes` is what the largest piece of RAM lacks for `wanted` positions with this kind of KV cache; `by_kv`
    has the largest context, its bytes and what the model's own context lacks for each kind that was looked at, those
    of the same type with fewer scales included. `greedy_tok_s`:
    decoding when a token asks for the best one alone (top-k 1), which a certified head answers with fewer bytes.
    """

    board: str
    fits: bool
    reason: str
    context: int
    wanted: int
    kv_type: str
    missing_bytes: int
    by_kv: dict[str, dict[str, int]]
    flash_bytes: int
    flash_room: int
    ram_bytes: int
    ram_room: int
    ram_pieces: tuple[int, ...]
    ram_parts: dict[str, int]
    pinned_tensors: int
    bytes_per_token: int
    head_share: float
    batch: int
    batches: tuple[int, ...]
    prompt_tokens: int
    decode_position: int
    decode_tok_s: dict[str, float]
    greedy_tok_s: float
    first_token_s: float
    limit: str
    parts_ms: dict[str, float]
    assumptions: dict[str, str]
    modelled: bool = True
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return asdict(self)


def _assumptions(board: Board, flow: Traffic, ram: Memory) -> dict[str, str]:
    """What each figure rests on."""
    tier = TIERS[board.flash_tier]
    fitted = "fitted to public measurements" if tier.measured else "from the command format, never measured"
    return {
        "ram_room": f"{board.source}; less {board.stack:,} B of stacks and {board.reserve:,} B left to drivers",
        "ram_bytes": "placed by the runtime as the firmware asks for it; pointers of 8 bytes, the chip's have 4",
        "bytes_per_token": (
            f"each weight once a token, {flow.head_share:.0%} of the head, {ram.pinned_bytes:,} B of them pinned in RAM"
        ),
        "decode_tok_s": (
            f"line fills of {board.flash_tier} {fitted}; instructions counted on emulated kernels, times {STALLS} for "
            "stalls; KV read from internal RAM; low: half more overhead a line and all but the weights doubled, "
            "high: 0.9 and 0.6 of them"
        ),
        "first_token_s": f"an empty context, batches of {', '.join(map(str, ram.batches))}, the head once",
    }


def _default_kinds(content: BlobContent) -> tuple[str, ...]:
    """i4 costs a model little only if its export fitted every layer's keys to it (`--kv-smooth`)."""
    fitted = all(layer_name(i, "k_feedback") in content.tensors for i in range(len(content.spec.layers)))
    return KV_ORDER if fitted else KV_ORDER[:1]


def _choose(model: Model, board: Board, wanted: int, exact: bool, kinds: tuple[str, ...]) -> Memory | None:
    """The kind of KV cache with the largest context, the first of equals; `exact`: `wanted` positions or none."""
    best: Memory | None = None
    for kind in kinds:
        if exact:
            at, fits = memory(model, board, wanted, kind)
            found = at if fits else None
        else:
            found = largest_context(model, board, kind, wanted)
        if found and (best is None or found.context > best.context):
            best = found
    return best


def _by_kv(model: Model, board: Board, kinds: tuple[str, ...]) -> dict[str, dict[str, int]]:
    heads = [layer.n_kv_heads for layer in model.spec.layers]
    table = {}
    for kind in [k for asked in map(parse_kv, kinds) for k in kv_kinds(asked.type, heads, asked.groups)]:
        found, all_of_it = largest_context(model, board, kind, model.spec.context), model.spec.context
        lacks = 0 if found and found.context == all_of_it else missing(model, board, all_of_it, kind)
        table[kind] = {
            "context": found.context if found else 0,
            "kv_bytes": found.kv if found else 0,
            "ram_bytes": found.total if found else 0,
            "pinned_bytes": found.pinned_bytes if found else 0,
            "missing_bytes": lacks,
        }
    return table


def _limit(mid: Speed, flow: Traffic, board: Board) -> str:
    largest = max(mid.parts_ms, key=lambda k: mid.parts_ms[k])
    cycles = sum(stream.cycles for stream in flow.core.values())
    if largest == "core" and cycles / board.cores / CPU_HZ * 1e3 > mid.parts_ms["core"] * 0.9:
        return "CPU (layers)"
    bus = "PSRAM" if board.psram else "flash"
    return {"core": f"{bus} bus (layers)", "head": f"{bus} bus (head)"}.get(largest, largest)


def _notes(data: bytes, board: Board, found: Memory | None, by_kv: Mapping[str, Mapping[str, int]]) -> list[str]:
    notes = []
    if board.slot < len(data) <= board.largest_blob:
        notes.append("takes both slots: it replaces the old model")
    more = by_kv.get("i4", {}).get("context", 0)
    if found and found.kv_type == "i8" and more > found.context:
        notes.append(f"--kv i4 holds {more} positions: the default for a model that was exported with --kv-smooth")
    return notes


def make_plan(data: bytes, board: Board, context: int | None = None, kv: str | None = None) -> Plan:
    """Plan the blob `data` on `board`. Without `context` the largest that fits, without `kv` what the device takes.

    That is i8, or i4 for a model whose keys are fitted to it and which has more positions with it.

    ConfigError for more positions than the model has, and for a `kv` that does not suit its heads.
    """
    model, content = Model(data), reader.read(data)
    wanted = context or model.spec.context
    if wanted > model.spec.context:
        raise ConfigError(f"the model has {model.spec.context} positions", "ask for a smaller --context")
    kinds = (kv,) if kv else _default_kinds(content)
    by_kv = _by_kv(model, board, (kv,) if kv else KV_ORDER)
    found = _choose(model, board, wanted, context is not None, kinds)
    ram = found or memory(model, board, wanted, kinds[-1])[0]
    lacks = missing(model, board, wanted, ram.kv_type) if found is None or found.context < wanted else 0
    reasons = []
    if len(data) > board.largest_blob:
        reasons.append(f"the blob takes {len(data):,} B, the model partition holds {board.largest_blob:,} B")
    template = template_bytes(model)
    if template > MAX_TEMPLATE:
        reasons.append(f"its chat template adds {template} bytes to a prompt, the firmware takes {MAX_TEMPLATE}")
    if found is None:
        reasons.append(
            f"{wanted} positions with KV {ram.kv_type} do not fit the RAM: {lacks:,} B are missing; what fits: "
            + (", ".join(f"{row['context']} with {kind}" for kind, row in by_kv.items() if row["context"]) or "nothing")
        )
    flow = traffic(content, board, ram.pinned)
    position = min(DECODE_POSITION, ram.context - 1)
    mid, low, high = (
        speed(content, board, flow, ram, position, slower, more)
        for slower, more in ((1.0, 1.0), (1.5, 2.0), (0.9, 0.6))
    )
    best = speed(content, board, traffic(content, board, ram.pinned, greedy=True), ram, position, 1.0, 1.0)
    return Plan(
        board=board.name,
        fits=not reasons,
        reason="; ".join(reasons),
        context=found.context if found else 0,
        wanted=wanted,
        kv_type=ram.kv_type,
        missing_bytes=lacks,
        by_kv=by_kv,
        flash_bytes=len(data),
        flash_room=board.slot,
        ram_bytes=ram.total,
        ram_room=sum(board.pieces),
        ram_pieces=board.pieces,
        ram_parts={"kv": ram.kv, "state": ram.state, "app": ram.own, "batches": ram.batch, "pinned": ram.pinned_bytes},
        pinned_tensors=len(ram.pinned),
        bytes_per_token=flow.of(board.flash_tier),
        head_share=flow.head_share,
        batch=max(ram.batches),
        batches=ram.batches,
        prompt_tokens=min(PROMPT_TOKENS, ram.context),
        decode_position=position,
        decode_tok_s={"low": 1 / low.token_s, "mid": 1 / mid.token_s, "high": 1 / high.token_s},
        greedy_tok_s=1 / best.token_s,
        first_token_s=mid.first_token_s,
        limit="does not fit" if reasons else _limit(mid, flow, board),
        parts_ms=mid.parts_ms,
        assumptions=_assumptions(board, flow, ram),
        note="; ".join(_notes(data, board, found, by_kv)),
    )


def fits_nowhere(data: bytes) -> str | None:
    """Why no board of boards.toml can hold the blob, or None when one can."""
    plans = [make_plan(data, board) for board in boards().values()]
    if any(plan.fits for plan in plans):
        return None
    return "; ".join(f"{plan.board}: {plan.reason}" for plan in plans)
