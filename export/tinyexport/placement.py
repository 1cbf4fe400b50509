"""How a model lies in a board's RAM: what the firmware asks for, placed by the runtime itself."""

from __future__ import annotations

from dataclasses import dataclass

from .blob.schema import ChatKind
from .boards import MAX_PIECES, Board
from .runtime import Model

PROMPT_TOKENS = 60
PAGE = 16
MAX_BATCH = 16
LEAST_CONTEXT = 32  # the firmware opens no model with less
MAX_TEMPLATE = 128  # bytes that a chat template may add to a prompt
MAX_SPECIAL = 64  # bytes of a special token in a template
GRAMMAR_MAX = 2048


@dataclass(frozen=True)
class Memory:
    """RAM of a session: `total` bytes in the board's pieces, and `pinned` of what they have left.

    `batches` are those of a PROMPT_TOKENS-token prompt; `pinned` maps a tensor to the bytes of it in RAM and the piece.
    """

    context: int
    kv_type: str
    state: int
    kv: int
    own: int
    batch: int
    total: int
    batches: tuple[int, ...]
    pinned: dict[str, tuple[int, int]]

    @property
    def pinned_bytes(self) -> int:
        """Bytes of weights that have a copy in RAM."""
        return sum(n for n, _ in self.pinned.values())


def _round64(n: int) -> int:
    return -(-n // 64) * 64


def _own(board: Board, context: int, cache: int) -> tuple[int, ...]:
    """The app's own buffers (firmware/app/chat_open.c): ids, log-probabilities, a text, the tokenizer's work."""
    text = _round64(board.max_text + MAX_TEMPLATE)
    work = _round64((text + 16) * 24)
    row = _round64((context + 1) * 4)
    return row, row, text + work if cache < MAX_PIECES * work else max(text, GRAMMAR_MAX)


def memory(
    model: Model, board: Board, context: int, kv: str, pieces: tuple[int, ...] | None = None
) -> tuple[Memory, bool]:
    """What `context` positions take, and whether the pieces (default: the board's) hold it."""
    options = {
        "context": context,
        "kv": kv,
        "batch": MAX_BATCH,
        "batch_in_pages": board.batch_in_pages,
        "head_rows": board.head_rows,
        "repack": False,
        "pin": True,
        "backend": "ref",  # the state of a session is as large as on the chip
        "threads": board.cores,
    }
    cache = model.need(**options)
    options["own"] = _own(board, context, cache["page"] * cache["pages"])
    need = model.need(**options)
    placed = model.place(pieces or board.pieces, PROMPT_TOKENS, **options)
    batches = placed.batches if placed else (1,) * min(PROMPT_TOKENS, context)
    pinned = placed.pinned if placed else {}
    kv_bytes = need["page"] * need["pages"]
    found = Memory(context, kv, need["state"], kv_bytes, need["own"], need["batch"], need["total"], batches, pinned)
    return found, placed is not None


def largest_context(model: Model, board: Board, kv: str, at_most: int) -> Memory | None:
    """The most positions that fit, as the firmware looks for them: from `at_most` down in pages."""
    least = min(model.spec.context, LEAST_CONTEXT)
    context = max(at_most, least)
    while True:
        found, fits = memory(model, board, context, kv)
        if fits:
            return found
        if context == least:
            return None
        context = max((context - 1) // PAGE * PAGE, least)


def missing(model: Model, board: Board, context: int, kv: str) -> int:
    """Bytes by which the largest piece would have to grow for `context` positions; 0 when they fit."""
    first, *rest = board.pieces
    low, high = 0, 64
    if memory(model, board, context, kv)[1]:
        return 0
    while not memory(model, board, context, kv, (first + high, *rest))[1]:
        low, high = high, 2 * high
    while high - low > 64:
        middle = (low + high) // 128 * 64
        if memory(model, board, context, kv, (first + middle, *rest))[1]:
            high = middle
        else:
            low = middle
    return high


def _special_at(model: Model, text: bytes) -> int:
    """Bytes of the special token that `text` begins with, or 0."""
    text = text[:MAX_SPECIAL]
    ids = model.encode(text, special=True, cont=True)
    piece = model.piece(ids[0]) if ids else b""
    if not piece or not text.startswith(piece) or model.encode(piece, cont=True) == ids[:1]:
        return 0
    return len(piece)


def template_bytes(model: Model) -> int:
    """What the chat template adds to a person's words before they are encoded in one piece (firmware/app/prompt.c)."""
    if model.chat is None or model.chat.kind is not ChatKind.TURNS:
        return 0
    before, after = model.chat.user_prefix.encode(), model.chat.reply_prefix.encode()
    at = start = 0
    while at < len(before):  # from its last special token on
        special = _special_at(model, before[at:])
        at += special or 1
        start = at if special else start
    end = next((i for i in range(len(after)) if _special_at(model, after[i:])), len(after))
    return len(before) - start + end
