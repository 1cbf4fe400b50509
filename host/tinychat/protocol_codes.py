"""Numbers of the serial protocol: limits, enumerations, error codes and their texts.

Part of the one truth in `protocol.py`, which re-exports everything here.
"""

from __future__ import annotations

import enum

VERSION_MAJOR = 1  # another major version is refused with Error.VERSION
VERSION_MINOR = 0  # a higher minor version appends fields and messages that a reader may ignore
MAX_PAYLOAD = 2048  # bytes of header and body, before CRC and COBS
MAX_CHUNK = 1024  # data bytes of one upload_chunk
ANY_POSITION = 0xFFFFFFFF  # generate.expect: whatever the context holds
AUTO = 0xFF  # a slot or KV type that the device chooses
KV_SCALE = 4  # a KV type with one scale more for each position, so that its kv heads fall into one group more
HEADER_BYTES = 6  # type u8, flags u8 (zero), session u16, request u16

# ---- enumerations ---------------------------------------------------------------------------------


class Mode(enum.IntEnum):
    """What `generate` does with its text."""

    CHAT = 0  # a turn of the conversation: the blob's template, the history kept
    RAW = 1  # the text is the whole context (after BOS, if the model wants one); the conversation ends


class GenerateFlag(enum.IntFlag):
    """Bits of `generate.flags`."""

    DEFAULTS = 1  # sampling fields and max_tokens are ignored: the device's settings hold
    RANDOM_SEED = 2  # the device draws the seed; `accepted` tells it
    TRUE_LOGPROB = 4  # also the log-probability over the whole vocabulary: reads the whole head
    IGNORE_STOP = 8  # stop ids and stop strings do not end the reply (benchmarks)
    SPECIAL = 16  # RAW: special tokens written in the text are matched


class TokenFlag(enum.IntFlag):
    """Bits of `token.flags`."""

    OVER_CANDIDATES = 1  # `logprob` is over the sampler's candidates, not over the vocabulary
    TRUE_LOGPROB = 2  # `logprob_all` is valid
    HELD = 4  # text is held back: it may become a stop string or half a character


class Reason(enum.IntEnum):
    """Why a reply ended."""

    STOP_ID = 0
    STOP_STRING = 1
    LENGTH = 2  # max_tokens
    CONTEXT = 3  # the window is full and nothing is left to drop
    STOPPED = 4  # `stop`, Ctrl-C or the stop key
    TAKEN = 5  # another host said hello, or the output could not be delivered
    ERROR = 6  # `done.error` says which
    GRAMMAR = 7  # nothing may follow in the request's grammar


class ModelState(enum.IntEnum):
    """Whether there is a model to talk to."""

    NONE = 0  # no slot holds an active model: upload one
    READY = 1
    UNUSABLE = 2  # a model is stored, but does not open or does not fit: `model_error`


class SlotState(enum.IntEnum):
    """What a model slot holds."""

    EMPTY = 0
    PARTIAL = 1  # an upload was begun and can be resumed
    COMPLETE = 2  # all bytes are there, not yet verified
    VERIFIED = 3  # hash and format are good; activate makes it the model
    STORED = 4  # a complete model, not the one in use
    ACTIVE = 5
    FIXED = 6  # a model outside the store (part of the firmware image, or a file of the simulator)


class Check(enum.IntFlag):
    """Bits of `selfcheck`: what failed at boot. 0 = all well."""

    ARITHMETIC = 1  # tlm_self_test: this build's arithmetic breaks the numeric contract
    GOLDEN = 2  # a built-in golden model gave other bits than the reference
    KERNELS = 4  # the fast kernels and the reference kernels disagree
    MODEL = 8  # the stored model does not open
    MEMORY = 16  # the model does not fit this board's memory
    SETTINGS = 32  # stored settings were damaged; defaults hold
    FLASH_MODE = 64  # flash runs slower than the board can (see `flash_mode`)


class SettingsField(enum.IntFlag):
    """Bits of `settings_set.mask` and `settings.mask`: which fields count."""

    TEMPERATURE = 1
    TOP_K = 2
    TOP_P = 4
    MIN_P = 8
    REPEAT_PENALTY = 16
    REPEAT_WINDOW = 32
    MAX_TOKENS = 64
    MODE = 128
    KV_TYPE = 256  # takes effect when the model is next opened (at once when idle)
    CONTEXT = 512  # likewise
    BRIGHTNESS = 1024
    ECHO = 2048


class LogLevel(enum.IntEnum):
    """Severity of a `log` line."""

    ERROR = 0
    WARNING = 1
    INFO = 2


class Error(enum.IntEnum):
    """Codes of the `error` message. The text of the device says more; `detail` is a number or 0."""

    NONE = 0
    VERSION = 1  # protocol too old or too new; detail = the device's major version
    SESSION = 2  # not greeted, or another host said hello since, or the device rebooted: hello again
    UNKNOWN_MESSAGE = 3  # detail = the type
    BAD_MESSAGE = 4  # a body that does not decode, or a field out of range
    TOO_LONG = 5  # a frame or text longer than the limit; detail = the limit
    BUSY = 6  # a reply is being generated: stop it first; detail = its request id
    STALE = 7  # an older request id than the last one
    UNSUPPORTED = 8  # this board, model or version can not do it
    NO_MODEL = 9
    CONVERSATION = 10  # `expect` is not the context's position; detail = the position
    TEXT = 11  # text that the model's tokenizer can not represent
    PROMPT_TOO_LONG = 12  # the prompt alone does not fit the context; detail = tokens it has
    TOKEN = 13  # a token id that the model does not have
    NUMERIC = 14  # a non-finite value appeared while evaluating
    NOTHING = 15  # resend: no reply to resend; stop: nothing runs
    GRAMMAR = 16  # a grammar that is damaged or of another version; in `done`: no token may stand next
    STORE_READ_ONLY = 20  # this board's model can not be replaced
    STORE_SLOT = 21  # no such slot, or the slot is in use
    STORE_SIZE = 22  # larger than the slot; detail = bytes the slot holds
    STORE_NOT_BEGUN = 23  # no upload is under way
    STORE_OFFSET = 24  # a chunk that does not continue the upload; detail = the offset wanted
    STORE_CRC = 25  # the chunk's CRC is wrong
    STORE_FLASH = 26  # erase or write failed, or flash does not read back as written
    STORE_INCOMPLETE = 27  # verify before all bytes came; detail = the offset wanted
    STORE_HASH = 28  # the SHA-256 is not the one announced
    STORE_NOT_VERIFIED = 29  # activate before verify
    MODEL_FORMAT = 30  # not a blob, or a damaged one; detail = tlm_err
    MODEL_VERSION = 31  # a newer major version or an unknown required feature; detail = its major version
    MODEL_MEMORY = 32  # needs more memory than the board has; detail = bytes needed
    MODEL_KV = 33  # the cache has more scales a position than the model's kv heads can be cut into
    MODEL_TEMPLATE = 34  # its chat template adds too much to a prompt; detail = the bytes it may add
    SETTINGS_STORE = 40  # settings hold until power off, but could not be stored
    INTERNAL = 50  # detail = tlm_err or a line number


ERROR_TEXT: dict[Error, str] = {
    Error.NONE: "no error",
    Error.VERSION: "this firmware speaks another version of the protocol",
    Error.SESSION: "the session is over: another host took it or the device rebooted",
    Error.UNKNOWN_MESSAGE: "unknown message",
    Error.BAD_MESSAGE: "malformed message, or a value out of its range",
    Error.TOO_LONG: "too long",
    Error.BUSY: "busy with a reply",
    Error.STALE: "an old request came again",
    Error.UNSUPPORTED: "not supported here",
    Error.NO_MODEL: "no model: upload one",
    Error.CONVERSATION: "the conversation is not where the host thinks it is",
    Error.TEXT: "the model's tokenizer can not represent this text",
    Error.PROMPT_TOO_LONG: "the prompt is longer than the model's context",
    Error.TOKEN: "the model has no such token",
    Error.NUMERIC: "the model computed a value that is not finite",
    Error.NOTHING: "nothing to do that with",
    Error.GRAMMAR: "the grammar is damaged, or the model has no token that it allows",
    Error.STORE_READ_ONLY: "the model of this board can not be replaced",
    Error.STORE_SLOT: "no such model slot, or the slot is in use",
    Error.STORE_SIZE: "the model is larger than the slot",
    Error.STORE_NOT_BEGUN: "no upload is under way",
    Error.STORE_OFFSET: "this chunk does not continue the upload",
    Error.STORE_CRC: "the chunk is damaged",
    Error.STORE_FLASH: "flash could not be written",
    Error.STORE_INCOMPLETE: "the upload is not complete",
    Error.STORE_HASH: "the uploaded bytes have another hash than announced",
    Error.STORE_NOT_VERIFIED: "the upload was not verified",
    Error.MODEL_FORMAT: "not a model blob, or a damaged one",
    Error.MODEL_VERSION: "the blob is of a newer version than this firmware",
    Error.MODEL_MEMORY: "the model does not fit this board's memory",
    Error.MODEL_KV: "this model's kv heads can not be cut into as many groups as the KV cache has scales",
    Error.MODEL_TEMPLATE: "the model's chat template is too long",
    Error.SETTINGS_STORE: "the settings could not be stored",
    Error.INTERNAL: "internal error",
}

ENUMS: tuple[type[enum.IntEnum] | type[enum.IntFlag], ...] = (
    Mode,
    GenerateFlag,
    TokenFlag,
    Reason,
    ModelState,
    SlotState,
    Check,
    SettingsField,
    LogLevel,
    Error,
)
CONSTANTS = {
    "VERSION_MAJOR": VERSION_MAJOR,
    "VERSION_MINOR": VERSION_MINOR,
    "MAX_PAYLOAD": MAX_PAYLOAD,
    "MAX_CHUNK": MAX_CHUNK,
    "HEADER_BYTES": HEADER_BYTES,
    "ANY_POSITION": ANY_POSITION,
    "AUTO": AUTO,
    "KV_SCALE": KV_SCALE,
}
