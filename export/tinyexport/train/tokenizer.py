"""Tokenizers for training: byte-level BPE and SentencePiece unigram, trained or read from a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .recipe import Recipe, TokenizerPart, TrainError

# Ids 0, 1, 2 in both kinds, so that BOS is 1 as in the checkpoints people share.
PAD_PIECE = "<pad>"


@dataclass(frozen=True)
class Tokenizer:
    """One tokenizer of either kind. `file` is the name it is saved under; `data` its bytes."""

    file: str
    data: bytes
    vocab: int
    bos: int  # -1: none is prepended
    eos: int
    _impl: Any

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without BOS or EOS; a literal EOS piece in the text is plain text for SentencePiece."""
        if self.file.endswith(".model"):
            return [int(i) for i in self._impl.EncodeAsIds(text)]
        return [int(i) for i in self._impl.encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, specials left out."""
        if self.file.endswith(".model"):
            return str(self._impl.DecodeIds([int(i) for i in ids]))
        return str(self._impl.decode([int(i) for i in ids], skip_special_tokens=True))

    @property
    def document_start(self) -> list[int]:
        """What comes before each document: BOS, or nothing."""
        return [self.bos] if self.bos >= 0 else []


def train_bpe(texts: Iterator[str], part: TokenizerPart) -> bytes:
    """tokenizer.json of a byte-level BPE with GPT-2's split; specials first, then 256 bytes, then merges."""
    from tokenizers import Tokenizer as Hf
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    specials = [PAD_PIECE, part.bos, part.eos] if part.bos else [part.eos]
    tok = Hf(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=part.vocab,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tok.train_from_iterator(texts, trainer)
    if part.bos:
        bos = tok.token_to_id(part.bos)
        tok.post_processor = processors.TemplateProcessing(single=f"{part.bos} $A", special_tokens=[(part.bos, bos)])
    return (json.dumps(json.loads(tok.to_str()), ensure_ascii=False, indent=1) + "\n").encode()


def train_unigram(texts: Iterator[str], part: TokenizerPart) -> bytes:
    """tokenizer.model of a SentencePiece unigram without byte fallback: unk 0, bos 1, eos 2."""
    import io

    import sentencepiece

    out = io.BytesIO()
    lines = (line for text in texts for line in text.split("\n") if line.strip())
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=lines,
            model_writer=out,
            model_type="unigram",
            vocab_size=part.vocab,
            character_coverage=0.9999,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as err:
        raise TrainError(
            f"SentencePiece can not make {part.vocab} pieces from this text: {str(err).strip().splitlines()[-1]}",
            "choose another tokenizer.vocab, or more text",
        ) from err
    return out.getvalue()


def from_bytes(data: bytes, file: str, part: TokenizerPart) -> Tokenizer:
    """A tokenizer from its file's bytes.

    Raises:
        TrainError: the file is of no known kind, or lacks the EOS or BOS piece that the recipe names.
    """
    if file.endswith(".model"):
        import sentencepiece

        try:
            proc = sentencepiece.SentencePieceProcessor(model_proto=data)
        except RuntimeError as err:
            raise TrainError(f"{file} is no SentencePiece model", "give a tokenizer.json or a tokenizer.model") from err
        if proc.eos_id() < 0 or (part.bos and proc.bos_id() < 0):
            raise TrainError(f"{file} has no BOS or EOS piece", 'set tokenizer.bos = "", or train a tokenizer')
        return Tokenizer(file, data, proc.vocab_size(), proc.bos_id() if part.bos else -1, proc.eos_id(), proc)
    from tokenizers import Tokenizer as Hf

    try:
        tok = Hf.from_str(data.decode("utf-8"))
    except Exception as err:  # the library raises a bare Exception
        raise TrainError(f"{file} is no tokenizer: {err}", "give a tokenizer.json or a tokenizer.model") from err
    for piece in filter(None, (part.bos, part.eos)):
        if tok.token_to_id(piece) is None:
            raise TrainError(f"{file} has no piece {piece!r}", "set tokenizer.bos and tokenizer.eos in the recipe")
    bos, eos = (tok.token_to_id(piece) if piece else None for piece in (part.bos, part.eos))
    return Tokenizer(file, data, tok.get_vocab_size(), -1 if bos is None else bos, -1 if eos is None else eos, tok)


def make_tokenizer(recipe: Recipe, texts: Iterator[str]) -> Tokenizer:
    """The recipe's tokenizer: its file, or one trained on `texts`."""
    part = recipe.tokenizer
    if part.file:
        path = recipe.path(part.file)
        try:
            data = path.read_bytes()
        except OSError as err:
            raise TrainError(f"{path} can not be read: {err}", "see tokenizer.file in the recipe") from err
        return from_bytes(data, "tokenizer.model" if path.suffix == ".model" else "tokenizer.json", part)
    if part.kind == "unigram":
        return from_bytes(train_unigram(texts, part), "tokenizer.model", part)
    return from_bytes(train_bpe(texts, part), "tokenizer.json", part)


def special_facts(tok: Tokenizer, part: TokenizerPart, context: int) -> dict[str, Any]:
    """tokenizer_config.json for a tokenizer.json."""
    facts: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": part.eos}
    if tok.bos >= 0:
        facts |= {"bos_token": part.bos, "pad_token": PAD_PIECE, "add_bos_token": True}
    return facts | {"model_max_length": context, "clean_up_tokenization_spaces": False}
