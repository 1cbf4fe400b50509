"""load -> map -> prune -> quantise -> write: the only file that knows the order."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, archs, loaders, quant, tok
from .archs import ArchOptions
from .blob import writer
from .blob.schema import MAX_TERNARY_COLS
from .blob.writer import BlobContent
from .chat_facts import TalkFacts, bos_fact, chat_spec, confidence, talk_facts
from .errors import CheckpointError, ConfigError, QuantError
from .loaders import RawCheckpoint
from .policy import TERNARY_TYPES, TypePolicy, make_policy
from .runtime import Model
from .spec import Checkpoint, Fact, ModelSpec, tensor_names

HELD_BACK = 20_000  # characters of a pruning text that judge the pruned model
HASH_DIGITS = 32  # of the sha256 of each source file: 128 bits tell files apart
OWN = Path("own")  # as a text to learn from: what the model writes itself
MAX_TERNARY_LOSS = 0.25  # nat a token that three levels may cost

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def no_progress(items: Iterable[Any], _title: str) -> Iterable[Any]:
    """The silent progress bar."""
    return items


@dataclass(frozen=True)
class SourceOptions:
    """Where a model comes from, and the facts its tensors do not hold."""

    path: str
    config: str | None = None
    tokenizer: str | None = None
    arch: ArchOptions = field(default_factory=ArchOptions)


@dataclass(frozen=True)
class QuantizeOptions:
    """Everything `quantize` may be told besides the source."""

    preset: str = "q4_0"
    embed: str | None = None
    types: str | None = None
    keep_f32: tuple[str, ...] = ()
    force: bool = False
    prune_text: Path | None = None
    min_count: int | None = None
    max_tokens: int | None = None
    calibrate: Path | None = None
    kv_smooth: Path | None = None
    head: str | None = None
    head_text: Path | None = None
    licence: str | None = None
    name: str | None = None
    confidence: str | None = None

    @property
    def head_learns_from(self) -> Path | None:
        """The text of a certified head."""
        return (self.head_text or OWN) if self.head == "certified" else None

    @property
    def own_text(self) -> bool:
        """Whether the model writes a text to learn from."""
        return OWN in (self.calibrate, self.kv_smooth, self.head_learns_from)


@dataclass
class Source:
    """A loaded model with its tokenizer and the facts for talking to it."""

    checkpoint: Checkpoint
    tokenizer: tok.Tokenizer
    talk: TalkFacts
    raw: RawCheckpoint


@dataclass
class Result:
    """What `quantize` made; `warnings` name every assumed fact."""

    content: BlobContent
    data: bytes
    source: Source
    warnings: list[str]
    pruning: dict[str, Any] | None = None


def load_source(options: SourceOptions) -> Source:
    """Load a checkpoint and its tokenizer; TinyError when either is missing or contradicts the other."""
    raw = loaders.load(options.path, config=options.config, tokenizer=options.tokenizer)
    checkpoint = archs.identify(raw, options.arch)
    tokenizer = tok.load(raw.tokenizer_files, gguf=raw.gguf_tokenizer)
    if tokenizer.vocab_size > checkpoint.spec.vocab:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocab_size} pieces, the embedding {checkpoint.spec.vocab} rows",
            "name the tokenizer that belongs to this checkpoint with --tokenizer",
        )
    eos_piece = tokenizer.piece_text(tokenizer.eos) if tokenizer.eos is not None else ""
    fallback = Path(options.path).stem if Path(options.path).is_file() else Path(options.path).name
    talk = talk_facts(checkpoint, raw.folder, fallback, eos_piece)
    checkpoint.facts["bos"] = bos_fact(
        options.arch.bos, tokenizer.add_bos, tokenizer.bos is not None, talk.chat.get("add_bos")
    )
    if talk.chat:
        checkpoint.facts["chat"] = Fact(talk.chat.get("kind", "story"), talk.origin, f"template of {talk.name}")
    return Source(checkpoint, tokenizer, talk, raw)


def quantise_tensor(checkpoint: Checkpoint, name: str, policy: TypePolicy) -> quant.QTensor:
    """One canonical tensor in its type; QuantError when the type can not hold it."""
    weight = checkpoint.tensors[name]
    kind = policy.type_of(name)
    if weight.ndim == 1:
        return quant.quantise("f32", weight[np.newaxis, :])
    if kind not in TERNARY_TYPES:
        return quant.quantise(kind, weight)
    if weight.shape[1] > MAX_TERNARY_COLS:
        raise QuantError(f"{name} has {weight.shape[1]} columns", f"ternary rows hold at most {MAX_TERNARY_COLS}")
    return quant.quantise(kind, weight, scale=checkpoint.ternary.get(name))


def quantise(checkpoint: Checkpoint, policy: TypePolicy, progress: Progress) -> dict[str, quant.QTensor]:
    """Every tensor of a checkpoint in its type, in the order of the blob."""
    names = [name for name, _ in tensor_names(checkpoint.spec) if name in checkpoint.tensors]
    return {name: quantise_tensor(checkpoint, name, policy) for name in progress(names, "quantise")}


def untrained_ternary(checkpoint: Checkpoint, policy: TypePolicy) -> list[str]:
    """Matrices that would become ternary although nothing says that they were trained for it."""
    known = set(checkpoint.ternary) | set(checkpoint.ternary_latent)
    return [n for n in checkpoint.tensors if policy.type_of(n) in TERNARY_TYPES and n not in known]


def prune_source(source: Source, text: str, options: QuantizeOptions) -> dict[str, Any]:
    """Shrink the vocabulary of `source` in place to what `text` uses; the report."""
    pruned, keep, report = tok.prune(source.tokenizer, text, min_count=options.min_count, max_tokens=options.max_tokens)
    tensors = source.checkpoint.tensors
    for name in ("tok_embed", "head", "head_bias"):
        if name in tensors:
            tensors[name] = np.ascontiguousarray(tensors[name][keep])
    source.checkpoint.spec = dataclasses.replace(source.checkpoint.spec, vocab=len(keep))
    source.tokenizer = pruned
    # Ids of the old vocabulary mean nothing any more.
    source.raw = dataclasses.replace(source.raw, generation_config={})
    source.checkpoint.config = {k: v for k, v in source.checkpoint.config.items() if k != "eos_token_id"}
    return report


def hold_back(text: str) -> tuple[str, str]:
    """The text to prune by, and its last tenth (at most HELD_BACK characters), cut at a line."""
    at = max(len(text) - HELD_BACK, len(text) * 9 // 10)
    at = text.rfind("\n", 0, at) + 1
    return (text[:at], text[at:]) if at else (text, "")


def text_nll(data: bytes, text: str) -> tuple[float, int]:
    """Sum of the negative log-likelihoods of a text in a blob's runtime, and the number of tokens scored."""
    from . import measure

    model = Model(data)
    windows = measure.stream_windows(measure.encode_stream(model, text), model.spec.context)
    score = measure.score_windows(measure.session_logits(model.session()), windows)
    return score.nll_sum, score.tokens


def prune_and_judge(source: Source, options: QuantizeOptions, progress: Progress) -> dict[str, Any]:
    """`prune_source` by the text of `options`, and what that alone saved and cost: without the long work of
    `calibrate`, `kv_smooth` and a certified head, which would be done again."""
    assert options.prune_text is not None
    text, held = hold_back(read_text(options.prune_text))
    plain = dataclasses.replace(options, calibrate=None, kv_smooth=None, head=None, head_text=None)
    whole = writer.build(make_content(source, plain, progress))
    report = prune_source(source, text, options)
    return report | pruning_cost(whole, writer.build(make_content(source, plain, progress)), held)


def pruning_cost(before: bytes, after: bytes, held: str) -> dict[str, Any]:
    """What pruning saved and cost; both perplexities are a token of the old vocabulary, so that they compare."""
    cost: dict[str, Any] = {"bytes_before": len(before), "bytes": len(after), "bytes_saved": len(before) - len(after)}
    if len(held) > 1:
        (old, tokens), (new, _) = text_nll(before, held), text_nll(after, held)
        cost |= {"held_back_perplexity_before": math.exp(old / tokens), "held_back_perplexity": math.exp(new / tokens)}
    return cost


def read_text(path: Path) -> str:
    """UTF-8 text of a file, also .xz; ConfigError when it is not to be had."""
    import lzma

    try:
        data = path.read_bytes()
        return (lzma.decompress(data) if path.suffix == ".xz" else data).decode("utf-8")
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path} can not be read as UTF-8 text: {err}", "name a text file (.txt or .xz)") from err


def _compact(value: Any) -> str:
    """JSON without spaces: every byte of the blob lies in flash."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def blob_info(source: Source, policy: TypePolicy, options: QuantizeOptions) -> dict[str, str]:
    """The INFO section: provenance without timestamps, so that equal input gives equal bytes."""
    checkpoint = source.checkpoint
    facts = {k: [f.value, f.origin] + ([f.note] if f.note else []) for k, f in checkpoint.facts.items()}
    types = {g: t for g, t in policy.groups.items() if t != policy.preset}
    info = {
        "name": options.name or source.talk.name,
        "arch": checkpoint.arch,
        "licence": options.licence or source.talk.licence or "unknown",
        "attribution": source.talk.attribution,
        "confidence": confidence(options.confidence or source.talk.confidence),
        "facts": _compact(facts),
        "sources": _compact({name: digest[:HASH_DIGITS] for name, digest in checkpoint.sources.items()}),
        "types": _compact({"preset": policy.preset, **types}),
        "tool": f"tinyexport {__version__}",
    }
    # A name may come from the command line or a folder, whose bytes need not be UTF-8.
    return {k: v.encode("utf-8", "replace").decode() for k, v in sorted(info.items()) if v}


def stop_ids(source: Source) -> tuple[int, ...]:
    """Ids that end a reply: the tokenizer's EOS and those of generation_config."""
    ids = {source.tokenizer.eos} if source.tokenizer.eos is not None else set()
    more = source.raw.generation_config.get("eos_token_id", source.checkpoint.config.get("eos_token_id"))
    limit = source.tokenizer.vocab_size
    ids.update(i for i in (more if isinstance(more, list) else [more]) if type(i) is int and 0 <= i < limit)
    return tuple(sorted(ids))


def make_content(source: Source, options: QuantizeOptions, progress: Progress = no_progress) -> BlobContent:
    """Quantise a loaded source into the content of a blob."""
    checkpoint = source.checkpoint
    policy = make_policy(options.preset, options.embed, options.types, options.keep_f32)
    policy.check_names(checkpoint.tensors)
    content = BlobContent(
        spec=checkpoint.spec,
        tensors=quantise(checkpoint, policy, progress),
        tokenizer=source.tokenizer.pack(),
        chat=chat_spec(source.talk, bool(checkpoint.facts["bos"].value), stop_ids(source)),
        info=blob_info(source, policy, options),
    )
    if any((options.calibrate, options.kv_smooth, options.head_learns_from)):
        content = learn(source, content, options, progress)
    if not options.force and untrained_ternary(checkpoint, policy):
        refuse_lossy_ternary(content, checkpoint)
    return content


def learn(source: Source, content: BlobContent, options: QuantizeOptions, progress: Progress) -> BlobContent:
    """What a text can tell: better codes, smoother keys and values, a certified head."""
    from . import calibrate, own_text

    checkpoint, tensors = source.checkpoint, content.tensors
    written: list[np.ndarray] = []  # once, by the model as it would be without all this

    def ids(text: Path) -> np.ndarray:
        if text != OWN:
            return calibrate.windows(checkpoint, source.tokenizer, read_text(text))
        if not written:
            written.append(own_text.write(writer.build(content), progress))
        return written[0]

    if options.calibrate is not None:
        tensors = calibrate.improve(checkpoint, tensors, ids(options.calibrate), progress)
    if options.kv_smooth is not None:
        tensors = calibrate.smooth_kv(checkpoint, tensors, ids(options.kv_smooth))
    if options.head_learns_from is None:
        return dataclasses.replace(content, tensors=tensors)
    head = calibrate.certify_head(checkpoint, tensors, ids(options.head_learns_from))
    return dataclasses.replace(
        content,
        spec=dataclasses.replace(content.spec, tied=False),
        tensors={name: t for name, t in tensors.items() if name not in ("head", "head_bias")},
        head=head,
    )


def refuse_lossy_ternary(content: BlobContent, checkpoint: Checkpoint) -> None:
    """QuantError when three levels make the model much worse on a sample text.

    Latent weights of a model trained as ternary look like any other model's, so the model itself is asked: one
    that was trained for three levels is no worse with them than without.
    """
    from . import measure

    text = resources.files(__package__).joinpath("sample.txt").read_text("utf-8")
    floats = {
        name: quant.quantise("f32", np.atleast_2d(checkpoint.tensors[name])) if t.kind.name != "U32" else t
        for name, t in content.tensors.items()
    }
    nll = {}
    for label, variant in (("ternary", content), ("float", dataclasses.replace(content, tensors=floats))):
        model = Model(writer.build(variant))
        windows = measure.stream_windows(measure.encode_stream(model, text), model.spec.context)[:4]
        nll[label] = measure.score_windows(measure.session_logits(model.session()), windows).nll
    if nll["ternary"] > nll["float"] + MAX_TERNARY_LOSS:
        raise QuantError(
            f"this model was not trained as ternary: a token of a sample text would cost {nll['ternary']:.2f} nat "
            f"instead of {nll['float']:.2f}",
            "use --q4_0, or --force if you know better",
        )


def float_tensors(content: BlobContent) -> dict[str, np.ndarray]:
    """The float32 values that a blob's tensors stand for, in the shapes of `spec.tensor_names`."""
    shapes = dict(tensor_names(content.spec))
    values = {name: t.dequantise().reshape(shapes[name]) for name, t in content.tensors.items() if t.kind.name != "U32"}
    if content.head is not None:
        values["head"], values["head_bias"] = content.head.dense()
    return values


def float_content(content: BlobContent) -> BlobContent:
    """The same model with every packed matrix dequantised to f32 (comparison a2), a certified head as a plain one."""
    tensors = {
        name: t if t.kind.name == "U32" else quant.quantise("f32", t.dequantise())
        for name, t in content.tensors.items()
        if not name.endswith("k_feedback")  # an i4 cache's alone
    }
    if content.head is not None:
        rows, bias = content.head.dense()
        tensors |= {"head": quant.quantise("f32", rows), "head_bias": quant.quantise("f32", bias)}
    return dataclasses.replace(content, tensors=tensors, head=None)


def assumed_warnings(facts: dict[str, Fact]) -> list[str]:
    """One line for each assumed fact: a wrong guess must not pass silently."""
    return [
        f"assumed {name} = {fact.value}" + (f" ({fact.note})" if fact.note else "")
        for name, fact in sorted(facts.items())
        if fact.origin == "assumed"
    ]


def quantize(source: SourceOptions, options: QuantizeOptions, progress: Progress = no_progress) -> Result:
    """The whole way from a checkpoint to the bytes of a blob; writes nothing."""
    loaded = load_source(source)
    pruning = None
    if options.prune_text is not None:
        pruning = prune_and_judge(loaded, options, progress)
    content = make_content(loaded, options, progress)
    return Result(content, writer.build(content), loaded, assumed_warnings(loaded.checkpoint.facts), pruning)


def default_output(path: str, preset: str) -> Path:
    """`model.q4_0.tlm` beside the checkpoint; in the current folder for a repo id."""
    given = Path(path)
    if given.is_dir():
        return given / f"model.{preset}.tlm"
    if given.exists():
        return given.with_name(f"{given.stem}.{preset}.tlm")
    return Path(f"{given.name}.{preset}.tlm")


def spec_summary(spec: ModelSpec) -> dict[str, Any]:
    """A ModelSpec as plain data for --json."""
    out = dataclasses.asdict(spec)
    for key in ("norm_kind", "pos_kind", "act", "input_quant"):
        out[key] = out[key].name.lower()
    for layer in out["layers"]:
        layer["ffn_kind"] = layer["ffn_kind"].name.lower()
    return out
