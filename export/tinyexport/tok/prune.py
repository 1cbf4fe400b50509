"""Vocabulary pruning: fewer rows of embedding and head, the same ids' texts for texts that use what is kept.

What is kept is closed under merges: with a piece stay the two symbols of every merge that makes it. A
word whose pieces are all kept then merges through the same steps as before, because each step makes a part
of one of its pieces, and no merge comes in that was not there. For a unigram any set will do: the best of
all cuts is the best of fewer cuts that it is among. Nothing becomes impossible to encode: bytes stay, and
where there are no byte pieces the single characters do.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from ..blob.schema_tok import TokFlag, TokKind
from ..errors import TokenizerError
from .encode import encode
from .model import Merge, Tokenizer


def prune(
    tokenizer: Tokenizer, text: str, *, min_count: int | None = None, max_tokens: int | None = None
) -> tuple[Tokenizer, list[int], dict[str, Any]]:
    """A smaller tokenizer for texts like `text`.

    Args:
        tokenizer: BPE or unigram.
        text: what the model will read and write; special pieces in it count as such.
        min_count: pieces used less often go (1 when neither option is given).
        max_tokens: at most so many pieces in all; the most used stay.

    Returns:
        The new tokenizer, the old id of each new id (rising), and a report: pieces_before, pieces,
        required, used, text_tokens_before, text_tokens, covered (share of the text's tokens that stay).

    Raises:
        TokenizerError: a kind without pruning, bad counts, or a text that uses nothing.
    """
    if tokenizer.kind is TokKind.WORD:
        raise TokenizerError("a word vocabulary can not be pruned", "prune BPE and unigram tokenizers")
    if min_count is not None and max_tokens is not None:
        raise TokenizerError("min-count and max-tokens exclude each other", "give one of them")
    if (min_count is not None and min_count < 1) or (max_tokens is not None and max_tokens < 1):
        raise TokenizerError("a pruning count must be at least 1", "leave it out to keep every piece that is used")
    counts = Counter(encode(tokenizer, text))
    required = _required(tokenizer)
    if not set(counts) - required:
        raise TokenizerError("the text uses no piece that pruning could keep", "give a text like the model's own")
    keep = _choose(tokenizer, counts, required, min_count or 1, max_tokens)
    pruned = renumber(tokenizer, keep)
    total, after = sum(counts.values()), len(encode(pruned, text))
    report = {
        "pieces_before": tokenizer.vocab_size,
        "pieces": pruned.vocab_size,
        "required": len(required),
        "used": len(counts),
        "text_tokens_before": total,
        "text_tokens": after,
        "covered": sum(n for i, n in counts.items() if i in keep) / total,
    }
    return pruned, sorted(i for i in keep if i < tokenizer.vocab_size), report


def _required(tokenizer: Tokenizer) -> set[int]:
    """Ids that stay whatever the text is: specials, ends, bytes, else single characters."""
    out = {s.id for s in tokenizer.specials}
    out |= {i for i in (tokenizer.bos, tokenizer.eos, tokenizer.unk) if i is not None}
    if tokenizer.alphabet is not None:
        out |= {i for i in tokenizer.alphabet if i is not None and i < tokenizer.vocab_size}
    if not tokenizer.flags & (TokFlag.BYTES | TokFlag.BYTE_FALLBACK):
        texts = ((i, tokenizer.text_of(i)) for i in tokenizer.findable)
        out |= {i for i, text in texts if len(text.decode("utf-8", "replace")) == 1 and i < tokenizer.vocab_size}
    return out


def _parents(tokenizer: Tokenizer) -> dict[int, set[int]]:
    """For each symbol the symbols of all merges that make it."""
    out: dict[int, set[int]] = {}
    for merge in tokenizer.merges:
        out.setdefault(merge.result, set()).update((merge.left, merge.right))
    return out


def _closure(symbol: int, parents: dict[int, set[int]], done: set[int]) -> set[int]:
    """The symbol and its merge ancestors, without those in `done`."""
    out: set[int] = set()
    todo = [symbol]
    while todo:
        i = todo.pop()
        if i not in out and i not in done:
            out.add(i)
            todo += parents.get(i, ())
    return out


def _choose(
    tokenizer: Tokenizer, counts: Counter[int], required: set[int], min_count: int, max_tokens: int | None
) -> set[int]:
    """Symbols to keep: the required ones, then by falling count as many as there is room for."""
    parents = _parents(tokenizer)
    keep: set[int] = set()
    for i in required:
        keep |= _closure(i, parents, keep)
    n_kept = sum(i < tokenizer.vocab_size for i in keep)
    if max_tokens is not None and n_kept > max_tokens:
        raise TokenizerError(
            f"{max_tokens} pieces are fewer than the {n_kept} that must stay (bytes, specials)",
            f"give at least {n_kept + 1}",
        )
    for i, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if count < min_count:
            break
        more = _closure(i, parents, keep)
        n_more = sum(j < tokenizer.vocab_size for j in more)
        if max_tokens is None or n_kept + n_more <= max_tokens:
            keep |= more
            n_kept += n_more
    return keep


def renumber(tokenizer: Tokenizer, keep: set[int]) -> Tokenizer:
    """The tokenizer of the kept symbols, in their old order. `keep` must be closed under merges."""
    old = sorted(i for i in keep if i < tokenizer.vocab_size)
    extra = sorted(i for i in keep if i >= tokenizer.vocab_size)
    new = {i: n for n, i in enumerate([*old, *extra])}
    merges = [
        Merge(new[m.left], new[m.right], new[m.result], m.rank)
        for m in tokenizer.merges
        if m.left in new and m.right in new and m.result in new
    ]

    def moved(i: int | None) -> int | None:
        return None if i is None else new.get(i)

    return dataclasses.replace(
        tokenizer,
        pieces=[tokenizer.pieces[i] for i in old],
        symbols=[tokenizer.symbols[i - tokenizer.vocab_size] for i in extra],
        specials=[dataclasses.replace(s, id=new[s.id]) for s in tokenizer.specials],
        merges=merges,
        findable=[new[i] for i in tokenizer.findable if i in new],
        scores=[tokenizer.scores[i] for i in old] if tokenizer.scores else [],
        alphabet=None if tokenizer.alphabet is None else [moved(i) for i in tokenizer.alphabet],
        bos=moved(tokenizer.bos),
        eos=moved(tokenizer.eos),
        unk=moved(tokenizer.unk),
        reference=None,
    )
