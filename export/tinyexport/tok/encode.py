"""Encoding by the C runtime itself: a packed tokenizer in the smallest blob that opens."""

from __future__ import annotations

import numpy as np

from .. import quant
from ..blob import writer
from ..blob.content import BlobContent
from ..blob.schema import Act, FfnKind, NormKind, PosKind
from ..spec import LayerSpec, ModelSpec, tensor_names
from .model import Tokenizer


def blob(tokenizer: Tokenizer) -> bytes:
    """A blob with this tokenizer and a model of width 1 that is never evaluated."""
    spec = ModelSpec(
        dim=1, n_heads=1, head_dim=1, vocab=tokenizer.vocab_size, context=1, layers=(LayerSpec(1, 1, FfnKind.PLAIN),),
        norm_kind=NormKind.RMS, norm_eps=1.0, pos_kind=PosKind.NONE, act=Act.RELU, attn_scale=1.0,
    )  # fmt: skip
    tensors = {
        name: quant.quantise(
            "f16" if len(shape) > 1 else "f32", np.zeros((shape if len(shape) > 1 else (1, *shape)), np.float32)
        )
        for name, shape in tensor_names(spec)
    }
    return writer.build(BlobContent(spec, tensors, tokenizer.pack()))


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text, its special pieces included; RuntimeFault when the library is not built."""
    from ..runtime import Model

    return Model(blob(tokenizer)).encode(text, special=True)
