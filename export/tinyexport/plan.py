"""Does a blob fit a board, how fast will it be, and which limit binds. Every speed here is modelled."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from .blob import reader
from .blob.schema import tensor_bytes
from .blob.writer import BlobContent
from .cost import BATCH_PER_TOKEN, BATCH_UNPACK, CYCLES_PER_WEIGHT, TIERS, Extras, extras, stream_seconds
from .errors import ConfigError
from .policy import GROUPS
from .runtime import Model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROMPT_TOKENS = 60
DECODE_POSITION = 64
KV_ORDER = ("i8", "i4")  # tried in this order when the user names none
PAGE = 16
MAX_BATCH = 16
SLOT_HEADER = 4096  # the firmware's slot header takes one flash sector


@dataclass(frozen=True)
class Board:
    """A row of boards.toml."""

    name: str
    title: str
    cpu: str
    flash: int
    model_partition: int
    slots: int
    pieces: tuple[int, ...]
    stack: int
    reserve: int
    flash_tier: str
    line: int
    cores: int
    kernels: str
    head_rows: int
    source: str
    kv_tier: str = "SRAM"

    @property
    def ram(self) -> int:
        """Bytes a session may use: the pieces less stack and reserve."""
        return sum(self.pieces) - self.stack - self.reserve


def boards() -> dict[str, Board]:
    """Every board by name."""
    table = tomllib.loads(resources.files(__package__).joinpath("boards.toml").read_text("utf-8"))
    return {name: Board(name=name, **{**row, "pieces": tuple(row["pieces"])}) for name, row in table.items()}


def find_board(name: str) -> Board:
    """A board by name; ConfigError naming the others."""
    known = boards()
    if name not in known:
        raise ConfigError(f"unknown board {name!r}", f"boards: {', '.join(known)}")
    return known[name]


@dataclass(frozen=True)
class Traffic:
    """Bytes and weights that one token reads from flash."""

    core_bytes: int
    core_weights: int
    head_bytes: int
    head_weights: int
    other_bytes: int
    core_cycles: float  # CPU cycles of all products of the core, one core
    head_cycles: float

    @property
    def total(self) -> int:
        """Bytes a decoded token reads."""
        return self.core_bytes + self.head_bytes + self.other_bytes


def traffic(content: BlobContent, kernels: str) -> Traffic:
    """What a decoded token streams: every linear layer, the head, one row of the tables, norms and biases."""
    cycles = CYCLES_PER_WEIGHT[kernels]
    linear = set(GROUPS["ATTN"] + GROUPS["FFN"])
    head = "tok_embed" if content.spec.tied else "head"
    sums = {"core_bytes": 0, "core_weights": 0, "head_bytes": 0, "head_weights": 0, "other_bytes": 0}
    core_cycles = head_cycles = 0.0
    for name, t in content.tensors.items():
        size, weights = tensor_bytes(t.kind, t.rows, t.cols), t.rows * t.cols
        cpw = cycles.get(t.kind.name.lower(), 1.0)
        if name.rsplit(".", 1)[-1] in linear:
            sums["core_bytes"] += size
            sums["core_weights"] += weights
            core_cycles += cpw * weights
        elif name == head:
            sums["head_bytes"] += size
            sums["head_weights"] += weights
            head_cycles += cpw * weights
        elif name not in ("tok_embed", "pos_embed"):
            sums["other_bytes"] += size
        if name in ("tok_embed", "pos_embed"):
            sums["other_bytes"] += size // max(t.rows, 1)
    return Traffic(**sums, core_cycles=core_cycles, head_cycles=head_cycles)


@dataclass(frozen=True)
class Speed:
    """Modelled seconds of one decoded token and of the first token of a prompt."""

    token_s: float
    first_token_s: float
    parts_ms: dict[str, float]


def _token_extras(content: BlobContent, position: int, cores: int) -> Extras:
    spec = content.spec
    ffn = max(layer.ffn_dim for layer in spec.layers)
    return extras(spec.dim, len(spec.layers), spec.n_heads, ffn, spec.vocab, position, cores)


def speed(
    content: BlobContent, board: Board, batches: tuple[int, ...], position: int, *, slower: float, more: float
) -> Speed:
    """The cost model; `slower` scales the line overhead, `more` everything that is not a weight product."""
    tier, flow = TIERS[board.flash_tier], traffic(content, board.kernels)

    def stream(nbytes: float, weights: float, cycles: float) -> float:
        return stream_seconds(nbytes, weights, tier, board.line, cycles / max(weights, 1), board.cores, slower)

    core = stream(flow.core_bytes + flow.other_bytes, flow.core_weights, flow.core_cycles)
    head = stream(flow.head_bytes, flow.head_weights, flow.head_cycles)
    decode = _token_extras(content, position, board.cores)
    token = core + head + more * decode.seconds(True)
    prefill, at = 0.0, 0
    per_token = BATCH_PER_TOKEN / CYCLES_PER_WEIGHT["esp32s3"]["q4_0"]
    unpack = BATCH_UNPACK / CYCLES_PER_WEIGHT["esp32s3"]["q4_0"]
    for now in batches:
        scale = 1.0 if now == 1 else unpack + per_token * now
        prefill += stream(flow.core_bytes + flow.other_bytes, flow.core_weights, flow.core_cycles * scale)
        prefill += sum(more * _token_extras(content, at + i, board.cores).seconds(False) for i in range(now))
        at += now
    parts = {
        "core": core * 1e3,
        "head": head * 1e3,
        "attention": more * decode.attention / 240e3,
        "rest": more * (decode.activation + decode.rest + decode.sampling) / 240e3,
    }
    return Speed(token, prefill + token, parts)


@dataclass(frozen=True)
class Memory:
    """RAM of a session: `total` is what `pieces` must hold; `batches` are those of a PROMPT_TOKENS-token prefill."""

    context: int
    kv_type: str
    state: int
    kv: int
    batches: tuple[int, ...]
    total: int


def place(blocks: list[int], pieces: tuple[int, ...]) -> bool:
    """Whether `blocks` fit `pieces`, largest first into the first piece with room, as the runtime places them."""
    room = list(pieces)
    for block in sorted(blocks, reverse=True):
        for i, free in enumerate(room):
            if block <= free:
                room[i] = free - block
                break
        else:
            return False
    return True


def usable_pieces(board: Board) -> tuple[int, ...]:
    """The four largest pieces, after stack and reserve were taken off the smallest ones."""
    pieces, taken = sorted(board.pieces), board.stack + board.reserve
    left = []
    for piece in pieces:
        cut = min(piece, taken)
        taken -= cut
        left.append(piece - cut)
    return tuple(sorted((p for p in left if p), reverse=True)[:4])


def memory(model: Model, board: Board, context: int, kv: str) -> Memory | None:
    """RAM for `context` positions, prefill scratch in unused pages; None when it does not fit the pieces."""
    need = model.need(
        context=context,
        kv=kv,
        batch=MAX_BATCH,
        batch_in_pages=True,
        head_rows=board.head_rows,
        repack=False,
        backend="ref",
    )
    pages = int(need["pages"])
    blocks = [int(need["state"])] + [int(need["page"])] * pages
    if not place(blocks, usable_pieces(board)):
        return None
    kv_bytes = int(need["page"]) * pages
    batches = prefill_batches(model, board, context, kv, int(need["page"]), pages)
    return Memory(context, kv, int(need["state"]), kv_bytes, batches, int(need["state"]) + kv_bytes)


def prefill_batches(model: Model, board: Board, context: int, kv: str, page: int, pages: int) -> tuple[int, ...]:
    """Batch sizes of a PROMPT_TOKENS-token prompt when the scratch lies in pages that are not used yet."""
    largest_run = usable_pieces(board)[0] // page
    scratch = {
        n: int(
            model.need(context=context, kv=kv, batch=n, head_rows=board.head_rows, repack=False, backend="ref")["batch"]
        )
        for n in range(2, MAX_BATCH + 1)
    }
    sizes: list[int] = []
    left = min(PROMPT_TOKENS, context) - 1
    while left > 0:
        at, now = sum(sizes), 1
        for n in range(2, min(MAX_BATCH, left) + 1):
            free = min(pages - -(-(at + n) // PAGE), largest_run)
            if scratch[n] <= free * page:
                now = n
        sizes.append(now)
        left -= now
    return tuple(sizes)


def largest_context(model: Model, board: Board, kv: str) -> Memory | None:
    """The most positions that fit, in whole pages, at most the model's own context."""
    best: Memory | None = None
    low, high = 1, -(-model.spec.context // PAGE)
    while low <= high:
        mid = (low + high) // 2
        found = memory(model, board, min(mid * PAGE, model.spec.context), kv)
        if found:
            best, low = found, mid + 1
        else:
            high = mid - 1
    return best


@dataclass(frozen=True)
class Plan:
    """The answer of `tinyexport plan`. Speeds are modelled, never measured."""

    board: str
    fits: bool
    reason: str
    context: int
    kv_type: str
    flash_bytes: int
    flash_room: int
    ram_bytes: int
    ram_room: int
    bytes_per_token: int
    batch: int
    decode_tok_s: dict[str, float]
    first_token_s: float
    limit: str
    parts_ms: dict[str, float]
    modelled: bool = True
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return asdict(self)


def flash_room(board: Board) -> int:
    """Bytes of the largest blob a slot takes; with two slots the old model survives an upload."""
    return board.model_partition // board.slots - SLOT_HEADER


def make_plan(data: bytes, board: Board, context: int | None = None, kv: str | None = None) -> Plan:
    """Plan the blob `data` on `board`. Without `context` the largest that fits, without `kv` i8 and then i4."""
    model, content = Model(data), reader.read(data)
    wanted = context or model.spec.context
    if wanted > model.spec.context:
        raise ConfigError(f"the model has {model.spec.context} positions", "ask for a smaller --context")
    ram = None
    for kind in (kv,) if kv else KV_ORDER:
        found = memory(model, board, wanted, kind) or (None if context else largest_context(model, board, kind))
        if found and (ram is None or found.context > ram.context):
            ram = found
    room = flash_room(board)
    whole = board.model_partition - SLOT_HEADER
    reasons = []
    if len(data) > whole:
        reasons.append(f"the blob takes {len(data):,} B, the model partition holds {whole:,} B")
    if ram is None:
        reasons.append(f"{wanted} positions of KV cache do not fit {board.ram:,} B of RAM")
    batches = ram.batches if ram else (1,) * (PROMPT_TOKENS - 1)
    position = min(DECODE_POSITION, (ram.context if ram else wanted) - 1)
    mid = speed(content, board, batches, position, slower=1.0, more=1.0)
    low = speed(content, board, batches, position, slower=1.5, more=2.0)
    high = speed(content, board, batches, position, slower=0.9, more=0.6)
    cpu_bound = traffic(content, board.kernels).core_cycles / board.cores / 240e3 > mid.parts_ms["core"] * 0.9
    largest = max(mid.parts_ms, key=lambda k: mid.parts_ms[k])
    limit = {"core": "flash bus (layers)", "head": "flash bus (head)"}.get(largest, largest)
    if reasons:
        limit = "does not fit"
    elif cpu_bound:
        limit = "CPU (layers)"
    return Plan(
        board=board.name,
        fits=not reasons,
        reason="; ".join(reasons),
        context=ram.context if ram else 0,
        kv_type=ram.kv_type if ram else (kv or KV_ORDER[-1]),
        flash_bytes=len(data),
        flash_room=room,
        ram_bytes=ram.total if ram else 0,
        ram_room=sum(usable_pieces(board)),
        bytes_per_token=traffic(content, board.kernels).total,
        batch=max(batches),
        decode_tok_s={"low": 1 / low.token_s, "mid": 1 / mid.token_s, "high": 1 / high.token_s},
        first_token_s=mid.first_token_s,
        limit=limit,
        parts_ms=mid.parts_ms,
        note="one slot only: an upload replaces the old model" if room < len(data) <= whole else "",
    )


def fits_nowhere(data: bytes) -> str | None:
    """Why no board of boards.toml can hold the blob, or None when one can."""
    plans = [make_plan(data, board) for board in boards().values()]
    if any(plan.fits for plan in plans):
        return None
    return "; ".join(f"{plan.board}: {plan.reason}" for plan in plans)
