"""What a host sends. The ids are below 0x40."""

from __future__ import annotations

from .protocol_message import SAMPLING, Message, fields

REQUESTS = (
    Message(
        "hello",
        0x01,
        "First message of a host; opens a session and ends that of any host before. Header session 0. "
        "Answer: `welcome`.",
        fields("""
major u16          protocol version of the host
minor u16          likewise
host str           name and version of the program, for the log
"""),
    ),
    Message("info", 0x02, "Answer: `info_is`."),
    Message("ping", 0x03, "Answer: `pong` with the same data.", fields("data bytes anything, up to 64 bytes")),
    Message(
        "generate",
        0x04,
        "A reply is wanted. Answer: `accepted`, `progress`..., `token`..., `done`; or `error`. "
        "Sent again with the same request id it starts nothing, but resends from the beginning.",
        fields(f"""
mode u8            `Mode`
flags u32          `GenerateFlag`
expect u32         context position the host believes in (`done.position`, 0 when new), or ANY_POSITION
seed u64           of the sampler
{SAMPLING.strip()}
grammar bytes      automaton that the reply follows (firmware/app/grammar.h); empty = none
text str           the user's words, or the raw prompt; any bytes
"""),
    ),
    Message(
        "resend",
        0x05,
        "Events of the running or last reply again, under that reply's request id. "
        "Answer: `token` from `first` on, and `done` if it is done; or `error` NOTHING.",
        fields("""
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
        fields(f"""
mask u32           `SettingsField`
{SAMPLING.strip()}
mode u8            `Mode` of lines typed at a plain terminal or on the board's keys
kv_type u8         0 f32, 1 f16, 2 i8, 3 i4; these with KV_SCALE more for each scale after the first; or AUTO
context u32        positions to keep; 0 = the most that fits
brightness u8      of a screen, percent
echo u8            1: typed characters are echoed to a plain terminal
"""),
    ),
    Message(
        "settings_forget",
        0x0A,
        "The fields in `mask` go back to the model's and the board's defaults. Answer: `settings`.",
        fields("mask u32 `SettingsField`"),
    ),
    Message(
        "slot", 0x10, "What a model slot holds. Answer: `slot_is`.", fields("slot u8 0.., or AUTO: the one in use")
    ),
    Message(
        "upload_begin",
        0x11,
        "Begins an upload, or resumes the one with the same size and hash. With two slots the model in use "
        "stays in use; with one slot, or where the blob is larger than a slot and so takes both, it is gone from here "
        "on. Answer: `upload_is`.",
        fields("""
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
        fields("""
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
        fields("""
which u8           0 .. `info_is.benches` - 1
argument u32       0 = the board's choice
"""),
    ),
    Message(
        "probe",
        0x1A,
        "Evaluates ids in an empty context and answers `probe_row` for each, then `ok`: proves bit equality. "
        "Ends the conversation.",
        fields("""
flags u8           zero
ids ids            token ids, at most the context; one frame holds up to 500
"""),
    ),
    Message(
        "tokenize",
        0x1B,
        "Ids of a text. Answer: `tokens`.",
        fields("""
flags u8           1: special tokens in the text are matched; 2: BOS first
text str           any bytes
"""),
    ),
)
