"""Trains the two unigram fixtures of this folder with sentencepiece 0.2.

    python tests/py/data/tok/make.py ../shared/text/tinystories-sample.txt.xz

unigram192.model.xz: 192 pieces, nmt_nfkc. unigram-bytes.model: identity, byte fallback, 192 pieces and 256 bytes.
"""

from __future__ import annotations

import lzma
import sys
import tempfile
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent
MODELS = {
    "unigram192": {"vocab_size": 192, "normalization_rule_name": "nmt_nfkc"},
    "unigram-bytes": {"vocab_size": 448, "normalization_rule_name": "identity", "byte_fallback": True},
}


def main(source: str) -> None:
    lines = lzma.decompress(Path(source).read_bytes()).decode().replace("<|endoftext|>", "").split("\n")
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "train.txt"
        text.write_text("\n".join([line for line in lines if line.strip()][:6000]), "utf-8")
        for name, options in MODELS.items():
            sentencepiece.SentencePieceTrainer.train(
                input=str(text), model_prefix=f"{folder}/{name}", model_type="unigram", num_threads=1,
                minloglevel=2, **options,
            )  # fmt: skip
            data = (Path(folder) / f"{name}.model").read_bytes()
            if name == "unigram192":  # 240 KB of normaliser
                (HERE / f"{name}.model.xz").write_bytes(lzma.compress(data, preset=9))
            else:
                (HERE / f"{name}.model").write_bytes(data)


if __name__ == "__main__":
    main(sys.argv[1])
