"""tok512.bin and tokenizer.bin of llama2.c: SentencePiece BPE, pieces and scores alone.

llama2.c puts one space before a text, trims nothing, and falls back to bytes at id + 3.
"""

from __future__ import annotations

import struct

from ..blob.schema_tok import TokFlag, TokPrefix
from ..errors import TokenizerError
from . import spm
from .model import MARK, Tokenizer, byte_piece

HINT = "give the tokenizer.bin that was exported together with the checkpoint"


def read(data: bytes) -> list[spm.Piece]:
    """Pieces of the file; TokenizerError when its lengths lie."""
    pieces: list[spm.Piece] = []
    at = 4
    while at < len(data):
        if at + 8 > len(data):
            raise TokenizerError("the llama2.c tokenizer is cut off", HINT)
        score, size = struct.unpack_from("<fi", data, at)
        at += 8
        if size < 0 or at + size > len(data) or score != score:
            raise TokenizerError(f"piece {len(pieces)} of the llama2.c tokenizer is damaged", HINT)
        try:
            text = data[at : at + size].decode("utf-8")
        except UnicodeDecodeError:
            raise TokenizerError(f"piece {len(pieces)} of the llama2.c tokenizer is not UTF-8", HINT) from None
        pieces.append(spm.Piece(text.replace(" ", MARK), score, spm.NORMAL))
        at += size
    return pieces


def load(data: bytes) -> Tokenizer:
    """A tokenizer from the bytes of the file."""
    pieces = read(data)
    byte_at = [i for i, p in enumerate(pieces) if byte_piece(p.text) == i - 3]
    if len(pieces) < 3 + 256 or len(byte_at) != 256:
        raise TokenizerError("the llama2.c tokenizer lacks its 3 control and 256 byte pieces", HINT)
    kinds = [spm.UNKNOWN, spm.CONTROL, spm.CONTROL, *[spm.BYTE] * 256]
    names = ["<unk>", "<s>", "</s>"]
    typed = [
        spm.Piece(names[i] if i < 3 else p.text, p.score, kinds[i] if i < len(kinds) else spm.NORMAL)
        for i, p in enumerate(pieces)
    ]
    out = spm.from_pieces(typed, 2, b"<unk>")
    out.prefix = TokPrefix.ALWAYS
    out.flags |= TokFlag.STRIP_FIRST
    out.bos, out.eos, out.add_bos = 1, 2, True
    return out
