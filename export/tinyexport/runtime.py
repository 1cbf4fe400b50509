"""The C runtime from Python: open a blob, encode, evaluate, sample, generate.

    model = Model("model.tlm")
    session = model.session()
    for step in generate(session, Sampler(model, seed=1), model.encode("Once upon a time"), 100):
        print(step.text, end="")

Objects own their C memory and free it when they are collected. A session is for one thread at a time.
"""

from __future__ import annotations

import ctypes as c
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .blob import reader
from .blob.schema import NO_TOKEN
from .blob.writer import BlobContent, ChatSpec, stored_tensors
from .errors import RuntimeFault
from .generation import Generation, Step, generate
from .kv import KV_TYPES, check_kv, parse_kv
from .native import NativeFault, Options, check, lib
from .spec import ModelSpec

NEED_KEYS = ("total", "state", "batch", "page", "pages", "repack", "own")
_SPECIAL, _BOS, _CONTINUE = 1, 2, 4
_MAX_PIECE = 4096
_SAMPLING = (
    "temperature 0 or an ordinary number, top_k up to 256, 0 < top_p <= 1, 0 <= min_p < 1, "
    "repeat_penalty from 1 on, repeat_window up to 256"
)


def _pointer(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def _ids(ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """Ids as uint32; what does not fit becomes an id that no model has."""
    wide = np.asarray(ids, dtype=np.int64).reshape(-1)
    return np.where((wide < 0) | (wide > NO_TOKEN), NO_TOKEN, wide).astype(np.uint32)


class Model:
    """An opened blob. `content`, `spec`, `chat` and `info` come from the Python reader on first use."""

    def __init__(self, source: str | os.PathLike[str] | bytes) -> None:
        """Open a file or the bytes of one; RuntimeFault names what is wrong with it."""
        if isinstance(source, (bytes, bytearray, memoryview)):
            self.data = bytes(source)
        else:
            try:
                self.data = Path(source).read_bytes()
            except OSError as err:
                raise RuntimeFault(f"{source} can not be read: {err.strerror}", "name a .tlm file") from err
        code = c.c_int32()
        self._handle = lib().tlm_py_open(self.data, len(self.data), c.byref(code))
        check(code.value)
        weakref.finalize(self, lib().tlm_py_close, self._handle)
        self.vocab: int = lib().tlm_py_vocab(self._handle)
        self.context: int = lib().tlm_py_context(self._handle)

    @cached_property
    def content(self) -> BlobContent:
        """The whole blob, read and checked in Python."""
        return reader.read(self.data)

    @property
    def spec(self) -> ModelSpec:
        """The architecture."""
        return self.content.spec

    @property
    def chat(self) -> ChatSpec | None:
        """Template, stop rules and sampling defaults, or None."""
        return self.content.chat

    @property
    def info(self) -> dict[str, str]:
        """Provenance: name, licence, facts..."""
        return self.content.info

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a reply."""
        return self.chat.stop_ids if self.chat else ()

    @property
    def bos(self) -> int | None:
        """Id that begins a text."""
        return self._token(lib().tlm_py_bos(self._handle))

    @property
    def eos(self) -> int | None:
        """Id that ends a text."""
        return self._token(lib().tlm_py_eos(self._handle))

    @staticmethod
    def _token(value: int) -> int | None:
        return None if value == NO_TOKEN else value

    def token_id(self, piece: bytes) -> int | None:
        """Id of the piece with exactly these bytes."""
        return self._token(lib().tlm_py_token_id(self._handle, piece, len(piece)))

    def encode(self, text: str | bytes, special: bool = False, bos: bool = False, cont: bool = False) -> list[int]:
        """Ids of a text. `special`: literal special tokens become their ids; `bos`: BOS first; `cont`: it goes on."""
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
        flags = _SPECIAL * special | _BOS * bos | _CONTINUE * cont
        ids = np.empty(len(data) + 16, np.uint32)
        count = c.c_size_t()
        for _ in range(2):
            code = lib().tlm_py_encode(self._handle, data, len(data), flags, _pointer(ids), ids.size, c.byref(count))
            if count.value <= ids.size:
                break
            ids = np.empty(count.value, np.uint32)
        check(code)
        return [int(i) for i in ids[: count.value]]

    def piece(self, token: int) -> bytes:
        """Bytes of a piece as it stands in running text."""
        out, size = c.create_string_buffer(_MAX_PIECE), c.c_size_t()
        check(lib().tlm_py_piece(self._handle, int(_ids([token])[0]), out, len(out), c.byref(size)))
        return out.raw[: size.value]

    def decode(self, ids: Sequence[int]) -> bytes:
        """Bytes of a whole text, bytes that are no UTF-8 as they are."""
        decoder = Decoder(self, replace=False)
        return b"".join([*(decoder.push(i) for i in ids), decoder.end()])

    def decoder(self, replace: bool = True, continues: bool = False) -> Decoder:
        """A streaming decoder; the arguments are those of `Decoder`."""
        return Decoder(self, replace, continues)

    def need(self, **options: Any) -> dict[str, int]:
        """Bytes that a session with these options would take (keys NEED_KEYS); takes the arguments of `session`."""
        out = (c.c_uint64 * len(NEED_KEYS))()
        check(lib().tlm_py_need(self._handle, c.byref(_options(self, **options)), out))
        return dict(zip(NEED_KEYS, out, strict=True))

    def place(self, pieces: Sequence[int], prompt: int, **options: Any) -> Placement | None:
        """How a session would lie in pieces of memory of these sizes; None when they do not do."""
        names = list(stored_tensors(self.content))
        sizes, pinned = np.array(pieces, np.uint64), np.zeros((len(names), 2), np.uint64)
        batches, count = np.zeros(max(prompt, 1), np.uint32), c.c_uint32()
        code = lib().tlm_py_place(
            self._handle,
            c.byref(_options(self, **options)),
            _pointer(sizes),
            len(sizes),
            prompt,
            _pointer(batches),
            c.byref(count),
            _pointer(pinned),
            len(names),
        )
        if code and NativeFault(code).name == "TLM_ERR_MEMORY":
            return None
        check(code)
        copies = {name: (int(n), int(piece)) for name, (n, piece) in zip(names, pinned, strict=True) if n}
        return Placement(tuple(int(n) for n in batches[: count.value]), copies)

    def session(self, **options: Any) -> Session:
        """A fresh context; the options are those of `_options` (see tlm_config)."""
        return Session(self, **options)


def _options(
    model: Model,
    context: int | None = None,
    kv: str = "i8",
    batch: int = 16,
    backend: str | None = None,
    threads: int = 1,
    repack: bool = True,
    head_rows: int = 0,
    batch_in_pages: bool = False,
    pin: bool = False,
    own: tuple[int, ...] = (),
) -> Options:
    kind = parse_kv(kv)
    if kind.groups > 1:
        check_kv(kind, (layer.n_kv_heads for layer in model.spec.layers))
    if any(not 0 <= n <= 0xFFFFFFFF for n in (context or 0, batch, threads, head_rows)) or context == 0:
        raise RuntimeFault("a session option is out of its range", "see tlm_config in runtime_c/include/tlm.h")
    name = backend.encode("utf-8", "surrogateescape") if backend is not None else None
    return Options(
        context=context or 0,
        kv_type=KV_TYPES.index(kind.type),
        kv_groups=kind.groups,
        batch=batch,
        head_rows=head_rows,
        threads=max(threads, 1),
        batch_in_pages=batch_in_pages,
        repack=repack,
        pin=pin,
        own=own,
        backend=name,
    )


@dataclass(frozen=True)
class Placement:
    """Batches of a prompt in an empty context; tensor -> bytes of it that lie in a copy, and in which piece."""

    batches: tuple[int, ...]
    pinned: dict[str, tuple[int, int]]


class Session:
    """A context of a model: its KV cache and scratch memory."""

    def __init__(self, model: Model, **options: Any) -> None:
        """Takes the memory at once; RuntimeFault when an option is out of range."""
        self.model = model
        asked = _options(model, **options)
        self.context: int = asked.context or model.context
        if self.context > model.context:
            raise RuntimeFault(
                f"the model was built for {model.context} positions, not {self.context}", "lower the context"
            )
        need, code = (c.c_uint64 * len(NEED_KEYS))(), c.c_int32()
        self._handle = lib().tlm_py_session_new(model._handle, c.byref(asked), need, c.byref(code))
        if asked.backend is not None and code.value and NativeFault(code.value).name == "TLM_ERR_ARG":
            raise RuntimeFault(
                f"this machine has no kernels {options['backend']!r}",
                "ref is everywhere; none given takes the best",
            )
        check(code.value)
        self.need: dict[str, int] = dict(zip(NEED_KEYS, need, strict=True))
        # The model must outlive the session in C too: the finalizer holds it.
        weakref.finalize(self, _free_session, self._handle, model)

    @property
    def position(self) -> int:
        """Tokens in the context."""
        return int(lib().tlm_py_position(self._handle))

    @property
    def next_batch(self) -> int:
        """Tokens that the next prefill batch would take."""
        return int(lib().tlm_py_next_batch(self._handle))

    @property
    def backend(self) -> str:
        """Name of the kernels in use."""
        return str(lib().tlm_py_backend(self._handle).decode())

    def rewind(self, position: int) -> None:
        """Forget all tokens from `position` on."""
        if not 0 <= position <= self.position:
            raise RuntimeFault(f"position {position} is not in the context", f"it holds {self.position} tokens")
        check(lib().tlm_py_rewind(self._handle, position))

    def eval(self, ids: Sequence[int] | np.ndarray, want: str | Sequence[bool] | None = "last") -> np.ndarray:
        """Append tokens; logits float32 [k, vocab] of the wanted ones.

        `want` is "last", "all", None (none: the head is not computed), or one boolean a token.
        """
        tokens = _ids(ids)
        flags = self._want(want, len(tokens))
        wanted = int(np.count_nonzero(flags))
        out = np.empty((wanted, self.model.vocab), np.float32)
        where = _pointer(out) if wanted else None
        check(lib().tlm_py_eval(self._handle, _pointer(tokens), len(tokens), _pointer(flags), where))
        return out

    @staticmethod
    def _want(want: str | Sequence[bool] | None, n: int) -> np.ndarray:
        flags = np.zeros(n, np.uint8)
        if isinstance(want, str):
            if want not in ("last", "all"):
                raise RuntimeFault(f"unknown want {want!r}", 'use "last", "all", None or one boolean a token')
            flags[0 if want == "all" else -1 :] = 1
        elif want is not None:
            given = np.asarray(want)
            if given.shape != (n,):
                raise RuntimeFault("`want` does not have one flag a token", 'use "last", "all", None or booleans')
            flags[:] = given != 0
        return flags

    def eval_sample(self, ids: Sequence[int] | np.ndarray, sampler: Sampler) -> None:
        """Append tokens; the last one's logits stream into `sampler`, no buffer of them is kept."""
        tokens = _ids(ids)
        sampler._check_mask(self.model.vocab)
        check(lib().tlm_py_eval_sample(self._handle, _pointer(tokens), len(tokens), sampler._handle))

    def bench(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        """Seconds of a prefill and of greedy decode steps from an empty context, timed inside the library."""
        out = (c.c_double * 2)()
        check(lib().tlm_py_bench(self._handle, prompt_tokens, decode_tokens, out))
        return out[0], out[1]


def _free_session(handle: int, _model: Model) -> None:
    lib().tlm_py_session_free(handle)


@dataclass(frozen=True)
class Choice:
    """A drawn token; natural-log probabilities over the candidates and, when asked for, over the vocabulary."""

    id: int
    logprob: float
    logprob_all: float
    candidates: int


class Sampler:
    """The sampler chain of NUMERICS rule 22."""

    def __init__(
        self,
        model: Model | None = None,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repeat_penalty: float | None = None,
        repeat_window: int | None = None,
        seed: int = 0,
        logprob_all: bool = False,
        allowed: Sequence[bool] | np.ndarray | None = None,
    ) -> None:
        """What is not given comes from the model's CHAT section, else it is off and greedy.

        `allowed` is a grammar mask: one boolean an id of the vocabulary.
        """
        defaults = (model.chat if model else None) or ChatSpec()

        def pick(name: str, value: Any) -> Any:
            return getattr(defaults, name) if value is None else value

        floats = (c.c_float * 4)(
            pick("temperature", temperature),
            pick("top_p", top_p),
            pick("min_p", min_p),
            pick("repeat_penalty", repeat_penalty),
        )
        mask = None if allowed is None else np.ascontiguousarray(allowed, dtype=bool)
        self._mask_size = 0 if mask is None else mask.size
        code = c.c_int32()
        self._handle = lib().tlm_py_sampler_new(
            floats,
            pick("top_k", top_k),
            pick("repeat_window", repeat_window),
            seed,
            logprob_all,
            None if mask is None else _pointer(mask),
            self._mask_size,
            c.byref(code),
        )
        if code.value and NativeFault(code.value).name == "TLM_ERR_ARG":
            raise RuntimeFault("a sampling option is out of its range", _SAMPLING)
        check(code.value)
        weakref.finalize(self, lib().tlm_py_sampler_free, self._handle)

    def accept(self, token: int) -> None:
        """Add a token to the repetition window; `sample` does it for its choice."""
        lib().tlm_py_sampler_accept(self._handle, token)

    def feed(self, logits: np.ndarray, slice_rows: int = 0) -> None:
        """Hand over the logits [vocab] of one position, in slices as a session would."""
        row = np.ascontiguousarray(logits, np.float32).reshape(-1)
        self._check_mask(row.size)
        check(lib().tlm_py_sampler_feed(self._handle, _pointer(row), row.size, slice_rows or row.size))

    def _check_mask(self, vocab: int) -> None:
        if self._mask_size not in (0, vocab):
            raise RuntimeFault(f"the mask has {self._mask_size} ids, the model {vocab}", "give one boolean an id")

    def sample(self) -> Choice:
        """Draw from the candidates of the last eval_sample or feed."""
        ints, floats = (c.c_uint32 * 2)(), (c.c_float * 2)()
        check(lib().tlm_py_sample(self._handle, ints, floats))
        return Choice(ints[0], floats[0], floats[1], ints[1])


class Decoder:
    """Streaming decode: ids in, whole UTF-8 characters out."""

    def __init__(self, model: Model, replace: bool = True, continues: bool = False) -> None:
        """`replace`: bytes that can never be UTF-8 become U+FFFD. `continues`: a space at the beginning stays."""
        self._model = model
        self._handle = lib().tlm_py_decoder_new(replace, continues)
        self._out = c.create_string_buffer(_MAX_PIECE)
        weakref.finalize(self, lib().tlm_py_free, self._handle)

    @property
    def pending(self) -> bool:
        """Whether part of a character waits for the rest."""
        return bool(lib().tlm_py_decode_pending(self._handle))

    def push(self, token: int) -> bytes:
        """What becomes whole with this token."""
        size = c.c_size_t()
        check(
            lib().tlm_py_decode(
                self._handle, self._model._handle, int(_ids([token])[0]), self._out, len(self._out), c.byref(size)
            )
        )
        return self._out.raw[: size.value]

    def end(self) -> bytes:
        """What is left of a cut character."""
        size = lib().tlm_py_decode_end(self._handle, self._out, len(self._out))
        return self._out.raw[:size]


__all__ = ["Choice", "Decoder", "Generation", "Model", "NativeFault", "Sampler", "Session", "Step", "generate"]
