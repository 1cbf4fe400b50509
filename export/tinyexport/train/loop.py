"""The training loop: seeded, resumable to the bit, and never worse off than its last good checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import replacing
from .curve import LossLog
from .data import IGNORED, Stream, batch_at, build_streams, source_texts, tokenizer_documents, valid_windows
from .models import build, config_of, logits_of, parameter_count, read_weights, write_checkpoint
from .qat import Rounding, is_position, rounding_of
from .recipe import OptimPart, Recipe, TrainError
from .tokenizer import Tokenizer, from_bytes, make_tokenizer, special_facts

_EVAL_LOGITS = 1 << 22  # logits computed at a time while evaluating: 16 MiB stay near the caches
STATE_FILE = "resume.state"
Progress = Callable[[int, float, float | None], None]  # step, training loss, validation loss


@dataclass
class Result:
    """What a run achieved. Losses are nats per token; `valid_loss` is over the whole validation text."""

    folder: Path
    parameters: int
    steps: int
    train_loss: float
    valid_loss: float | None
    valid_tokens: int


def learning_rate(optim: OptimPart, step: int) -> float:
    """Rate of step 0..steps-1: linear warm-up, then half a cosine down to min_lr."""
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    done = (step - optim.warmup) / max(1, optim.steps - optim.warmup)
    return optim.min_lr + 0.5 * (optim.lr - optim.min_lr) * (1 + math.cos(math.pi * done))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as aside:
        aside.write_text(text, "utf-8")


def _loss(model: Any, rounding: Rounding | None, inputs: Any, targets: Any) -> Any:
    """Mean cross-entropy over the targets that are learned; 0 when a batch holds prompts alone."""
    import torch
    from torch.nn.functional import cross_entropy

    if rounding is None:
        logits = logits_of(model(inputs))
    else:
        logits = logits_of(torch.func.functional_call(model, rounding(dict(model.named_parameters())), (inputs,)))
    if bool((targets == IGNORED).all()):
        return 0 * logits.sum()  # the mean over nothing would be taken for a diverged run
    return cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED)


class Trainer:
    """One run in one folder. `train()` goes from wherever the folder's state is to the last step."""

    def __init__(self, recipe: Recipe, out: Path, resume: bool = False) -> None:
        """Load texts, tokenizer and model; with `resume` also the state that an earlier run left in `out`.

        Raises:
            TrainError: a text or file is missing, nothing to resume, or the state belongs to another recipe.
        """
        import torch

        self.recipe, self.out = recipe, out
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        state = self._read_state() if resume else None
        texts = source_texts(recipe)
        self.tok = self._tokenizer(texts, resume)
        self.streams: list[Stream] = build_streams(recipe, texts, self.tok)
        self.valid = valid_windows(recipe, self.tok)
        torch.manual_seed(recipe.optim.seed)
        self.model = build(recipe, self.tok).to(self.device)
        self.rounding = rounding_of(recipe)
        if recipe.init and state is None:
            self._load_init()
        self.optimizer = self._make_optimizer()
        self.step = 0
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = int(state["step"])
        self.last_saved = self.step
        self.log = LossLog(out / "loss.csv", keep_until=self.step)

    def _fingerprint(self) -> str:
        """What must not change between a run and its continuation, so that both give the same weights."""
        facts = asdict(self.recipe)
        for key in ("folder", "card", "output", "name"):
            facts.pop(key)
        for key in ("eval_every", "save_every", "stop"):
            facts["optim"].pop(key)
        return json.dumps(facts, sort_keys=True)

    def _read_state(self) -> dict[str, Any]:
        import torch

        path = self.out / STATE_FILE
        if not path.is_file():
            raise TrainError(f"there is nothing to resume in {self.out}", "train without --resume first")
        try:
            state = dict(torch.load(path, weights_only=True, map_location="cpu"))
        except Exception as err:  # torch raises many kinds for a damaged file
            raise TrainError(f"{path} is damaged: {err}", "train again without --resume") from err
        if state.get("recipe") != self._fingerprint():
            raise TrainError(f"{path} belongs to a run with another recipe", "resume with the recipe it began with")
        return state

    def _tokenizer(self, texts: list[str], resume: bool) -> Tokenizer:
        for name in ("tokenizer.json", "tokenizer.model"):
            for folder in [self.out] if resume else [self.recipe.path(self.recipe.init)] if self.recipe.init else []:
                if (folder / name).is_file():
                    return from_bytes((folder / name).read_bytes(), name, self.recipe.tokenizer)
        return make_tokenizer(self.recipe, tokenizer_documents(self.recipe, texts))

    def _load_init(self) -> None:
        folder = self.recipe.path(self.recipe.init)
        try:
            weights = read_weights(folder)
        except Exception as err:  # a missing, damaged or foreign file; each library has its own kind
            raise TrainError(
                f"init {folder} can not be read: {err}", "init names the folder of a finished run"
            ) from err
        for name, p in self.model.named_parameters():
            found = weights.get(name)
            if found is not None and is_position(name):
                found = found[: len(p)]  # a base for longer contexts
            if found is None or found.shape != p.shape:
                raise TrainError(f"init {folder} does not fit this model: {name}", "[model] must equal that run's")
            p.data.copy_(found.to(p.dtype))

    def _make_optimizer(self) -> Any:
        """AdamW; matrices decay, norms and biases do not."""
        import torch

        optim = self.recipe.optim
        params = list(self.model.parameters())
        groups = [
            {"params": [p for p in params if p.dim() >= 2], "weight_decay": optim.weight_decay},
            {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=optim.lr, betas=(optim.betas[0], optim.betas[1]), fused=True)

    def _one_step(self) -> float:
        """One optimizer step; TrainError before anything is changed when loss or gradient is not finite."""
        import torch

        optim = self.recipe.optim
        batch = batch_at(self.streams, self.recipe.model.context, optim.batch, optim.seed, self.step)
        inputs, targets = (t.to(self.device) for t in batch)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = _loss(self.model, self.rounding, inputs, targets)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), optim.clip or math.inf)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise TrainError(f"the loss is {loss.item()} at step {self.step + 1}", self._advice())
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(optim, self.step)
        self.optimizer.step()
        self.step += 1
        return float(loss.item())

    def _advice(self) -> str:
        kept = self.out / STATE_FILE
        where = f"the last good checkpoint is kept in {self.out}; " if kept.is_file() else "nothing was saved yet; "
        return where + "lower optim.lr, or lengthen optim.warmup"

    def evaluate(self, windows: int | None = None) -> float | None:
        """Mean nats per token over the validation windows (first token of each not scored); None without text."""
        import torch

        chosen = self.valid[:windows]
        if not len(chosen):
            return None
        self.model.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for part in np.array_split(chosen, math.ceil(chosen.size * self.tok.vocab / _EVAL_LOGITS)):
                ids = torch.from_numpy(part).to(self.device)
                total += float(_loss(self.model, self.rounding, ids[:, :-1], ids[:, 1:])) * part[:, 1:].size
                count += part[:, 1:].size
        return total / count

    def save(self) -> None:
        """Write checkpoint, config, tokenizer, card and curve, then the state to resume from.

        Raises:
            TrainError: a weight is not finite; nothing is overwritten then.
        """
        import torch

        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise TrainError(f"a weight is not finite after step {self.step}", self._advice())
        self.out.mkdir(parents=True, exist_ok=True)
        recipe, config = self.recipe, config_of(self.recipe, self.tok)
        weights = self.out / ("model.safetensors" if recipe.output.format == "safetensors" else "model.pt")
        with replacing(weights) as aside:
            write_checkpoint(recipe, self.model, config, aside)
        _write_json(self.out / "config.json", config)
        with replacing(self.out / self.tok.file) as aside:
            aside.write_bytes(self.tok.data)
        if recipe.family in ("llama", "gpt_neo"):
            start = {"bos_token_id": self.tok.bos} if self.tok.bos >= 0 else {}
            _write_json(self.out / "generation_config.json", {**start, "eos_token_id": self.tok.eos})
        if self.tok.file.endswith(".json"):
            facts = special_facts(self.tok, recipe.tokenizer, recipe.model.context)
            _write_json(self.out / "tokenizer_config.json", facts)
        if recipe.card:
            _write_json(self.out / "tinyexport.json", {"name": recipe.name, **recipe.card})
        self.log.draw(self.out / "loss.svg", recipe.name)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "recipe": self._fingerprint(),
        }
        with replacing(self.out / STATE_FILE) as aside:
            torch.save(state, aside)
        self.last_saved = self.step

    def train(self, progress: Progress | None = None, until: int | None = None) -> Result:
        """Train up to `until` (default: the last step), saving on the way and at the end.

        Raises:
            TrainError: the loss or a weight is not finite; what was saved before stays.
        """
        optim = self.recipe.optim
        end = optim.stop or optim.steps
        last = min(until or end, end)
        loss, recent = math.nan, []
        while self.step < last:
            loss = self._one_step()
            recent.append(loss)
            valid = None
            if self.step % optim.eval_every == 0 or self.step == last:
                self.out.mkdir(parents=True, exist_ok=True)
                valid = self.evaluate(self.recipe.data.valid_windows)
                tokens = self.step * optim.batch * self.recipe.model.context
                rate = learning_rate(optim, self.step - 1)
                self.log.add(self.step, sum(recent) / len(recent), valid, rate, tokens)
                recent = []
            if progress:
                progress(self.step, loss, valid)
            if self.step % optim.save_every == 0 or self.step == last:
                self.save()
        measured = self.valid[:, 1:].size
        return Result(self.out, parameter_count(self.model), self.step, loss, self.evaluate(), measured)
