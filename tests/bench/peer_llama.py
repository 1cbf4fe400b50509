"""llama.cpp as a process that answers requests; run by tests/bench/peers.py with the Python of its own venv.

    python peer_llama.py MODEL.gguf

For each line {"setting": [flash, kv, repack], "prompt": n, "decode": n} on standard input: a line with the seconds of
the prompt, in one batch, and of the decode steps. Only llama_decode and the wait for its logits are timed, through the
C interface: no sampling, and no Python but the call itself.
"""

from __future__ import annotations

import ctypes
import json
import sys
from time import perf_counter

from llama_cpp import llama_cpp as c

KV = {"f32": 0, "f16": 1, "q8_0": 8}  # ggml_type
CONTEXT = 512


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _quiet(_level: int, _text: bytes, _data: object) -> None:
    pass


class Engine:
    """A model with a context for each setting that was asked for."""

    def __init__(self, path: str) -> None:
        """Nothing is loaded before the first request."""
        self.path = path
        self.models: dict[bool, object] = {}
        self.contexts: dict[tuple[bool, str, bool], object] = {}
        self.batch = c.llama_batch_init(CONTEXT, 0, 1)

    def context(self, flash: bool, kv: str, repack: bool) -> object:
        """One thread, one batch for any prompt."""
        key = (flash, kv, repack)
        if key not in self.contexts:
            if repack not in self.models:
                params = c.llama_model_default_params()
                params.use_extra_bufts = repack
                self.models[repack] = c.llama_model_load_from_file(self.path.encode(), params)
            params = c.llama_context_default_params()
            params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT
            params.n_threads = params.n_threads_batch = 1
            params.flash_attn_type = int(flash)
            params.type_k = params.type_v = KV[kv]
            self.contexts[key] = c.llama_init_from_model(self.models[repack], params)
        return self.contexts[key]

    def eval(self, context: object, tokens: list[int], at: int) -> float:
        """Seconds of one llama_decode."""
        self.batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            self.batch.token[i] = token
            self.batch.pos[i] = at + i
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = 0
            self.batch.logits[i] = i == len(tokens) - 1
        start = perf_counter()
        code = c.llama_decode(context, self.batch)
        c.llama_synchronize(context)
        seconds = perf_counter() - start
        if code != 0:
            sys.exit(f"llama_decode: {code}")
        return seconds

    def run(self, setting: list, prompt: int, decode: int) -> tuple[float, float]:
        """Seconds of the prompt and of the steps after it."""
        context = self.context(*setting)
        c.llama_memory_clear(c.llama_get_memory(context), True)
        model = self.models[setting[2]]
        vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
        ids = [(i * 7919 + 11) % vocab for i in range(prompt + decode)]
        first = self.eval(context, ids[:prompt], 0)
        return first, sum(self.eval(context, [ids[at]], at) for at in range(prompt, prompt + decode))


def main() -> None:
    """Answers until standard input ends."""
    c.llama_log_set(_quiet, ctypes.c_void_p())
    c.llama_backend_init()
    engine = Engine(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(engine.run(request["setting"], request["prompt"], request["decode"])), flush=True)


if __name__ == "__main__":
    main()
