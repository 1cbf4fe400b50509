"""What a device sends. The ids are from 0x40 on."""

from __future__ import annotations

from .protocol_message import SAMPLING, Message, fields

EVENTS = (
    Message(
        "welcome",
        0x41,
        "The session is open; its number stands in the header.",
        fields("""
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
        fields("""
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
kv_type u8         0 f32, 1 f16, 2 i8, 3 i4; these with KV_SCALE more for each scale after the first
batch u16          most tokens evaluated at once
batch_in_pages u8  1: batches shrink as the context fills
head_rows u32      logits computed at once; 0 = all
head_mode u8       0 = plain head, 1 = certified (the blob decides); others are reserved
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
        fields("""
uptime_us u64      since boot
busy u16           request id of the running reply, or 0
data bytes         as sent
"""),
    ),
    Message(
        "accepted",
        0x44,
        "A `generate` is under way.",
        fields("""
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
        fields("""
at u32             done so far
of u32             in all
"""),
    ),
    Message(
        "token",
        0x46,
        "One token. The texts of all tokens, then that of `done`, make the reply; each is whole UTF-8 characters.",
        fields("""
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
        fields("""
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
        fields(f"""
mask u32           `SettingsField`
{SAMPLING.strip()}
mode u8            `Mode`
kv_type u8         as set; or what the open model took; or AUTO
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
        fields("""
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
        fields("""
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
        fields("""
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
        fields("""
index u32          of the token
crc u32            CRC-32 of all logits, f32 little-endian, in id order
best u32           id of the largest logit
logit f32          its value
"""),
    ),
    Message("tokens", 0x4E, "Token ids.", fields("total u32 how many there are\nids ids the first of them, up to 250")),
    Message("log", 0x4F, "A line of the device's log; request 0.", fields("level u8 `LogLevel`\ntext str one line")),
    Message(
        "error",
        0x7F,
        "The request failed; nothing was done unless the code says otherwise.",
        fields("""
code u16           `Error`
detail u32         see the code
type u8            of the request
text str           one sentence
"""),
    ),
)
