"""THE serial protocol, declared once: the messages and their fields.

Limits, enumerations and error codes stand in `protocol_codes.py`, framing and the codec of the host in
`wire.py`. `protocol_gen.py` writes `firmware/app/protocol_gen.h` and the tables of `host/PROTOCOL.md`
from these two files; a test fails when either is stale.
"""

from __future__ import annotations

from dataclasses import dataclass

from .protocol_codes import (
    ANY_POSITION,
    AUTO,
    CONSTANTS,
    ENUMS,
    ERROR_TEXT,
    HEADER_BYTES,
    MAX_CHUNK,
    MAX_PAYLOAD,
    VERSION_MAJOR,
    VERSION_MINOR,
    Check,
    Error,
    GenerateFlag,
    LogLevel,
    Mode,
    ModelState,
    Reason,
    SettingsField,
    SlotState,
    TokenFlag,
)

__all__ = [
    "ANY_POSITION",
    "AUTO",
    "BY_ID",
    "BY_NAME",
    "CONSTANTS",
    "ENUMS",
    "ERROR_TEXT",
    "EVENTS",
    "HEADER_BYTES",
    "MAX_CHUNK",
    "MAX_PAYLOAD",
    "MESSAGES",
    "REQUESTS",
    "VERSION_MAJOR",
    "VERSION_MINOR",
    "Check",
    "Error",
    "Field",
    "GenerateFlag",
    "LogLevel",
    "Message",
    "Mode",
    "ModelState",
    "Reason",
    "SettingsField",
    "SlotState",
    "TokenFlag",
]

# ---- messages -------------------------------------------------------------------------------------

SCALARS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "f32": "f"}
SPANS = ("str", "bytes", "ids")  # u16 length in bytes, then the bytes; str is UTF-8, ids are u32


@dataclass(frozen=True)
class Field:
    """One field of a message body."""

    name: str
    kind: str
    doc: str


@dataclass(frozen=True)
class Message:
    """A message: requests have ids below 0x40, what a device sends has ids from 0x40 on."""

    name: str
    id: int
    doc: str
    fields: tuple[Field, ...] = ()

    @property
    def from_device(self) -> bool:
        """Whether a device sends it."""
        return self.id >= 0x40


def _fields(rows: str) -> tuple[Field, ...]:
    """Fields from lines `name kind  meaning`."""
    return tuple(Field(*line.split(None, 2)) for line in rows.strip().splitlines())


_SAMPLING = """
temperature f32    0 = greedy
top_k u32          0 = the candidate limit (256)
top_p f32          1 = off
min_p f32          0 = off
repeat_penalty f32 1 = off
repeat_window u32  tokens looked back at, at most 256
max_tokens u32     length of the reply; 0 = the model's own default
"""

REQUESTS = (
    Message(
        "hello",
        0x01,
        "First message of a host; opens a session and ends that of any host before. Header session 0. "
        "Answer: `welcome`.",
        _fields("""
major u16          protocol version of the host
minor u16          likewise
host str           name and version of the program, for the log
"""),
    ),
    Message("info", 0x02, "Answer: `info_is`."),
    Message("ping", 0x03, "Answer: `pong` with the same data.", _fields("data bytes anything, up to 64 bytes")),
    Message(
        "generate",
        0x04,
        "A reply is wanted. Answer: `accepted`, `progress`..., `token`..., `done`; or `error`. "
        "Sent again with the same request id it starts nothing, but resends from the beginning.",
        _fields(f"""
mode u8            `Mode`
flags u32          `GenerateFlag`
expect u32         context position the host believes in (`done.position`, 0 when new), or ANY_POSITION
seed u64           of the sampler
{_SAMPLING.strip()}
grammar bytes      automaton that the reply follows (firmware/app/grammar.h); empty = none
text str           the user's words, or the raw prompt; any bytes
"""),
    ),
    Message(
        "resend",
        0x05,
        "Events of the running or last reply again, under that reply's request id. "
        "Answer: `token` from `first` on, and `done` if it is done; or `error` NOTHING.",
        _fields("""
reply u16          request id of the `generate`
first u32          index of the first token wanted
"""),
    ),
    Message("stop", 0x06, "Ends the running reply. Answer: `ok`, and `done` under the reply's id; `error` NOTHING."),
    Message("reset", 0x07, "A new conversation: empties the context. Stops a running reply. Answer: `ok`."),
    Message("settings_get", 0x08, "Answer: `settings`."),
    Message(
        "settings_set",
        0x09,
        "Sets and stores the fields named in `mask`. Answer: `settings`, or `error` (nothing is changed).",
        _fields(f"""
mask u32           `SettingsField`
{_SAMPLING.strip()}
mode u8            `Mode` of lines typed at a plain terminal or on the board's keys
kv_type u8         0 f32, 1 f16, 2 i8, 3 i4, or AUTO
context u32        positions to keep; 0 = the most that fits
brightness u8      of a screen, percent
echo u8            1: typed characters are echoed to a plain terminal
"""),
    ),
    Message(
        "settings_forget",
        0x0A,
        "The fields in `mask` go back to the model's and the board's defaults. Answer: `settings`.",
        _fields("mask u32 `SettingsField`"),
    ),
    Message(
        "slot", 0x10, "What a model slot holds. Answer: `slot_is`.", _fields("slot u8 0.., or AUTO: the one in use")
    ),
    Message(
        "upload_begin",
        0x11,
        "Begins an upload, or resumes the one with the same size and hash. With two slots the model in use "
        "stays in use; with one slot it is gone from here on. Answer: `upload_is`.",
        _fields("""
slot u8            where to, or AUTO
size u32           bytes of the blob
sha256 bytes       32 bytes
"""),
    ),
    Message(
        "upload_chunk",
        0x12,
        "Bytes of the blob, in order. Answer: `upload_is` with the offset reached. A chunk already written is answered "
        "likewise; one too far ahead gives `error` STORE_OFFSET. Up to `window` bytes may be under way unanswered.",
        _fields("""
offset u32         from the start of the blob
crc u32            CRC-32 of the data; also compared with what flash reads back
data bytes         up to MAX_CHUNK; a multiple of 16 except at the end
"""),
    ),
    Message("upload_query", 0x13, "Where an upload stands, after a break too. Answer: `upload_is`, or NOT_BEGUN."),
    Message(
        "upload_verify",
        0x14,
        "Hash over flash, then every check of the runtime and of memory. Answer: `progress`..., `ok`; or `error`.",
    ),
    Message(
        "upload_activate",
        0x15,
        "The verified blob becomes the model: the header is written last. Answer: `ok` once it is loaded. "
        "Repeating it is harmless.",
    ),
    Message("upload_abort", 0x16, "Forgets the upload and erases its header. Answer: `ok`."),
    Message("reboot", 0x18, "Answer: `ok`, then the device restarts and the session ends."),
    Message(
        "bench",
        0x19,
        "Runs measurement `which` of the board. Answer: `bench_row`..., `ok`; UNSUPPORTED past the last one.",
        _fields("""
which u8           0 .. `info_is.benches` - 1
argument u32       0 = the board's choice
"""),
    ),
    Message(
        "probe",
        0x1A,
        "Evaluates ids in an empty context and answers `probe_row` for each, then `ok`: proves bit equality. "
        "Ends the conversation.",
        _fields("""
flags u8           zero
ids ids            token ids, at most the context; one frame holds up to 500
"""),
    ),
    Message(
        "tokenize",
        0x1B,
        "Ids of a text. Answer: `tokens`.",
        _fields("""
flags u8           1: special tokens in the text are matched; 2: BOS first
text str           any bytes
"""),
    ),
)

EVENTS = (
    Message(
        "welcome",
        0x41,
        "The session is open; its number stands in the header.",
        _fields("""
major u16          protocol version of the device
minor u16          likewise
max_payload u16    longest header and body that the device takes
max_text u16       longest text of `generate`, in bytes
window u32         bytes of an upload that may be under way
model_state u8     `ModelState`
model_error u16    `Error` when UNUSABLE
selfcheck u32      `Check`
position u32       tokens in the context
firmware str       name and version
board str          folder name under firmware/boards
model str          name of the model, or empty
"""),
    ),
    Message(
        "info_is",
        0x42,
        "Everything a person or a twin on the desk needs to know.",
        _fields("""
firmware str       name and version
board str          folder name under firmware/boards
chip str           processor
model str          name from the blob
arch str           likewise
licence str        likewise
attribution str    likewise
kernels str        backend of the runtime
flash_mode str     "QIO 80 MHz", "file", "RAM"...
warning str        one sentence, or empty
blob_major u16     newest blob version that the firmware reads
blob_minor u16     likewise
model_state u8     `ModelState`
model_error u16    `Error` when UNUSABLE
model_bytes u32    length of the blob
model_crc u32      CRC-32 in its header
selfcheck u32      `Check`
vocab u32          token ids
context u32        positions kept
model_context u32  positions the model was built for
position u32       tokens in the context now
kv_type u8         0 f32, 1 f16, 2 i8, 3 i4
batch u16          most tokens evaluated at once
batch_in_pages u8  1: batches shrink as the context fills
head_rows u32      logits computed at once; 0 = all
head_mode u8       0 = full head; others are reserved
threads u8         cores at work
chat_kind u8       0 story, 1 turns
cache_line u16     bytes; 0 = unknown
cpu_mhz u16        0 = unknown
memory_total u32   bytes given to the app
memory_used u32    of these in use
heap_free u32      bytes that the system has left; 0 = unknown
psram u32          bytes
slots u8           model slots; 0 = read only
slot u8            the one in use, or AUTO
slot_bytes u32     largest blob a slot takes
benches u8         measurements of `bench`
uptime_us u64      since boot
confidence str     `MEAN` or `MEAN,MINIMUM` of the blob: a reply with lower log-probabilities is unsure
"""),
    ),
    Message(
        "pong",
        0x43,
        "The device is alive.",
        _fields("""
uptime_us u64      since boot
busy u16           request id of the running reply, or 0
data bytes         as sent
"""),
    ),
    Message(
        "accepted",
        0x44,
        "A `generate` is under way.",
        _fields("""
prompt_tokens u32  tokens of this prompt, template included
cached_tokens u32  tokens before it that need no new evaluation
dropped u32        oldest exchanges dropped to make room
reread_tokens u32  tokens evaluated again because of that
seed u64           of the sampler
"""),
    ),
    Message(
        "progress",
        0x45,
        "A long step moves on (prefill tokens, bytes hashed).",
        _fields("""
at u32             done so far
of u32             in all
"""),
    ),
    Message(
        "token",
        0x46,
        "One token. The texts of all tokens, then that of `done`, make the reply; each is whole UTF-8 characters.",
        _fields("""
index u32          0, 1, 2...: a gap means a lost event (`resend`)
id u32             token id
flags u32          `TokenFlag`
logprob f32        natural log
logprob_all f32    over the whole vocabulary
text str           what this token released
"""),
    ),
    Message(
        "done",
        0x47,
        "The reply is complete.",
        _fields("""
reason u8          `Reason`
error u16          `Error`
tokens u32         token events of this reply
text_crc u32       CRC-32 of the whole text: the host checks what it got
prompt_tokens u32  as in `accepted`
cached_tokens u32  likewise
dropped u32        likewise, with what was dropped during the reply
reread_tokens u32  likewise
position u32       tokens in the context: `expect` of the next turn
context u32        positions in all
prefill_us u32     reading the prompt
decode_us u32      writing the reply after the first token
first_token_us u32 from the request to the first token
logprob_mean f32   over the reply's tokens
logprob_min f32    likewise
seed u64           of the sampler
text str           rest of the reply
"""),
    ),
    Message("ok", 0x48, "The request is done."),
    Message(
        "settings",
        0x49,
        "The settings in force; `mask` has those that were set by somebody.",
        _fields(f"""
mask u32           `SettingsField`
{_SAMPLING.strip()}
mode u8            `Mode`
kv_type u8         as set
context u32        as set
brightness u8      percent
echo u8            0 or 1
stored u8          1: they survive power off
"""),
    ),
    Message(
        "slot_is",
        0x4A,
        "A model slot.",
        _fields("""
slot u8            number
slots u8           how many there are
state u8           `SlotState`
capacity u32       largest blob
size u32           of what it holds
sequence u32       the highest wins at boot
sha256 bytes       32 bytes, or empty
name str           of the model, when it can be opened
"""),
    ),
    Message(
        "upload_is",
        0x4B,
        "Where the upload stands.",
        _fields("""
slot u8            number
state u8           `SlotState`
offset u32         bytes written; the next chunk starts here
size u32           bytes in all
window u32         bytes that may be under way
sha256 bytes       32 bytes
"""),
    ),
    Message(
        "bench_row",
        0x4C,
        "One number.",
        _fields("""
name str           what was measured
value f32          how much
unit str           of what
note str           conditions
"""),
    ),
    Message(
        "probe_row",
        0x4D,
        "The logits after one token.",
        _fields("""
index u32          of the token
crc u32            CRC-32 of all logits, f32 little-endian, in id order
best u32           id of the largest logit
logit f32          its value
"""),
    ),
    Message(
        "tokens", 0x4E, "Token ids.", _fields("total u32 how many there are\nids ids the first of them, up to 250")
    ),
    Message("log", 0x4F, "A line of the device's log; request 0.", _fields("level u8 `LogLevel`\ntext str one line")),
    Message(
        "error",
        0x7F,
        "The request failed; nothing was done unless the code says otherwise.",
        _fields("""
code u16           `Error`
detail u32         see the code
type u8            of the request
text str           one sentence
"""),
    ),
)

MESSAGES = REQUESTS + EVENTS
BY_NAME = {m.name: m for m in MESSAGES}
BY_ID = {m.id: m for m in MESSAGES}
